"""Carrying snapshots out of the service and in again, as bundles (`service/bundling.py`).

Out: a job writes the bundle into the database, where the api finds it, signs it and sends it. What was forgotten or is in quarantine
does not leave: a snapshot that holds it is refused, and the ledger's rows lose their words.

In: only into the bank that it came from, whose ledger has to be the one that the bundle was made of. So an imported snapshot is what
every other is, weights folded from events of this ledger, and all that is promised about those holds for it: it can be asked, compared,
rolled back to, and what it holds can be forgotten. The head never moves, and no cold start begins there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from model import CheckpointRefused, State, checkpoint
from model.start.weights import told_apart
from service import wire
from service.bundling import (
    BLOCK,
    BUNDLE_MAX,
    END,
    LEDGER,
    LEVEL,
    MANIFEST,
    PROBES,
    Bundle,
    Manifest,
    Probe,
    levels_of,
    member_of,
    opened,
    packed,
)
from service.cluster.engine import Actor
from service.errors import BundleRefused, StateUnavailable, TaintedSnapshot, TooLarge
from service.store import audit, banks, bundles, history, present, quarantines, snapshots
from service.store.lineage import Spans, holds, subtract
from service.store.rows import EventRow, SnapshotRow
from workers.comparing import Comparing
from workers.encoding import text_of
from workers.replay import Lineage, Replay, lineage
from workers.versions import Label, Taken, Versions, refuse_tainted
from workers.view import View
from workers.warm_bank import WarmBank

ASKED = 256  # newest corrections in a snapshot that a bundle tells the answers to
PAGE = 500  # rows of the ledger read at once
CHAINED = ("seq", "id", "kind", "epoch", "response", "tokens", "content_hash", "prev_hash", "hash", "created_at")  # kept of a forgotten row
_lines = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Carrying:
    """Makes bundles and takes them in."""

    replay: Replay
    comparing: Comparing
    versions: Versions

    async def export(self, tenant: str, bank_id: str, snapshot_id: str, export_id: str, *, ledger: bool) -> dict[str, Any]:
        """Make a bundle of the snapshot. Done twice it is one.

        Raises:
            NotFound: the bank does not keep such a snapshot. TaintedSnapshot: it holds something forgotten or quarantined.
            TooLarge: the bundle would be. StateUnavailable: something was forgotten or quarantined meanwhile; try again.
        """
        found = await lineage(self.replay.database, tenant, bank_id)
        async with self.replay.database.read(tenant) as conn:
            snapshot = await snapshots.get_kept(conn, tenant, snapshot_id, bank_id)
            chain = await history.chain_at(conn, tenant, bank_id, snapshot.seq)
        _refuse_hidden(snapshot, found)
        view = await self.replay.at(tenant, found, snapshot)
        blobs = await self.versions.heavy.run(checkpoint.encode, view.state)
        members = {LEVEL.format(name): data for name, data in sorted(blobs.items())}
        members[PROBES] = _lines.encode_lines(await self._answers(tenant, found, view))
        inside: Spans = snapshot.spans
        if ledger:
            inside = subtract(((0, snapshot.seq),), (row.seq for row in found.hidden))
            members[LEDGER] = await self._rows(tenant, bank_id, snapshot.seq, inside)
        manifest = _manifest(found, snapshot, chain or "", members, self.versions)
        data = packed({MANIFEST: manifest, **members}) + END
        if len(data) > BUNDLE_MAX - 2 * BLOCK:
            raise TooLarge(f"the bundle has {len(data):,} bytes, more than {BUNDLE_MAX:,}; export without the ledger")
        async with self.replay.database.write(tenant) as conn:
            await banks.lock(conn, tenant, bank_id)  # a forget comes before, and is seen, or finds the bundle
            hidden = await quarantines.hidden(conn, tenant, bank_id)
            if any(holds(inside, row.seq) for row in hidden):
                raise StateUnavailable("something in it was forgotten or quarantined meanwhile", retry_after_s=1)
            await bundles.drop(conn, tenant, [export_id])
            made: dict[str, Any] = {"id": export_id, "spans": inside, "manifest": manifest, "data": data, "now": self.versions.now()}
            await bundles.add(conn, tenant, bank_id, **made)
        return {"export": export_id, "snapshot": snapshot.id, "bytes": len(data), "manifest_sha256": checkpoint.sha256(manifest)}

    async def take_in(self, tenant: str, bank_id: str, bundle_id: str, actor: Actor) -> wire.Imported:
        """Make a snapshot of a bundle that the api has put into the database, and ask it what the bundle tells the answers to.

        Raises:
            BundleRefused: it does not belong here. TaintedSnapshot: it holds something forgotten. Nothing was changed.
        """
        bundle = opened(await self._data(tenant, bundle_id), None)
        found = await lineage(self.replay.database, tenant, bank_id)
        await self._refuse_foreign(tenant, found, bundle.manifest)
        state = await self.versions.heavy.run(self._decoded, bundle)
        probes = _probes(bundle)
        manifest = bundle.manifest
        taken = Taken(bank_id, found.head.id, manifest.seq, manifest.spans, state, 0, manifest.held)

        async def note(conn: Any) -> None:  # noqa: ANN401
            detail = {"from": manifest.snapshot, "seq": manifest.seq, "digest": manifest.digest}
            who: dict[str, Any] = {"actor": actor.key_id, "request_id": actor.request_id, "now": self.versions.now()}
            await audit.record(conn, tenant, action="import", target=bank_id, detail=detail, **who)

        with self.replay.stage("snapshot"):
            row = await self.versions.save(tenant, taken, "import", Label(actor.key_id, note=f"import of {manifest.snapshot}"), note=note)
        asked, agreeing = await self._agreeing(tenant, found, row, probes)
        return wire.Imported(snapshot=present.snapshot(row, found.head.id, []), probes=asked, agreeing=agreeing)

    async def _answers(self, tenant: str, found: Lineage, view: View) -> list[Probe]:
        rows = await self.comparing.probes(tenant, found.bank.id, view.taught, view.gone, ASKED)
        said = await self.comparing.said(tenant, _nobodys(found, view), view, [text_of(row) for row in rows])
        return [
            Probe(correction=row.id, input=row.input or "", value=each.value, confidence=each.confidence)
            for row, each in zip(rows, said, strict=True)
        ]

    async def _rows(self, tenant: str, bank_id: str, upto: int, inside: Spans) -> bytes:
        lines, after = [], 0
        while after < upto:
            async with self.replay.database.read(tenant) as conn:
                rows = await history.page(conn, tenant, bank_id, after, min(PAGE, upto - after), turns=True)
            lines.append(_lines.encode_lines([_line(row, whole=holds(inside, row.seq)) for row in rows]))
            after = rows[-1].seq
        return b"".join(lines)

    async def _data(self, tenant: str, bundle_id: str) -> bytes:
        parts: list[bytes] = []
        while True:
            async with self.replay.database.read(tenant) as conn:
                part = await bundles.part(conn, tenant, bundle_id, len(parts))
            if part is None:
                return b"".join(parts)
            parts.append(part)

    async def _refuse_foreign(self, tenant: str, found: Lineage, manifest: Manifest) -> None:
        config, bank = self.replay.recall.config, found.bank
        if manifest.bank != bank.id:
            raise BundleRefused(f"the bundle is of bank {manifest.bank}; it can be imported there and nowhere else")
        if manifest.encoder_digest != config.encoder_digest:
            raise BundleRefused(f"the bundle is of {told_apart(manifest.encoder_digest, config.encoder_digest)}")
        if manifest.config_hash != config.hash:
            raise BundleRefused(f"the bundle has configuration {manifest.config_hash[:12]}, this service runs {config.hash[:12]}")
        async with self.replay.database.read(tenant) as conn:
            chain = await history.chain_at(conn, tenant, bank.id, manifest.seq) if manifest.seq <= bank.seq else None
        if chain != manifest.chain:
            raise BundleRefused(f"the ledger that the bundle was made of is not this bank's: they differ at seq {manifest.seq} or before")
        held = [row.event_id for row in found.tombstones if row.exact and holds(manifest.spans, row.seq)]
        if held:
            raise TaintedSnapshot(f"the bundle holds the forgotten {', '.join(held[:5])}, which does not come back")

    def _decoded(self, bundle: Bundle) -> State:
        manifest = bundle.manifest
        try:
            state = checkpoint.decode(self.replay.recall.config, levels_of(bundle), watermark=manifest.seq)
        except CheckpointRefused as refused:
            raise BundleRefused(f"the weights cannot be read: {refused}") from None
        if state.digest() != manifest.digest or state.clock.as_dict() != manifest.clock:
            raise BundleRefused("the weights are not those of the manifest")
        return state

    async def _agreeing(self, tenant: str, found: Lineage, row: SnapshotRow, probes: Sequence[Probe]) -> tuple[int, int]:
        view = await self.replay.at(tenant, found, row)
        expected = {probe.correction: probe.value for probe in probes}
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_ids(conn, tenant, found.bank.id, list(expected))
        asked = [each for each in rows if each.embedding is not None and each.seq not in view.gone]
        said = await self.comparing.said(tenant, _nobodys(found, view), view, [text_of(each) for each in asked])
        agreeing = sum(expected[each.id] == answer.value for each, answer in zip(asked, said, strict=True))
        return len(asked), agreeing


def _refuse_hidden(snapshot: SnapshotRow, found: Lineage) -> None:
    refuse_tainted(snapshot, list(found.tombstones))
    held = [row.event_id for row in found.quarantined if holds(snapshot.spans, row.seq)]
    if held:
        raise TaintedSnapshot(
            f"snapshot {snapshot.id} holds {', '.join(held[:5])}, which is in quarantine: export a snapshot of after that, or lift it first"
        )
    hidden = [row.event_id for row in found.tombstones if holds(snapshot.spans, row.seq)]
    if hidden:
        raise TaintedSnapshot(
            f"snapshot {snapshot.id} holds the suppressed {', '.join(hidden[:5])}: consolidate the bank and export a snapshot of after that"
        )


def _manifest(found: Lineage, snapshot: SnapshotRow, chain: str, members: dict[str, bytes], versions: Versions) -> bytes:
    return msgspec.json.encode(
        Manifest(
            bank=found.bank.id,
            snapshot=snapshot.id,
            seq=snapshot.seq,
            spans=snapshot.spans,
            held=snapshot.held,
            digest=snapshot.digest,
            config_hash=snapshot.config_hash,
            encoder_digest=found.bank.encoder_digest,
            chain=chain,
            clock=snapshot.clock,
            members={name: member_of(data) for name, data in members.items()},
            made_at=versions.now(),
        )
    )


def _line(row: EventRow, *, whole: bool) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(row)
    del told["bank"]
    return told if whole else {name: told[name] for name in CHAINED}


def _probes(bundle: Bundle) -> list[Probe]:
    try:
        return msgspec.json.Decoder(Probe).decode_lines(bundle.members[PROBES])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BundleRefused(f"{PROBES} cannot be read: {error}") from None


def _nobodys(found: Lineage, view: View) -> WarmBank:
    """The view as a bank in memory that nobody else finds: for its caches."""
    return WarmBank(found.bank, found.bank.head_version, view, view.seq, view.snapshot_id)

"""Rollback: the head moves to another state of the bank, with a preview, and nothing is lost on the way.

The state before the move is saved first (`pre_rollback`), so that a rollback to it undoes the rollback bit for bit. What was learned
since stays in the ledger, outside the new head's spans. The warm copy follows before the call returns (I4).

Where it leads is told by `workers/aiming.py`. The weights of a snapshot are taken as they were saved; of anything else they are folded,
beside the requests as far as the ledger goes then, and under the bank's lock what came meanwhile. Preview and rollback are one way until
the head moves, so what is previewed is what happens.

What would take a request longer than a request may take is folded by a job first (`workers/preparing.py`), which saves it as a snapshot to
fold from. Nothing has changed then: the same request is made again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from service import wire
from service.errors import Conflict, HeadMoved, NotOwner, WriterBusy
from service.store import audit, idempotency, snapshots
from service.store.lineage import count, normal, restrict, subtract, without
from service.store.rows import HeadMove, SnapshotRow
from workers.aiming import Aim, aim
from workers.comparing import Comparing
from workers.old_views import OldViews
from workers.preparing import Preparing
from workers.replay import Lineage, Replay, lineage
from workers.versions import Label, LanguagePart, Taken, Versions
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

Part = Callable[[str, str, int], Awaitable[LanguagePart | None]]  # a bank's language model at a position, where it is in memory


@dataclass(frozen=True, slots=True)
class RollBack:
    """Previews and performs rollbacks."""

    replay: Replay
    warm: WarmBanks
    comparing: Comparing
    versions: Versions
    old: OldViews
    part: Part

    async def preview(
        self, tenant: str, bank_id: str, request: wire.RollbackRequest, *, if_match: str | None, key_id: str
    ) -> wire.RolledBack:
        """What `run` would do. Asked beside the requests, of states that nobody changes. The caller must not hold the bank's lock.

        Raises:
            As `run`.
        """
        beside = await self._beside(tenant, bank_id, request, if_match, key_id)
        if isinstance(beside, str):
            return await self._prepared_first(tenant, bank_id, beside, dry_run=True)
        async with self.warm.lock(bank_id):
            warm = await self.warm.current(tenant, bank_id)
            found = await lineage(self.replay.database, tenant, bank_id)
            _refuse_moved(found, if_match)
            aimed = await aim(self.replay.database, tenant, found, request)
            saved = aimed.snapshot
            view = await (self._view(tenant, found, aimed, beside) if saved is None else self.old.locked(tenant, warm, saved.id))
            now = await self.versions.thread.run(warm.view.frozen)
        before = wire.StateRef(snapshot_id=found.head.id, seq=now.seq)
        return await self._told(tenant, found, warm, now, view, before, request.probes)

    async def run(
        self,
        tenant: str,
        bank_id: str,
        request: wire.RollbackRequest,
        *,
        if_match: str | None,
        key_id: str,
        request_id: str,
        idempotency_key: str | None,
    ) -> wire.RolledBack:
        """Perform. The caller must not hold the bank's lock. The key is tied to the head's new version as it moves.

        Of a reply with `job_id` nothing was done: a job folds the state first.

        Raises:
            NotFound, Invalid, Conflict, TaintedSnapshot: as `aim`; also where the snapshot is deleted meanwhile. Nothing was changed.
            HeadMoved: `if_match` names another head; nothing was changed.
            ChecksumMismatch: the snapshot's bytes do not have their digest; nothing was changed.
        """
        beside = await self._beside(tenant, bank_id, request, if_match, key_id)
        if isinstance(beside, str):
            return await self._prepared_first(tenant, bank_id, beside, dry_run=False)
        async with self.warm.lock(bank_id):
            warm = await self.warm.current(tenant, bank_id)
            found = await lineage(self.replay.database, tenant, bank_id)
            _refuse_moved(found, if_match)
            aimed = await aim(self.replay.database, tenant, found, request)
            view = await self._view(tenant, found, aimed, beside)
            before = wire.StateRef(snapshot_id=found.head.id, seq=warm.view.seq)
            told = await self._told(tenant, found, warm, warm.view, view, before, request.probes)
            try:
                saved, head = await self._move(tenant, found, warm, aimed, view, request.reason, key_id, request_id, idempotency_key)
            except BaseException as error:
                self.warm.drop(bank_id)  # the head may have moved although nobody can say so
                if isinstance(error, NotOwner):
                    raise WriterBusy(retry_after_s=1) from None
                raise
            view.snapshot_id, view.seq = head.id, head.seq
            after = WarmBank(warm.row, warm.head_version + 1, view, head.seq, head.id, warm.texts, tail=warm.tail)
            self.warm.housing.replace(after)
            return _done(told, saved, head)

    async def again(self, tenant: str, bank_id: str, version: int, probes: int) -> wire.RolledBack:
        """What was replied to the rollback that made the head's `version`. The caller must not hold the bank's lock.

        Raises:
            Conflict: what the reply may quote was forgotten since.
        """
        async with self.warm.lock(bank_id):
            warm = await self.warm.current(tenant, bank_id)
            found = await lineage(self.replay.database, tenant, bank_id)
            async with self.replay.database.read(tenant) as conn:
                name = next(row.snapshot for row in await snapshots.heads(conn, tenant, bank_id) if row.version == version)
                head = await snapshots.get_snapshot(conn, tenant, name, bank_id)
                before = await snapshots.get_snapshot(conn, tenant, head.parent or "", bank_id)
            if head.destroyed_at is not None or before.destroyed_at is not None:
                raise Conflict("this rollback was done; its reply is not given again because what it may quote was forgotten or deleted")
            old, new = [await self.replay.at(tenant, found, snapshot) for snapshot in (before, head)]
            told = await self._told(tenant, found, warm, old, new, wire.StateRef(snapshot_id=head.id, seq=head.seq), probes)
            return _done(told, before, head)

    async def _beside(
        self, tenant: str, bank_id: str, request: wire.RollbackRequest, if_match: str | None, key_id: str
    ) -> View | str | None:
        """The state as far as the ledger goes now, folded beside the requests; None where a snapshot has it.

        Where that would take too long for a request: the id of the job that folds it first.
        """
        found = await lineage(self.replay.database, tenant, bank_id)
        _refuse_moved(found, if_match)
        aimed = await aim(self.replay.database, tenant, found, request)
        if aimed.snapshot is not None:
            return None
        wanted = replace(found, wanted=aimed.spans, held=aimed.held, bases=aimed.bases)
        job = await Preparing(self.replay, self.versions).begin(tenant, wanted, aimed, request, key_id)
        if job is not None:
            return job
        view, _ = await self.replay.current(tenant, wanted, thread=self.versions.heavy)
        return view

    async def _prepared_first(self, tenant: str, bank_id: str, job: str, *, dry_run: bool) -> wire.RolledBack:
        found = await lineage(self.replay.database, tenant, bank_id)
        return wire.RolledBack(
            head=None,
            pre_rollback=None,
            flips=[],
            probes=0,
            removed=0,
            restored=0,
            dry_run=dry_run,
            state=wire.StateRef(snapshot_id=found.head.id, seq=found.bank.seq),
            job_id=job,
        )

    async def _view(self, tenant: str, found: Lineage, aimed: Aim, beside: View | None) -> View:
        if aimed.snapshot is not None:
            view = await self.replay.at(tenant, found, aimed.snapshot)
            view.held = aimed.held
            return view
        wanted = replace(found, wanted=aimed.spans, held=aimed.held, bases=aimed.bases)
        if beside is None or restrict(aimed.spans, beside.seq) != beside.weights:  # it aims elsewhere by now
            view, _ = await self.replay.current(tenant, wanted, thread=self.versions.heavy)
            return view
        await self.replay.fold(tenant, wanted, beside, thread=self.versions.heavy)
        await self.replay.admit(tenant, found.bank.id, beside)
        return beside

    async def _told(
        self, tenant: str, found: Lineage, warm: WarmBank, old: View, new: View, state: wire.StateRef, probes: int
    ) -> wire.RolledBack:
        """The reply of a dry run."""
        whole = subtract(((0, found.bank.seq),), found.turns)
        removed, restored = without(old.taught, new.taught), without(new.taught, old.taught)
        sample = await self.comparing.sample(tenant, found.bank.id, whole, normal((*removed, *restored)), new.gone, probes)
        return wire.RolledBack(
            head=None,
            pre_rollback=None,
            flips=await self.comparing.flips(tenant, warm, old, new, sample.rows),
            probes=len(sample.rows),
            probes_of=sample.of,
            removed=count(removed),
            restored=count(restored),
            dry_run=True,
            state=state,
        )

    async def _move(
        self,
        tenant: str,
        found: Lineage,
        warm: WarmBank,
        aimed: Aim,
        view: View,
        reason: str | None,
        key_id: str,
        request_id: str,
        idempotency_key: str | None,
    ) -> tuple[SnapshotRow, SnapshotRow]:
        bank_id = found.bank.id
        with self.replay.stage("snapshot"):
            taken = await self.versions.take(warm, warm.view)
            taken = replace(taken, language=await self.part(tenant, bank_id, taken.seq))
            before = await self.versions.save(tenant, taken, "pre_rollback", Label(key_id))
        move = HeadMove(expected_version=warm.head_version, moved_by=key_id, reason=reason or f"rollback to {aimed.name}")
        after = aimed.snapshot.digest if aimed.snapshot is not None else await self.versions.heavy.run(view.state.digest)
        detail = {"to": aimed.name, "before": before.digest, "after": after, "pre_rollback": before.id}

        async def note(conn: Any) -> None:  # noqa: ANN401
            now = self.versions.now()
            if idempotency_key is not None:
                version = move.expected_version + 1
                await idempotency.mark_committed(conn, tenant, idempotency_key, bank=bank_id, first_seq=version, last_seq=version)
            await self.versions.owe(conn, tenant, bank_id, view.state, warm.view.seq)
            await audit.record(conn, tenant, actor=key_id, request_id=request_id, action="rollback", target=bank_id, detail=detail, now=now)

        label, epoch = Label(key_id, note=reason), warm.row.epoch
        if aimed.snapshot is None:
            taken = replace(Taken.of(bank_id, view), parent=before.id, seq=warm.view.seq, sleeps=aimed.sleeps)
            with self.replay.stage("snapshot"):
                return before, await self.versions.save(tenant, taken, "rollback", label, move, note=note, epoch=epoch)
        head = await self.versions.copy(
            tenant,
            bank_id,
            aimed.snapshot,
            held=aimed.held,
            seq=warm.view.seq,
            parent=before.id,
            label=label,
            move_head=move,
            note=note,
            epoch=epoch,
        )
        return before, head


def _refuse_moved(found: Lineage, if_match: str | None) -> None:
    if if_match is not None and if_match.strip('"') not in ("*", found.head.id):
        raise HeadMoved(f"the head is {found.head.id}, not {if_match}")


def _done(told: wire.RolledBack, before: SnapshotRow, head: SnapshotRow) -> wire.RolledBack:
    state = wire.StateRef(snapshot_id=head.id, seq=head.seq)
    return structs.replace(told, head=head.id, pre_rollback=before.id, dry_run=False, state=state)

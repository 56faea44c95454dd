"""The engine port's versions, put together: snapshots compared, verified, deleted and brought in, branches, and moves of the head."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service import wire
from service.cluster.engine import Actor
from service.store import audit, history, jobs, snapshots
from service.store.lineage import Spans, count, newest, normal, without
from workers.branching import Branching
from workers.carrying import Carrying
from workers.comparing import Comparing, drifts
from workers.contrasting import Contrast
from workers.encoding import Encoding
from workers.old_views import OldViews
from workers.replay import Replay
from workers.rolling_back import RollBack
from workers.verifying import Verifying
from workers.versions import Versions
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank
from workers.whole import Whole

SHOWN = 200  # gained and lost corrections in a diff, the newest


@dataclass(frozen=True, slots=True)
class Versioning:
    """Answers what `service.cluster.engine.Engine` has for versions."""

    banks: WarmBanks
    replay: Replay
    versions: Versions
    comparing: Comparing
    rolling: RollBack
    old: OldViews
    encoding: Encoding
    whole: Whole
    ring: Callable[[str, str], None]
    now: Callable[[], datetime]

    async def roll_back(
        self,
        tenant: str,
        bank: str,
        to: str | None,
        *,
        dry_run: bool,
        if_match: str | None,
        reason: str | None,
        actor: Actor,
        idempotency_key: str | None,
        to_time: datetime | None = None,
        source: wire.Source | None = None,
        keep: str | list[str] = "none",
        probes: int = wire.PROBES,
    ) -> wire.RolledBack:
        """See `Engine.roll_back`."""
        bank_id = await self.banks.id_of(tenant, bank)
        asked: dict[str, Any] = {"to": to, "to_time": to_time, "source": source, "keep": keep, "probes": probes}
        request = wire.RollbackRequest(**asked, dry_run=dry_run, reason=reason)
        if dry_run:
            told = await self.rolling.preview(tenant, bank_id, request, if_match=if_match, key_id=actor.key_id)
        else:
            who = {"key_id": actor.key_id, "request_id": actor.request_id}
            work = self.rolling.run(tenant, bank_id, request, if_match=if_match, idempotency_key=idempotency_key, **who)
            told = await self.whole(work)
        if told.job_id is not None:
            self.ring(told.job_id, "preparation")
        return told

    async def rolled_back(self, tenant: str, bank: str, version: int, *, probes: int = wire.PROBES) -> wire.RolledBack:
        """See `Engine.rolled_back`."""
        bank_id = await self.banks.id_of(tenant, bank)
        return await self.whole(self.rolling.again(tenant, bank_id, version, probes))

    async def delete_snapshot(self, tenant: str, bank: str, snapshot: str, *, actor: Actor) -> None:
        """See `Engine.delete_snapshot`."""
        bank_id = await self.banks.id_of(tenant, bank)
        await self.whole(self._delete_snapshot(tenant, bank_id, snapshot, actor))

    async def diff(self, tenant: str, bank: str, before: str, after: str, *, probes: int = wire.PROBES) -> wire.SnapshotDiff:
        """See `Engine.diff`."""
        bank_id = await self.banks.id_of(tenant, bank)
        async with self.banks.using(tenant, bank_id, await self.banks.fence(tenant, bank_id)) as warm:
            states = [_name(warm, name) for name in (before, after)]
            finding, cleared = ("diff", bank_id, warm.row.epoch, *states, probes), self.old.cleared
            known: wire.SnapshotDiff | None = self.old.found(finding)
            if known is not None and all([await self.old.is_kept(tenant, bank_id, name) for name in (before, after) if name != wire.HEAD]):
                return known
            old, new = [await self._still(tenant, warm, name) for name in (before, after)]
            told = await self._diff(tenant, warm, old, new, probes)
            if [_name_of(name, view) for name, view in ((before, old), (after, new))] == states:  # nothing was taught meanwhile
                self.old.keep(finding, told, cleared)
            return told

    async def verify(self, tenant: str, bank: str, snapshot: str) -> wire.Verified:
        """See `Engine.verify`."""
        return await Verifying(self.replay).run(tenant, await self.banks.id_of(tenant, bank), snapshot)

    async def bisect(
        self, tenant: str, bank: str, input: str, *, since: str | None, actor: Actor, until: str | None = None
    ) -> wire.JobStarted:
        """See `Engine.bisect`."""
        bank_id = await self.banks.id_of(tenant, bank)
        (text,) = await self.encoding.encode([input], tenant)
        asked = {"input": input, "key": base64.b64encode(text.key.tobytes()).decode(), "since": since, "until": until}
        payload = asked | {"by": actor.key_id}
        async with self.replay.database.write(tenant) as conn:
            for named in (since, until):
                if named is not None:
                    await snapshots.get_kept(conn, tenant, named, bank_id)
            job, _ = await jobs.enqueue(conn, tenant, kind="bisection", bank=bank_id, payload=payload, dedupe=None, now=self.now())
        self.ring(job.id, job.kind)
        return wire.JobStarted(job_id=job.id)

    async def import_bundle(self, tenant: str, bank: str, bundle: str, *, actor: Actor) -> wire.Imported:
        """See `Engine.import_bundle`."""
        bank_id = await self.banks.id_of(tenant, bank)
        return await self.whole(Carrying(self.replay, self.comparing, self.versions).take_in(tenant, bank_id, bundle, actor))

    async def create_branch(self, tenant: str, bank: str, name: str, *, at: str | None, actor: Actor) -> wire.Branch:
        """See `Engine.create_branch`."""
        bank_id = await self.banks.id_of(tenant, bank)
        branching = Branching(self.replay, self.versions, self.banks)
        return await self.whole(branching.fork(tenant, bank_id, name, at, self.encoding.digest, actor))

    async def diff_branch(self, tenant: str, bank: str, branch: str, *, probes: int = wire.PROBES) -> wire.SnapshotDiff:
        """See `Engine.diff_branch`."""
        ours, theirs = [await self.banks.id_of(tenant, each) for each in (bank, branch)]
        async with (
            self.banks.using(tenant, ours, await self.banks.fence(tenant, ours)) as warm,
            self.banks.using(tenant, theirs, await self.banks.fence(tenant, theirs)) as other,
        ):
            return await Contrast(self.replay.database, self.comparing, self.versions.heavy).run(
                tenant, warm, await self._still(tenant, warm, wire.HEAD), other, await self._still(tenant, other, wire.HEAD), probes
            )

    async def promote_branch(self, tenant: str, bank: str, branch: str, *, refold: bool, actor: Actor) -> wire.Promoted:
        """See `Engine.promote_branch`."""
        ours, theirs = [await self.banks.id_of(tenant, each) for each in (bank, branch)]
        return await self.whole(self._promote(tenant, ours, theirs, refold, actor))

    # --- inside

    async def _diff(self, tenant: str, warm: WarmBank, old: View, new: View, probes: int) -> wire.SnapshotDiff:
        bank_id, whole = warm.row.id, normal((*old.taught, *new.taught))
        gained, lost = without(new.taught, old.taught), without(old.taught, new.taught)
        sample = await self.comparing.sample(tenant, bank_id, whole, normal((*gained, *lost)), new.gone, probes)
        apart = asyncio.ensure_future(self.versions.heavy.run(drifts, old.state, new.state))
        try:
            flips = await self.comparing.flips(tenant, warm, old, new, sample.rows)
        finally:
            levels = await apart  # nobody leaves the states while they are read
        return wire.SnapshotDiff(
            before=wire.StateRef(snapshot_id=old.snapshot_id, seq=old.seq),
            after=wire.StateRef(snapshot_id=new.snapshot_id, seq=new.seq),
            gained=await self._moved(tenant, bank_id, gained, new.gone),
            gained_total=count(gained),
            lost=await self._moved(tenant, bank_id, lost, new.gone),
            lost_total=count(lost),
            flips=flips,
            probes=len(sample.rows),
            probes_of=sample.of,
            levels=levels,
        )

    async def _promote(self, tenant: str, bank_id: str, branch_id: str, refold: bool, actor: Actor) -> wire.Promoted:
        async with self.banks.lock(bank_id), self.banks.lock(branch_id):  # a branch is younger than its bank: nobody waits in a circle
            self.old.clear()
            return await Branching(self.replay, self.versions, self.banks).promote(tenant, bank_id, branch_id, refold=refold, actor=actor)

    async def _delete_snapshot(self, tenant: str, bank_id: str, snapshot: str, actor: Actor) -> None:
        async def note(conn: Any) -> None:  # noqa: ANN401
            who: dict[str, Any] = {"actor": actor.key_id, "request_id": actor.request_id, "now": self.now()}
            await audit.record(conn, tenant, action="snapshot.delete", target=bank_id, detail={"snapshot": snapshot}, **who)

        async with self.banks.lock(bank_id):  # not while a rollback goes to it
            self.old.clear()
            await self.versions.delete(tenant, bank_id, snapshot, note)

    async def _still(self, tenant: str, warm: WarmBank, name: str) -> View:
        """The state of a snapshot, or a copy of the present one that stays as it is while others teach."""
        if name != wire.HEAD:
            return await self.old.at(tenant, warm, name)
        async with self.banks.lock(warm.row.id):
            now = await self.banks.current(tenant, warm.row.id)
            return await self.versions.thread.run(now.view.frozen)

    async def _moved(self, tenant: str, bank_id: str, spans: Spans, gone: frozenset[int]) -> list[wire.Moved]:
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, bank_id, newest(spans, SHOWN))
        return [
            wire.Moved(
                id=row.id,
                seq=row.seq,
                input=None if row.seq in gone else row.input,
                right=None if row.seq in gone else row.right,
            )
            for row in reversed(rows)
        ]


def _name(warm: WarmBank, name: str) -> tuple[str, int]:
    """A name of a state of the bank that no other ever has: the present one is named by its head and position."""
    return _name_of(name, warm.view)


def _name_of(name: str, view: View) -> tuple[str, int]:
    return (view.snapshot_id, view.seq) if name == wire.HEAD else (name, 0)

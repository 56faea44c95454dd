"""Branches: what would become of a bank if it were taught this? Made, compared with it, and brought back into it.

A branch is a bank of its own. Its ledger begins with copies of the corrections that the other held, without what was forgotten or is in
quarantine, and its first head has the weights that the other has without these, with what was consolidated. From there it is folded,
answered, rolled back and forgotten from like any bank. What is forgotten in the other bank is
forgotten in the branch, in the same transaction (`workers/forgetting.py`); what is quarantined there is so here, and as long.

Promotion appends what was taught in the branch to the other bank's ledger and deletes the branch, in one transaction. Where that bank
still holds just what the branch began with, and neither was consolidated since, it has the branch's weights then, bit for bit: they are the
fold of the same lessons on the same weights.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from service import wire
from service.cluster.engine import Actor
from service.errors import Conflict, HeadMoved, NotFound, NotOwner, Quota, WriterBusy
from service.ids import new_id
from service.store import audit, banks, branches, history, ledger, present, quarantines, snapshots
from service.store.lineage import Spans, above, count, events_of, normal, restrict, subtract
from service.store.rows import BranchRow, Draft, EventRow, HeadMove, SnapshotDraft
from workers import lifecycle
from workers.replay import Lineage, Replay, lineage
from workers.teaching import refuse_closed
from workers.versions import Label, Taken, Versions, encode
from workers.view import View
from workers.warm import WarmBanks

PAGE = 500  # corrections copied at once
TRIES = 3  # of a fork that meets what is being forgotten


@dataclass(frozen=True, slots=True)
class Branching:
    """Makes and promotes branches."""

    replay: Replay
    versions: Versions
    warm: WarmBanks

    async def fork(self, tenant: str, bank_id: str, name: str, at: str | None, encoder_digest: str, actor: Actor) -> wire.Branch:
        """A bank that begins with what the bank holds now, or held at a snapshot, without what was forgotten or is in quarantine.

        Raises:
            NotFound: the bank does not keep such a snapshot. Conflict: there is a bank of this name.
            ChecksumMismatch, StateUnavailable: the weights cannot be had. WriterBusy: much is being forgotten meanwhile.
        """
        await self._refuse_taken(tenant, name)
        for _ in range(TRIES):
            view = await self._beginning(tenant, bank_id, at)
            encoded = await self.versions.heavy.run(encode, view.state)
            async with self.versions.database.at_blobs(tenant):
                taken, label = Taken.of(bank_id, view), Label(actor.key_id, note=f"what the branch {name} began with")
                draft, staged = await self.versions.stored(tenant, taken, "manual", label, encoded)
                async with self.versions.database.write(tenant) as conn:
                    await banks.lock(conn, tenant, bank_id)  # a forget or a quarantine comes before, and is seen, or finds the branch
                    hidden = [row.seq for row in await quarantines.hidden(conn, tenant, bank_id)]
                    if subtract(view.weights, hidden) != view.weights:
                        continue
                    made = await lifecycle.begin(conn, self.versions, tenant, name, encoder_digest, actor)
                    await self._copied(conn, tenant, bank_id, made, view, actor)
                    await self._headed(conn, tenant, made, view, draft, staged)
                    detail = {"branch": made.id, "at": at, "corrections": count(view.weights)}
                    await _note(conn, tenant, "branch", bank_id, detail, actor, self.versions)
                    return present.branch(await branches.get(conn, tenant, made.id))
        raise WriterBusy("something is being forgotten in the bank; make the branch again", retry_after_s=1)

    async def _refuse_taken(self, tenant: str, name: str) -> None:
        """Before anything is folded and written for it; two of one name at once meet at the row."""
        async with self.versions.database.read(tenant) as conn:
            with contextlib.suppress(NotFound):
                if (await banks.find_bank(conn, tenant, name)).name == name:
                    raise Conflict(f"there is a bank named {name!r} already")

    async def _beginning(self, tenant: str, bank_id: str, at: str | None) -> View:
        """What the bank holds, or held, without what was forgotten or is in quarantine."""
        found = await lineage(self.versions.database, tenant, bank_id)
        held, bases, bank = found.wanted, found.bases, found.bank
        if at is not None:
            async with self.versions.database.read(tenant) as conn:
                kept = await snapshots.get_kept(conn, tenant, at, bank_id)
            held, bases, bank = kept.spans, (kept, *found.bases), structs.replace(found.bank, seq=kept.seq)
        spans = subtract(held, [row.seq for row in found.hidden])
        view, _ = await self.replay.current(
            tenant, replace(found, bank=bank, bases=bases, wanted=spans, held=()), thread=self.versions.heavy
        )
        view.weights = subtract(view.weights, found.turns)  # conversations stay in their bank
        return view

    async def _copied(self, conn: Any, tenant: str, bank_id: str, made: wire.Bank, view: View, actor: Actor) -> None:  # noqa: ANN401
        """Give a new bank the corrections that the view holds, and note where it has them from."""
        seqs, now = events_of(view.weights), self.versions.now()
        for start in range(0, len(seqs), PAGE):
            rows = await history.by_seqs(conn, tenant, bank_id, seqs[start : start + PAGE])
            await ledger.append(conn, tenant, made.id, _drafts(rows), epoch=0, head_version=1, now=now)
        await branches.add(conn, tenant, bank_id, id=made.id, spans=view.weights, created_by=actor.key_id, now=now)

    async def _headed(
        self,
        conn: Any,  # noqa: ANN401
        tenant: str,
        made: wire.Bank,
        view: View,
        draft: SnapshotDraft,
        staged: Mapping[str, str],
    ) -> None:
        """Let a new bank, which has the view's corrections, answer from its weights."""
        size = count(view.weights)
        if not size:
            return  # its genesis is that
        mine = structs.replace(draft, parent=made.head, seq=size, spans=((0, size),), held=())
        move = HeadMove(expected_version=1, moved_by=draft.created_by, reason="branch")
        await snapshots.commit_snapshot(conn, tenant, made.id, mine, now=self.versions.now(), epoch=None, move_head=move, staged=staged)
        await self.versions.owe(conn, tenant, made.id, view.state, size)

    async def promote(self, tenant: str, bank_id: str, branch_id: str, *, refold: bool, actor: Actor) -> wire.Promoted:
        """Append what was taught in the branch to the bank, and delete the branch. The caller holds the locks of both.

        Raises:
            HeadMoved: the bank does not hold just what the branch began with, and `refold` was not asked for. Nothing was changed.
            Conflict: nothing was taught in the branch, some of that is in quarantine, or was taught by who is so in the bank, or the
                branch has rolled back what it began with (unless `refold`).
            WriterBusy: another process has taken the bank, or the branch is being changed. Quota: the bank would have too many responses.
        """
        async with self.versions.database.read(tenant) as conn:
            row = await branches.get(conn, tenant, branch_id)
        warm = await self.warm.current(tenant, bank_id)
        bank, branch = [_taught_alone(await lineage(self.versions.database, tenant, each)) for each in (bank_id, branch_id)]
        taught = _taught(bank, branch, row, refold=refold)
        before = await self.versions.save(
            tenant, await self.versions.take(warm, warm.view), "manual", Label(actor.key_id, label=f"before {row.name}"[:128])
        )
        try:
            async with self.versions.database.write(tenant) as conn:
                for each in (bank_id, branch_id):  # in the order in which a forget takes them
                    await banks.lock(conn, tenant, each)
                await self._refuse_changed(conn, tenant, branch)
                rows = await history.by_seqs(conn, tenant, branch_id, taught)
                drafts = _drafts(rows)
                refuse_closed(await quarantines.closed(conn, tenant, bank_id), drafts)
                fence = {"epoch": warm.row.epoch, "head_version": warm.head_version}
                added = await ledger.append(conn, tenant, bank_id, drafts, **fence, now=self.versions.now())
                most = self.versions.recall.config.max_responses
                if any(each.response is not None and each.response >= most for each in added):
                    raise Quota(f"a bank tells at most {most} distinct responses apart, and this one would have more")
                digests = await banks.delete_bank(conn, tenant, branch_id, self.versions.now())
                detail = {"branch": branch_id, "corrections": len(added), "before": before.id}
                await _note(conn, tenant, "promote", bank_id, detail, actor, self.versions)
        except NotOwner:
            raise WriterBusy(retry_after_s=1) from None
        finally:
            self.warm.drop(bank_id)  # the next use folds what came, also where nobody can say whether it did
            self.warm.drop(branch_id)
        self.warm.forget_names(branch_id)
        await self.versions.drop_blobs(tenant, digests)
        state = wire.StateRef(snapshot_id=bank.head.id, seq=added[-1].seq)
        return wire.Promoted(bank=bank_id, corrections=[each.id for each in added], before=before.id, state=state)

    async def _refuse_changed(self, conn: Any, tenant: str, branch: Lineage) -> None:  # noqa: ANN401
        """Nothing was taught, rolled back or hidden in the branch since it was looked at; nor is it before this transaction ends."""
        row = await banks.find_bank(conn, tenant, branch.bank.id)
        gone = {each.seq for each in await quarantines.hidden(conn, tenant, branch.bank.id)}
        if (row.seq, row.head_version, gone) != (branch.bank.seq, branch.bank.head_version, {each.seq for each in branch.hidden}):
            raise WriterBusy("the branch is being changed; promote it again", retry_after_s=1)


def _taught(bank: Lineage, branch: Lineage, row: BranchRow, *, refold: bool) -> list[int]:
    """The positions in the branch of what was taught there and still holds."""
    began, gone = count(row.spans), [each.seq for each in bank.hidden]
    holds_now, whole = live_of(branch), normal([(0, began)])
    held = above(branch.held, began)
    if held:
        raise Conflict(f"{count(held)} of the corrections that were taught in the branch are in quarantine; lift it or forget them first")
    if not refold and bank.wanted != subtract(row.spans, gone):
        raise HeadMoved("the bank does not hold just what the branch began with any more; ask with refold to add to what it holds now")
    if not refold and restrict(holds_now, began) != subtract(whole, branches.places(row.spans, gone)):
        raise Conflict(
            "the branch has lost some of what it began with, which a promotion does not; ask with refold to add what it was taught"
        )
    taught = events_of(above(holds_now, began))
    if not taught:
        raise Conflict("nothing was taught in the branch that the bank does not have")
    return taught


def _taught_alone(found: Lineage) -> Lineage:
    """Without the turns of conversations, which a branch neither begins with nor brings back."""
    return replace(found, wanted=subtract(found.wanted, found.turns), held=subtract(found.held, found.turns))


def live_of(found: Lineage) -> Spans:
    """What the bank answers from."""
    return subtract(found.wanted, [row.seq for row in found.hidden])


def _drafts(rows: Sequence[EventRow]) -> list[Draft]:
    """The corrections once more, for another ledger."""
    return [
        Draft(
            id=new_id("cor"),
            session_id=row.session_id,
            input=row.input or "",
            wrong=row.wrong,
            right=row.right or "",
            metadata=row.metadata or {},
            embedding=row.embedding or b"",
            tokens=row.tokens,
            words=row.words,
            taught_by=row.taught_by,
        )
        for row in rows
    ]


async def _note(conn: Any, tenant: str, action: str, target: str, detail: dict[str, Any], actor: Actor, versions: Versions) -> None:  # noqa: ANN401
    who: dict[str, Any] = {"actor": actor.key_id, "request_id": actor.request_id, "now": versions.now()}
    await audit.record(conn, tenant, action=action, target=target, detail=detail, **who)

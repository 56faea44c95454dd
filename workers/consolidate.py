"""Consolidation: train a candidate beside the requests, gate it, make it the head by compare-and-swap.

The candidate is a fold of the ledger without any forgotten event (suppressed ones leave the weights here), whose slow level is then trained
on all corrections that still hold (`model/consolidation.py`), in steps between which the thread serves others.

A candidate that its gate (`workers/gate.py`) does not let pass is kept as a snapshot with its figures, and the head stays. What it covered
is no longer owed all the same: the same corrections would fail again, so the next try comes when as much again has been taught. Where the
head has moved since, what is owed is of another memory: then nothing is kept, and the consolidation begins again.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from msgspec import structs

from model.consolidation import consolidate
from model.steps import give_back
from service.errors import GateFailed, HeadMoved
from service.store import banks, history
from service.store.lineage import Spans, holds, restrict, subtract
from service.store.rows import HeadMove, LessonRow, SnapshotRow
from workers.gate import Gate, Verdict
from workers.reading import Reader
from workers.rebuilding import Changed
from workers.replay import PAGE, Lineage, Progress, Replay, lesson_of, lineage
from workers.threads import OwnThread
from workers.versions import Label, Taken, Versions
from workers.view import View

FOLDED, TRAINED = 0.3, 0.9  # shares of the work that are done when the fold is, and when the candidate is
TRIES = 3  # a head that keeps moving sends the job back to the queue


class Candidate(NamedTuple):
    """What was trained, before its gate."""

    found: Lineage  # the bank as it was found
    view: View  # what would become of it
    rows: list[LessonRow]  # the corrections that it has learned, oldest first
    replaced: frozenset[int]  # the seqs of those that do not hold


@dataclass(frozen=True, slots=True)
class Consolidation:
    """Runs consolidations of single banks. It holds no lock of the bank, see `workers/rebuilding.py`."""

    replay: Replay
    reader: Reader
    versions: Versions
    thread: OwnThread  # folds run here, beside the requests
    changed: Changed
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one trains at a time: two would take twice the memory, and be no sooner done

    async def run(self, tenant: str, bank_id: str, *, moved_by: str, progress: Progress) -> dict[str, Any]:
        """Fold, train, gate, commit; returns the figures of the gate and the new head.

        Raises:
            GateFailed: the candidate answers worse; it is kept, the head stays.
            HeadMoved: the head kept moving; try again.
        """
        for _ in range(TRIES):
            try:
                candidate = await self._candidate(tenant, bank_id, progress)
                again = await lineage(self.replay.database, tenant, bank_id)
                if again.head.id != candidate.found.head.id or restrict(_kept(again), candidate.view.seq) != candidate.view.weights:
                    continue
                gate, saved = await self._finish(tenant, candidate, moved_by)
            except HeadMoved:
                continue
            if not gate.passed:
                raise GateFailed(
                    f"the candidate {saved.id} is wrong on {gate.flipped} of {gate.probes} corrections where the head is right"
                )
            await self.changed(tenant, bank_id)
            return {"snapshot": saved.id, "digest": saved.digest, "events": saved.clock["events"], "gate": gate.figures()}
        raise HeadMoved()

    async def _candidate(self, tenant: str, bank_id: str, progress: Progress) -> Candidate:
        """What would become of the bank as it was found."""

        async def folded(done: float) -> None:
            await progress(FOLDED * done)

        async def trained(done: float) -> None:
            await progress(FOLDED + (TRAINED - FOLDED) * done)

        found = await lineage(self.replay.database, tenant, bank_id)
        with self.replay.stage("fold"):
            view, _ = await self.replay.current(tenant, _remembered(found), thread=self.thread, progress=folded)
        async with self.turn:
            with self.replay.stage("fold"):
                later = await lineage(self.replay.database, tenant, bank_id)
                if later.head.id != found.head.id:
                    raise HeadMoved()  # what would be trained now could only be thrown away
                if restrict(_kept(later), view.seq) == view.weights:
                    found = later  # a fold, and a turn, can take minutes: what was taught meanwhile need not wait for the next one
                    await self.replay.fold(tenant, _remembered(found), view, thread=self.thread)
                    await self.replay.admit(tenant, bank_id, view)
            rows = await self._lessons(tenant, _remembered(found))
            lessons = [lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words) for row in rows]
            with self.replay.stage("train"):
                done = await self.thread.run_in_steps(consolidate(self.replay.recall.config, view.state, lessons), trained)
        view.state = await self.thread.run(self.replay.recall.brought, done.state)
        del lessons
        await self.thread.run(give_back)
        replaced = frozenset(row.seq for row, stands in zip(rows, done.stands, strict=True) if not stands)
        return Candidate(found, view, rows, replaced)

    async def _lessons(self, tenant: str, kept: Lineage) -> list[LessonRow]:
        """What the bank remembers, oldest first; the words of a response are with the first of its corrections alone."""
        lessons: list[LessonRow] = []
        known = set[int]()
        at, upto = 0, kept.bank.seq
        while at < upto:
            async with self.replay.database.read(tenant) as conn:
                rows = await history.lessons(conn, tenant, kept.bank.id, at, upto, PAGE)
            if not rows:
                break
            for row in rows:
                if holds(kept.wanted, row.seq):
                    lessons.append(structs.replace(row, words=None) if row.response in known else row)
                    known.add(row.response)
            at = rows[-1].seq
        return lessons

    async def _finish(self, tenant: str, candidate: Candidate, moved_by: str) -> tuple[Verdict, SnapshotRow]:
        found, view, rows, replaced = candidate
        head, _ = await self.replay.current(tenant, found, thread=self.thread)
        with self.replay.stage("gate"):
            gate = await Gate(self.reader, self.thread).verdict(head, view, rows, replaced)
        move = HeadMove(expected_version=found.bank.head_version, moved_by=moved_by, reason="consolidation") if gate.passed else None
        label = Label(moved_by, gate=gate.figures())
        bank, now = found.bank, self.versions.now()

        async def paid(conn: Any) -> None:  # noqa: ANN401
            if move is None and (await banks.find_bank(conn, tenant, bank.id)).head_version != bank.head_version:
                raise HeadMoved()  # who moved it wrote down what is owed now: none of that was in this candidate
            await banks.repay(conn, tenant, bank.id, tokens=bank.debt_tokens, events=bank.debt_events, now=now)

        with self.replay.stage("snapshot"):
            return gate, await self.versions.save(tenant, Taken.of(bank.id, view), "consolidation", label, move, note=paid)


def _kept(found: Lineage) -> Spans:
    """The wanted events without any that was forgotten: suppressed ones leave the weights here."""
    return subtract(found.wanted, [row.seq for row in found.tombstones])


def _remembered(found: Lineage) -> Lineage:
    """The bank as it should be without what was forgotten."""
    return replace(found, wanted=_kept(found), held=subtract(found.held, [row.seq for row in found.tombstones]))

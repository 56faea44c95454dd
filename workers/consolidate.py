"""Consolidation: train a candidate beside the requests, gate it, make it the head by compare-and-swap.

The candidate is a fold of the ledger without any forgotten event (suppressed ones leave the weights here), whose slow level is then trained
on all corrections that still hold (`model/consolidation.py`), in steps between which the thread serves others.

Gate (I5): of the bank's own newest corrections that hold, none that the head gets right may be wrong in the candidate. What an answer was
replaced by is right as well. A candidate that fails is kept as a snapshot with its figures, and the head stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from model import Lesson, State
from model.consolidation import Work, consolidate
from service.errors import GateFailed, HeadMoved
from service.store import banks, history
from service.store.lineage import Spans, count, holds, restrict, subtract
from service.store.rows import EventRow, HeadMove, SnapshotRow
from workers.reading import Reader
from workers.rebuilding import Changed
from workers.replay import PAGE, Lineage, Progress, Replay, key_of, lesson_of, lineage
from workers.threads import OwnThread
from workers.versions import Label, Taken, Versions
from workers.view import View

PROBES = 512  # newest live corrections asked by the gate
FOLDED = 0.3  # share of the work that is done when the fold is
TRIES = 3  # a head that keeps moving sends the job back to the queue


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate found: probes asked, how many the head and the candidate answered right, and on how many only the head was right."""

    probes: int
    head_right: int
    candidate_right: int
    flipped: int

    @property
    def passed(self) -> bool:
        """Whether the candidate may become the head."""
        return self.flipped == 0

    def figures(self) -> dict[str, Any]:
        """For the snapshot row and the job's result."""
        return {
            "probes": self.probes,
            "head_right": self.head_right,
            "candidate_right": self.candidate_right,
            "flipped": self.flipped,
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Consolidation:
    """Runs consolidations of single banks. It holds no lock of the bank, see `workers/rebuilding.py`."""

    replay: Replay
    reader: Reader
    versions: Versions
    thread: OwnThread  # folds run here, beside the requests
    changed: Changed

    async def run(self, tenant: str, bank_id: str, *, moved_by: str, progress: Progress) -> dict[str, Any]:
        """Fold, train, gate, commit; returns the figures of the gate and the new head.

        Raises:
            GateFailed: the candidate answers worse; it is kept, the head stays.
            HeadMoved: the head kept moving; try again.
        """
        for _ in range(TRIES):
            found = await lineage(self.replay.database, tenant, bank_id)
            view = await self._candidate(tenant, found, progress)
            again = await lineage(self.replay.database, tenant, bank_id)
            if again.head.id != found.head.id or restrict(_kept(again), view.seq) != view.weights:
                continue
            try:
                gate, saved = await self._finish(tenant, found, view, moved_by)
            except HeadMoved:
                continue
            if not gate.passed:
                raise GateFailed(f"the candidate {saved.id} is wrong on {gate.flipped} of {gate.probes} probes where the head is right")
            await self.changed(tenant, bank_id)
            return {"snapshot": saved.id, "digest": saved.digest, "events": count(saved.spans), "gate": gate.figures()}
        raise HeadMoved()

    async def _candidate(self, tenant: str, found: Lineage, progress: Progress) -> View:
        async def folded(done: float) -> None:
            await progress(FOLDED * done)

        kept = replace(found, wanted=_kept(found))
        view, _ = await self.replay.current(tenant, kept, thread=self.thread, progress=folded)
        lessons = await self._lessons(tenant, kept)
        work = consolidate(self.replay.recall.config, view.state, lessons)
        while not isinstance(done := await self.thread.run(_step, work), State):
            await progress(FOLDED + (1.0 - FOLDED) * done)
        view.state = await self.thread.run(done.to, self.replay.recall.device)
        return view

    async def _lessons(self, tenant: str, kept: Lineage) -> list[Lesson]:
        lessons: list[Lesson] = []
        at, upto = 0, kept.bank.seq
        while at < upto:
            async with self.replay.database.read(tenant) as conn:
                rows = await history.lessons(conn, tenant, kept.bank.id, at, upto, PAGE)
            if not rows:
                break
            lessons += [lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words) for row in rows if holds(kept.wanted, row.seq)]
            at = rows[-1].seq
        return lessons

    async def _finish(self, tenant: str, found: Lineage, view: View, moved_by: str) -> tuple[Gate, SnapshotRow]:
        head, _ = await self.replay.current(tenant, found, thread=self.thread)
        with self.replay.stage("gate"):
            gate = await self._gate(tenant, found, head, view)
        move = HeadMove(expected_version=found.bank.head_version, moved_by=moved_by, reason="consolidation") if gate.passed else None
        label = Label(moved_by, gate=gate.figures())
        bank, now = found.bank, self.versions.now()

        async def paid(conn: Any) -> None:  # noqa: ANN401
            await banks.repay(conn, tenant, bank.id, tokens=bank.debt_tokens, events=bank.debt_events, now=now)

        note = paid if gate.passed else None
        with self.replay.stage("snapshot"):
            return gate, await self.versions.save(tenant, Taken.of(bank.id, view), "consolidation", label, move, note=note)

    async def _gate(self, tenant: str, found: Lineage, head: View, candidate: View) -> Gate:
        async with self.replay.database.read(tenant) as conn:
            rows = await history.page(conn, tenant, found.bank.id, None, PROBES, descending=True)
        probes = newest_for_each_input([row for row in rows if holds(candidate.weights, row.seq)])
        if not probes:
            return Gate(0, 0, 0, 0)
        keys = np.stack([key_of(row.embedding or b"") for row in probes])
        right = []
        for view in (head, candidate):
            asked = await self.thread.run(self.reader.candidates, view, keys, 1)
            families = view.kin()
            right.append(
                [
                    bool(said) and row.response in families.get(said[0].index, {said[0].index})
                    for said, row in zip(asked, probes, strict=True)
                ]
            )
        flipped = sum(before and not after for before, after in zip(*right, strict=True))
        return Gate(len(probes), sum(right[0]), sum(right[1]), flipped)


def _step(work: Work) -> float | State:
    """The share that is done after the next step, at last the state."""
    try:
        return next(work)
    except StopIteration as ended:
        state: State = ended.value
        return state


def newest_for_each_input(rows: Sequence[EventRow]) -> list[EventRow]:
    """The corrections that still hold: of those with the same key only the newest. `rows` are newest first."""
    seen: dict[bytes, EventRow] = {}
    for row in rows:
        if row.embedding is not None:
            seen.setdefault(row.embedding, row)
    return list(seen.values())


def _kept(found: Lineage) -> Spans:
    """The wanted events without any that was forgotten: suppressed ones leave the weights here."""
    return subtract(found.wanted, [row.seq for row in found.tombstones])

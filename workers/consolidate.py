"""Consolidation: train a candidate beside the requests, gate it, make it the head by compare-and-swap.

In this form the candidate is a fresh fold of the ledger from the initial weights, without any forgotten event (suppressed ones leave the
weights here). It proves that the lived state equals its replay, and it is the road that slow levels will take.

Gate (I5): asked for the bank's own live corrections, the candidate must not be right less often than the head. A candidate that fails is
kept as a snapshot with its figures, and the head stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.errors import GateFailed, HeadMoved
from service.store import banks, history, snapshots
from service.store.lineage import Spans, count, holds, restrict, subtract
from service.store.rows import EventRow, HeadMove, SnapshotRow
from workers.reading import Reader
from workers.rebuilding import Changed
from workers.replay import Lineage, Progress, Replay, key_of, lineage
from workers.threads import OwnThread
from workers.versions import Label, Taken, Versions
from workers.view import View

PROBES = 512  # newest live corrections asked by the gate
TRIES = 3  # a head that keeps moving sends the job back to the queue


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate found: probes asked, and how many the head and the candidate answered right."""

    probes: int
    head_right: int
    candidate_right: int

    @property
    def passed(self) -> bool:
        """Whether the candidate may become the head."""
        return self.candidate_right >= self.head_right

    def figures(self) -> dict[str, Any]:
        """For the snapshot row and the job's result."""
        return {
            "probes": self.probes,
            "head_right": self.head_right,
            "candidate_right": self.candidate_right,
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
        """Fold, gate, commit; returns the figures of the gate and the new head.

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
                raise GateFailed(
                    f"the candidate {saved.id} is right on {gate.candidate_right} of {gate.probes} probes, the head on {gate.head_right}"
                )
            await self.changed(tenant, bank_id)
            return {"snapshot": saved.id, "digest": saved.digest, "events": count(saved.spans), "gate": gate.figures()}
        raise HeadMoved()

    async def _candidate(self, tenant: str, found: Lineage, progress: Progress) -> View:
        async with self.replay.database.read(tenant) as conn:
            genesis = (await snapshots.usable(conn, tenant, found.bank.id))[-1]
        view = await self.replay.at(tenant, found, genesis)
        view.snapshot_id = found.head.id
        kept = replace(found, wanted=_kept(found), held=subtract(found.held, [row.seq for row in found.tombstones]))
        with self.replay.stage("fold"):
            await self.replay.fold(tenant, kept, view, thread=self.thread, progress=progress)
        await self.replay.admit(tenant, found.bank.id, view)
        return view

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
            return Gate(0, 0, 0)
        keys = np.stack([key_of(row.embedding or b"") for row in probes])
        right = [row.response for row in probes]
        counts = []
        for view in (head, candidate):
            found_rows = await self.thread.run(self.reader.candidates, view, keys, 1)
            counts.append(sum(bool(row) and row[0].index == wanted for row, wanted in zip(found_rows, right, strict=True)))
        return Gate(len(probes), counts[0], counts[1])


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

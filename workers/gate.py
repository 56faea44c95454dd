"""The gate of a consolidation (I5): of the bank's own corrections that hold, none that the head gets right may be wrong in the candidate.

Which of them hold is told by who trained the candidate (`model/holding.py`); what becomes of the others is told, too, and refuses nothing.
What an answer was replaced by is right as well. All are asked by products of whole matrices (`model/survey.py`), and those for which that
is close, or which would flip, once more as a recall asks them. The weights are asked alone: the ledger, which knows every correction by its
words, would hide what they have lost.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.survey import ROWS, Survey
from service.store.rows import LessonRow
from workers.reading import Keys, Reader
from workers.replay import key_of
from workers.threads import OwnThread
from workers.view import View

ASKED = 64  # corrections that are asked as a recall asks, before the thread may serve someone else
PAGE = 64 * ROWS  # corrections whose keys are made to one matrix: 12 MiB, however many there are

Right = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Corrections that hold, how many of them the head and the candidate answered right, and on how many only the head was right.

    `replaced`: those that do not hold, since a newer one in their situation does; of these, too, only the head was right on `let_go`.
    """

    probes: int
    head_right: int
    candidate_right: int
    flipped: int
    replaced: int = 0
    let_go: int = 0

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
            "replaced": self.replaced,
            "let_go": self.let_go,
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Gate:
    """Asks views on `thread`."""

    reader: Reader
    thread: OwnThread

    async def verdict(self, head: View, candidate: View, rows: Sequence[LessonRow], replaced: Container[int] = ()) -> Verdict:
        """Of corrections, oldest first, of which those with the seqs `replaced` do not hold."""
        probes = list({row.embedding: row for row in rows}.values())  # of those with the same key only the newest can hold
        if not probes:
            return Verdict(0, 0, 0, 0)
        (before, sure_before), (after, sure_after) = [await self._surveyed(view, probes) for view in (head, candidate)]
        doubtful = ~sure_before | ~sure_after | (before & ~after)
        if head.forgotten:  # what is suppressed says nothing in a recall: the next best answer may be right
            doubtful |= ~before
        again = np.flatnonzero(doubtful)
        for begin in range(0, len(again), ASKED):
            some = again[begin : begin + ASKED]
            asked = [probes[place] for place in some]
            for view, right in ((head, before), (candidate, after)):
                right[some] = await self.thread.run(self._asked, view, _keys(asked), asked)
        holds, flipped = np.array([row.seq not in replaced for row in probes]), before & ~after
        counts = [int(each.sum()) for each in (holds, before & holds, after & holds, flipped & holds, ~holds, flipped & ~holds)]
        return Verdict(*counts)

    async def _surveyed(self, view: View, probes: Sequence[LessonRow]) -> tuple[Right, Right]:
        """Whether each is right, and whether that is beyond doubt."""
        survey, found = Survey(self.reader.recall.config, await self.thread.run(view.state.to, "cpu")), []
        for begin in range(0, len(probes), PAGE):
            some = probes[begin : begin + PAGE]
            found.append(await self.thread.run_in_steps(survey.right(torch.from_numpy(_keys(some)), [row.right for row in some])))
        right, sure = (torch.cat(each).numpy() for each in zip(*found, strict=True))
        return right, sure

    def _asked(self, view: View, keys: Keys, probes: Sequence[LessonRow]) -> list[bool]:
        """Whether each is right. Runs on the thread."""
        families = view.kin()
        found = self.reader.candidates(view, keys, 1)
        return [
            bool(said) and row.response in families.get(said[0].index, {said[0].index}) for said, row in zip(found, probes, strict=True)
        ]


def _keys(probes: Sequence[LessonRow]) -> Keys:
    """(n, key_width) where they were taught."""
    return np.stack([key_of(row.embedding) for row in probes])

"""Planning: a lesson is learned by a copy of a state, and the state takes over from there what the lesson has changed.

A ledger has to have a lesson before a state may change, and keeping it takes about as long as learning it. So it is learned beside that.
What is left for afterwards is to copy a few rows: the pairs that it has written, the books of the window, the answers, the clock.

P1  A state for which a lesson is planned is not written to: whoever reads it meanwhile, or keeps it when the lesson was not kept, finds it
    as it was. A plan that is not carried out leaves nothing behind.
P2  A plan that was carried out leaves the bits of the lesson learned in place: it is the same code that learns it, over the same used rows.
    Rows of the window that nothing was ever written to are not copied, and no product reads them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import FAST, MIDDLE, SLOW
from model.learning import BROUGHT, Step
from model.levels import Clock
from model.state import PAIRS, State

BOOKS = ("rates", "answers", "marks", "last")  # of the fast level, beside the pairs; what else it has grows with the answers


@dataclass(frozen=True, slots=True)
class Plan:
    """What a lesson makes of a state: `after`, a copy that has learned it, to be asked and not to be changed.

    `born`: whether the answer was new to the state, so that its own words were taught, too.
    """

    of: State
    before: tuple[Clock, int]  # clock and watermark
    after: State
    rows: list[int]  # of the window, whose pairs are others
    handed_on: bool  # whether pairs have left the window for the wide weights
    born: bool

    @classmethod
    def made(cls, state: State, step: Step, *, born: bool) -> "Plan":
        """Once a copy of `state` has learned."""
        rows = sorted({*step.touched, *step.left})
        return cls(state, (state.clock, state.watermark), step.state, rows, bool(step.left), born)

    @property
    def holds(self) -> bool:
        """Whether the state has learned nothing else meanwhile."""
        return (self.of.clock, self.of.watermark) == self.before

    def carry_out(self) -> None:
        """Let the state be what the copy is.

        Raises:
            ValueError: it does not hold any more. Nothing has changed then.
        """
        state, after = self.of, self.after
        if not self.holds:
            raise ValueError(f"the state is at lesson {state.watermark}, it was at {self.before[1]} when this was planned")
        fast, planned = state.levels[FAST], after.levels[FAST]
        rows = torch.tensor(self.rows)
        for name in ("keys", "errors"):
            fast[name][rows] = planned[name][rows]
        for name in BOOKS:
            fast[name][: len(planned[name])] = planned[name]
        for name in planned.keys() - {*PAIRS, *BOOKS}:
            fast[name] = planned[name]
        if self.handed_on:
            state.levels[MIDDLE]["weights"].copy_(after.levels[MIDDLE]["weights"])
        state.clock, state.watermark = after.clock, after.watermark


def copied(state: State, reserve: int) -> State:
    """A copy on the host that can learn one lesson. What no lesson changes it shares with the state, which must not change meanwhile.

    `reserve`: the pairs for which the window has room after each lesson.
    """
    fast, wide = state.levels[FAST], state.levels[MIDDLE]["weights"]
    window, (taken, handed) = len(fast["keys"]), fast["marks"][0].tolist()
    used, rows = min(taken, window), min(taken + BROUGHT, window)
    own = {name: _first(tensor, used, rows) if name in PAIRS else tensor.clone() for name, tensor in fast.items()}
    if taken + BROUGHT + reserve > window + handed:  # pairs may leave the window
        wide = wide.clone()
    return State(state.config_hash, {FAST: own, MIDDLE: {"weights": wide}, SLOW: state.levels[SLOW]}, state.clock, state.watermark)


def _first(tensor: Tensor, used: int, rows: int) -> Tensor:
    """(rows, …) the first `used` rows of a tensor, and zeros."""
    copy = torch.empty(rows, tensor.shape[1], dtype=tensor.dtype)
    copy[:used], copy[used:] = tensor[:used], 0
    return copy

"""What happens in a lesson, in which order; for one bank or for several at once, each with a lesson of its own.

Products of whole matrices are asked for once for all banks (`model/products.py`), the decisions between them are each bank's own: which
row, what was said, who is replaced, what is touched. Nothing here reads the numbers of one bank to decide about another.

    take in   the new pair, and with a new answer the pair of its own words: no error yet, so nothing reads otherwise
    ask       what the memory says at the key by its older pairs, and which pairs are near
    judge     what that says about answers that were replaced (`model/succession.py`)
    relabel   pairs of the same situation have the new answer, too
    write     the new pair and those that it touches most, together
    tick      the clock; where a period of the middle level ends, pairs that have no room leave the window
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from model import succession
from model.codes import Packed, Vector, scores, unpacked
from model.config import FAST, LEVELS, MIDDLE, RecallConfig
from model.levels import crossings
from model.products import Inquiry, Pairs, Products, Reading
from model.state import Named, State
from model.window import Ring, at_home

HOME, HOME_IN_A_ROW = 0.25, 0.75  # shares for `at_home`


@dataclass(slots=True)
class Step:
    """A lesson that was found good, at its bank, and how far it has come."""

    state: State
    key: Tensor  # (key_width,)
    words: Tensor | None  # the key of the answer's own words, where they are taught with it
    answer: int  # its row among the bank's answers; the next free one if it is new
    packed: Packed
    tokens: int
    seq: int
    row: int = -1  # of the new pair
    own: list[int] = field(default_factory=list)  # the row of the words' pair
    said: int = -1  # the row of the answer that the memory gave of all that it was taught; −1: none
    margin: float = 0.0  # by how much over the next
    lead: float = 0.0  # by how much the own score of the answer is above that of the one that it was born of; 0: of none

    @property
    def fast(self) -> Named:
        """The fast level."""
        return self.state.levels[FAST]

    @property
    def is_new(self) -> bool:
        """Whether the answer is new. Only before it is judged."""
        return self.answer == len(self.fast["codes"])

    @property
    def parent(self) -> int:
        """The row of the answer that this one was born of; −1: of none, or it is new."""
        return -1 if self.is_new else int(self.fast["kin"][self.answer, succession.PARENT])

    @property
    def in_a_row(self) -> bool:
        """Whether the lesson before had the same answer. Only before this one is judged."""
        return int(self.fast["last"][0, 0]) == self.answer


class Learning:
    """Applies lessons, in place."""

    def __init__(self, config: RecallConfig, products: Products) -> None:
        self._config, self._products = config, products
        self._ring = Ring(config.window, config.sharpness)

    def apply_(self, steps: Sequence[Step]) -> list[frozenset[str]]:
        """Learn one lesson in each of distinct banks; the levels whose period ended with it, for each."""
        older = [self._ring.used(step.fast) for step in steps]
        self._products.put([self._taken_in(step) for step in steps])
        asked = self._products.ask([Inquiry(step.state, step.key, rows) for step, rows in zip(steps, older, strict=True)])
        for step, (reading, _) in zip(steps, asked, strict=True):
            _hear(step, reading)
        for step, home in zip(steps, self._homes(steps), strict=True):
            self._judge(step, home=home)
        self._products.write([self._touched(step, near) for step, (_, near) in zip(steps, asked, strict=True)])
        return self._tick(steps)

    def _taken_in(self, step: Step) -> Pairs:
        config, keys = self._config, [step.key]
        if step.is_new and step.words is not None and config.own_words:
            step.own = [self._ring.take(step.fast, step.answer, config.rate * config.own_words)]
            keys = [step.words, step.key]
        step.row = self._ring.take(step.fast, step.answer, config.rate)
        return Pairs(step.state, [*step.own, step.row], torch.stack(keys))

    def _homes(self, steps: Sequence[Step]) -> list[bool]:
        """For each lesson whether it lies where that is at home which its answer was born of; only looked at where it matters."""
        rows = [self._ring.newest_of(step.fast, step.parent) if self._grows(step) else None for step in steps]
        asked = [
            (place, Pairs(steps[place].state, of.tolist(), steps[place].key)) for place, of in enumerate(rows) if of is not None and len(of)
        ]
        homes = [False] * len(steps)
        for (place, _), found in zip(asked, self._products.among([pairs for _, pairs in asked]), strict=True):
            homes[place] = at_home(*found, HOME_IN_A_ROW if steps[place].in_a_row else HOME)
        return homes

    def _grows(self, step: Step) -> bool:
        """Whether the lesson may be evidence that its answer replaces, or has replaced, the one that it was born of."""
        return step.parent >= 0 and (step.said == step.parent or (step.said == step.answer and step.lead < 0.0))

    def _judge(self, step: Step, *, home: bool) -> None:
        fast, config = step.fast, self._config
        if step.is_new:
            succession.add(fast, step.packed, step.said, step.margin)
        else:
            heard = succession.Heard(step.said, step.margin, step.lead, home, step.in_a_row)
            succession.taught(fast, step.answer, heard, step=config.replaced_step, threshold=config.replaced_at)
        fast["last"][0, 0] = step.answer

    def _touched(self, step: Step, near: Tensor) -> Pairs:
        """The pairs that the lesson writes, the new one first, with the codes of their answers."""
        fast, config = step.fast, self._config
        self._ring.relabel(fast, near, step.answer, config.same)
        rows = list(dict.fromkeys([step.row, *self._ring.touched(fast, near, 1 + config.neighbours), *step.own]))
        return Pairs(step.state, rows, torch.from_numpy(unpacked(fast["codes"].numpy()[fast["answers"][rows, 0].numpy()])))

    def _tick(self, steps: Sequence[Step]) -> list[frozenset[str]]:
        ended, leaving = [], []
        for step in steps:
            clock = step.state.clock.after(step.tokens)
            ended.append(frozenset(level for level in LEVELS if crossings(step.state.clock, clock, self._config.period_of(level))))
            if MIDDLE in ended[-1] and (rows := self._ring.oldest(step.fast, self._config.reserve)):
                leaving.append(Pairs(step.state, rows))
            step.state.clock, step.state.watermark = clock, step.seq
        self._products.hand_on(leaving)
        for pairs in leaving:
            self._ring.leave(pairs.state.levels[FAST], pairs.rows)
            pairs.state.levels[MIDDLE]["taken"] += len(pairs.rows)
        return ended


def _hear(step: Step, reading: Reading) -> None:
    """Note what the memory would give of all that it was taught, by how much over the next, and how loud the answer itself is."""
    fast, whole = step.fast, reading.whole
    own = scores(fast["codes"].numpy(), whole)
    if not len(own):
        return
    found = succession.speak_for(own, *succession.replaced(fast), noise(whole))
    step.said = int(found.argmax())
    others = np.delete(found, step.said)
    step.margin = float(found[step.said] - others.max()) if len(others) else max(float(found[step.said]), 0.0)
    if (parent := step.parent) >= 0:
        step.lead = float(own[step.answer] - own[parent])


def noise(read_out: Vector) -> float:
    """Standard deviation of the inner product of a read-out with the code of an answer that it knows nothing of."""
    return float(np.linalg.norm(read_out)) / math.sqrt(len(read_out))

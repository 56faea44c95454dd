"""A view: one state of a bank that questions can be asked of, and what may be answered from it.

`weights` says exactly which events the tensors hold. An event that was forgotten but is still in them (a suppressed one, one whose
rebuild has not finished, or one in quarantine) must never be answered with, so a view also carries:

- `counts`: for each response, how many of the events in the weights are not forgotten. A response without any is inadmissible.
- `forgotten`: the keys of the forgotten events still in the weights. A response that other events support is held back where the
  nearest of its events is a forgotten one (I3).

Only the model thread touches `state`, `counts` and `book` while a bank is warm.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from model import CodeBook, Lesson, Recall, State, succession
from model.config import FAST
from service.store.history import Spoken
from service.store.lineage import Spans, holds, subtract, with_next
from service.store.quarantines import Source
from service.store.rows import TombstoneRow

Key = NDArray[np.float32]
TIE = 1e-6  # cosines so close are of equal keys: an event that is live supports its response as well as a forgotten one denies it
NO_KEYS: NDArray[np.float32] = np.zeros((0, 384), np.float32)


@dataclass(slots=True)
class View:
    """A state at a ledger position, with what may be answered from it."""

    snapshot_id: str  # the head it grew from, or the snapshot itself
    seq: int  # the last ledger position it accounts for
    state: State
    weights: Spans  # the events in `state`
    book: CodeBook
    counts: NDArray[np.int32]  # (responses,) live events for each response
    gone: frozenset[int] = frozenset()  # seqs of all forgotten events of the bank
    forgotten: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # response -> (n, 384) keys still in the weights
    held: Spans = ()  # quarantined events that belong to it and are not in `state`
    closed: frozenset[Source] = frozenset()  # from which nothing is learned now
    turns: tuple[int, ...] = ()  # positions of what was said in conversations: in `weights` by their place, in the tensors not at all

    @property
    def taught(self) -> Spans:
        """The corrections in `state`."""
        return subtract(self.weights, self.turns)

    def know(self, response: int, text: str) -> None:
        """Let the book have a response. Erased ones before it keep their places: nothing supports them, so they are never answered."""
        while len(self.book) < response:
            self.book.add(f"\0{len(self.book)}")
        if len(self.book) == response:
            self.book.add(text)

    def learn(self, recall: Recall, lesson: Lesson, response: int) -> None:
        """Apply one event in place. The book must hold the response already."""
        recall.apply_(self.state, lesson)
        self.learned(lesson, response)

    def learned(self, lesson: Lesson, response: int) -> None:
        """Note an event that the state holds by now."""
        if response >= len(self.counts):
            grown = np.zeros(max(64, 2 * (response + 1)), np.int32)  # doubling: a bank teaches responses one by one
            grown[: len(self.counts)] = self.counts
            self.counts = grown
        self.counts[response] += 1
        self.weights = with_next(self.weights, lesson.seq)
        self.seq = lesson.seq

    def passed(self, seq: int) -> None:
        """Note an event from which these weights learn nothing: a turn of a conversation."""
        self.weights = with_next(self.weights, seq)
        self.seq, self.turns = seq, (*self.turns, seq)

    def frozen(self) -> "View":
        """A copy that nobody changes, to be asked beside the requests. Only the model thread may make one."""
        return replace(self, state=self.state.clone(), counts=self.counts.copy())

    def kin(self) -> dict[int, set[int]]:
        """For each response that has replaced others: itself and those, as far as the book has them."""
        fast = self.state.levels[FAST]
        old, new = (self.book.places(fast["codes"].numpy()[rows]).tolist() for rows in succession.replaced(fast))
        families: dict[int, set[int]] = {}
        for was, now in zip(old, new, strict=True):
            if min(was, now) >= 0:
                families.setdefault(now, {now}).add(was)
        return families

    def admissible(self) -> NDArray[np.bool_]:
        """(responses in the book,) which of them may be answered."""
        size = len(self.book)
        allowed = np.zeros(size, np.bool_)
        known = self.counts[:size] > 0
        allowed[: len(known)] = known
        return allowed


def counted(said: Iterable[Spoken], weights: Spans, hidden: Sequence[TombstoneRow], size: int) -> NDArray[np.int32]:
    """(size,) live events in `weights` for each response, from what is `spoken` at these positions and what of it is hidden."""
    counts = np.zeros(max(size, 64), np.int32)
    for each in said:
        counts[each.response] = each.times
    uncount(counts, weights, hidden)
    return counts


def uncount(counts: NDArray[np.int32], weights: Spans, hidden: Iterable[TombstoneRow]) -> None:
    """Count the hidden events no more, in place. One may be named twice: forgotten, and in quarantine."""
    for seq, response in {(row.seq, row.response) for row in hidden}:
        if response >= 0 and holds(weights, seq):  # a turn has none
            counts[response] -= 1


def still_inside(weights: Spans, tombstones: Sequence[TombstoneRow]) -> dict[int, NDArray[np.float32]]:
    """The keys of forgotten events that `weights` still hold, by response."""
    keys: dict[int, list[Key]] = {}
    for row in tombstones:
        if row.embedding and holds(weights, row.seq):  # a turn has none
            keys.setdefault(row.response, []).append(np.frombuffer(row.embedding, np.float32))
    return {response: np.stack(rows) for response, rows in keys.items()}


def held_back(view: View, family: Iterable[int], key: Key, live: Mapping[int, NDArray[np.float32]]) -> bool:
    """Whether a response must not be answered at `key` since the nearest event that speaks for it is a forgotten one.

    `family`: the response and those that it has replaced, whose events speak for it as well; `live`: keys of their live events.
    """
    gone = [view.forgotten[response] for response in family if response in view.forgotten]
    if not gone:
        return False
    kept = np.concatenate([NO_KEYS, *live.values()])
    return len(kept) == 0 or float((np.concatenate(gone) @ key).max()) > float((kept @ key).max()) + TIE

"""Which corrections hold: what a consolidation teaches and keeps right, and what its gate asks.

A correction holds until a newer one in the same situation (`same`, a cosine) has taken its place: the newer answer is that of both. But a
situation is no point. An older one still holds where the memory tells it from the newest: gives its answer at its key, and not at that of
the newest too, as if that had not been taught. So of the corrections in a situation

    the newest                                             holds and is learned
    older ones that are told from the newest there         hold and are kept right, by the repair if by nothing else
    others, and whatever has a newer one at its very key   are replaced: nothing can be right at both
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.codes import packed_code
from model.config import RecallConfig
from model.recall import Lesson
from model.state import Named, State
from model.steps import within
from model.survey import Survey

BLOCK = 1_024  # rows of a product of all corrections with each other
NUMBERS = 2**22  # of such a product at once: 16 MiB, however many corrections there are


class Material(NamedTuple):
    """Corrections in the order in which they were taught, and the own words of their answers before the first of each."""

    keys: Tensor  # (n, key_width)
    answers: Tensor  # (n,) rows of the bank's answers
    shares: Tensor  # (n,) of a lesson's rate: 1, and `own_words`
    taught: Tensor  # (n,) bool: no answer's own words

    def of(self, rows: Tensor) -> "Material":
        """Those in `rows`."""
        return Material(*(each[rows] for each in self))

    def joined(self, more: "Material") -> "Material":
        """These, and `more` behind them."""
        return Material(*(torch.cat(both) for both in zip(self, more, strict=True)))


class Holding(NamedTuple):
    """What holds of some material."""

    newest: Tensor  # (n,) bool: the last in their situations
    apart: Tensor  # (n,) bool: older ones that the memory tells from the newest there


def collected(config: RecallConfig, fast: Named, lessons: Sequence[Lesson]) -> Material:
    """All that `lessons` taught, whose answers the fast level knows."""
    rows = {packed.tobytes(): row for row, packed in enumerate(fast["codes"].numpy())}
    keys, answers, taught, known = [], [], [], set[int]()
    for lesson in lessons:
        row = rows[packed_code(lesson.right, config.code_width).tobytes()]
        if row not in known and lesson.words is not None and config.own_words:
            keys.append(lesson.words)
            answers.append(row)
            taught.append(False)
        known.add(row)
        keys.append(lesson.key)
        answers.append(row)
        taught.append(True)
    said, stacked = torch.tensor(taught, dtype=torch.bool), torch.empty(len(keys), config.key_width)
    for place, key in zip(stacked.numpy(), keys, strict=True):
        place[:] = key
    shares = torch.ones(len(said)).where(said, config.own_words)
    return Material(stacked, torch.tensor(answers, dtype=torch.int64), shares, said)


def holding(config: RecallConfig, state: State, material: Material) -> Generator[float, None, Holding]:
    """What holds of `material`, which is all that `state`, on the host, has learned; yields the share that is done.

    An answer's own words replace nothing: nobody taught them.
    """
    newest = ~(yield from within(_followed(material, config.same), 0.0, 0.7))
    older = (~newest & material.taught & _last_at_their_key(material)).nonzero()[:, 0]
    apart = torch.zeros(len(newest), dtype=torch.bool)
    if not len(older):
        return Holding(newest, apart)
    old, new = yield from within(_both(material, older, (newest & material.taught).nonzero()[:, 0], config.same), 0.7, 0.8)
    told = torch.zeros(len(newest), dtype=torch.bool)
    told[older] = told[new] = True
    asked = told.nonzero()[:, 0]
    stands = yield from within(Survey(config, state).standing(material.keys[asked], material.answers[asked]), 0.8, 1.0)
    said, right = torch.full((len(newest),), -1), torch.zeros(len(newest), dtype=torch.bool)
    said[asked], right[asked] = stands.said, stands.right
    apart[older] = right[older]
    apart[old[(said[old] == said[new]) & ~right[new]]] = False
    return Holding(newest, apart)


def _followed(material: Material, same: float) -> Generator[float, None, Tensor]:
    """(n,) bool: whether a newer correction was taught in the same situation."""
    count, followed = len(material.keys), torch.zeros(len(material.keys), dtype=torch.bool)
    rows = _at_once(count)
    for begin in range(0, count, rows):
        near = material.keys[begin : begin + rows] @ material.keys[begin:].T
        newer = torch.arange(count - begin)[None] > torch.arange(len(near))[:, None]
        followed[begin : begin + rows] = ((near >= same) & newer & material.taught[begin:]).any(dim=1)
        yield min(1.0, (begin + rows) / count)
    return followed


def _both(material: Material, older: Tensor, newest: Tensor, same: float) -> Generator[float, None, tuple[Tensor, Tensor]]:
    """Of rows (m,) and (k,) the pairs in one situation, the second of them newer: the first rows and the second rows, as many."""
    first, second, rows = [older[:0]], [newest[:0]], _at_once(len(newest))
    for begin in range(0, len(older), rows):
        part = older[begin : begin + rows]
        near = material.keys[part] @ material.keys[newest].T
        at, by = ((near >= same) & (newest > part[:, None])).nonzero(as_tuple=True)
        first.append(part[at])
        second.append(newest[by])
        yield min(1.0, (begin + rows) / len(older))
    return torch.cat(first), torch.cat(second)


def _at_once(count: int) -> int:
    return max(1, min(BLOCK, NUMBERS // max(1, count)))


def _last_at_their_key(material: Material) -> Tensor:
    """(n,) bool: corrections after which no other was taught with the very same key."""
    last = {key.tobytes(): row for row, key in enumerate(material.keys.numpy()) if material.taught[row]}
    found = torch.zeros(len(material.keys), dtype=torch.bool)
    found[torch.tensor(list(last.values()), dtype=torch.int64)] = True
    return found

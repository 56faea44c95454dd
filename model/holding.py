"""Which corrections hold: what a consolidation teaches and keeps right, and what its gate asks.

A correction holds until a newer one in the same situation (`same`, a cosine) has taken its place: the newer answer is that of both. But a
situation is no point. An older one still holds where the memory tells it from the newer: gives its answer at its key, and not at the newer
one's too, as if that had not been taught. So of the corrections in a situation

    the newest                                             holds and is learned
    older ones that are told from all newer ones           hold and are kept right, by the repair if by nothing else
    others, and whatever has a newer one at its very key   are replaced: nobody asks for them any more

A consolidation once let go of all older ones while its gate asked for each of them. With two hundred corrections, a dozen pairs of which
lay in one situation, there was one whose newer one the head had not taken in yet, and its gate refused (docs/journal.md).
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.codes import packed_code
from model.config import RecallConfig
from model.recall import Lesson
from model.state import Named, State
from model.steps import within
from model.survey import Standing, Survey

BLOCK = 1_024  # rows of a product of all corrections with each other
NUMBERS = 2**24  # of such a product at once: 64 MiB, however many corrections there are


class Material(NamedTuple):
    """Corrections in the order in which they were taught, and the own words of their answers before the first of each."""

    keys: Tensor  # (n, key_width)
    answers: Tensor  # (n,) rows of the bank's answers
    shares: Tensor  # (n,) of a lesson's rate: 1, and `own_words`
    taught: Tensor  # (n,) bool: no answer's own words

    def of(self, rows: Tensor) -> "Material":
        """Those in `rows`."""
        return Material(*(each[rows] for each in self))

    def with_(self, more: "Material") -> "Material":
        """These, and `more` behind them."""
        return Material(*(torch.cat(both) for both in zip(self, more, strict=True)))


class Holding(NamedTuple):
    """What holds of some material."""

    newest: Tensor  # (n,) bool: the last in their situations
    apart: Tensor  # (n,) bool: older ones that the memory tells from all newer ones there


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
    stacked, said = np.stack(keys) if keys else np.zeros((0, config.key_width), np.float32), torch.tensor(taught, dtype=torch.bool)
    shares = torch.ones(len(said)).where(said, config.own_words)
    return Material(torch.tensor(stacked), torch.tensor(answers, dtype=torch.int64), shares, said)


def holding(config: RecallConfig, state: State, material: Material) -> Generator[float, None, Holding]:
    """What holds of `material`, which is all that `state`, on the host, has learned; yields the share that is done.

    An answer's own words replace nothing: nobody taught them.
    """
    newest = ~(yield from within(_followed(material, config.same), 0.0, 0.5))
    older = ~newest & material.taught & _last_at_their_key(material)
    if not older.any():
        return Holding(newest, older)
    stands = yield from within(Survey(config, state).standing(material.keys, material.answers), 0.5, 0.8)
    older &= stands.right
    unheard = yield from within(_followed(material, config.same, stands), 0.8, 1.0)
    return Holding(newest, older & ~unheard)


def _followed(material: Material, same: float, stands: Standing | None = None) -> Generator[float, None, Tensor]:
    """(n,) bool: whether a newer correction was taught in the same situation; by `stands`: one at which the memory still says the same."""
    count, followed = len(material.keys), torch.zeros(len(material.keys), dtype=torch.bool)
    rows = max(1, min(BLOCK, NUMBERS // max(1, count)))
    for begin in range(0, count, rows):
        part = slice(begin, begin + rows)
        near = material.keys[part] @ material.keys[begin:].T
        newer = torch.arange(count - begin)[None] > torch.arange(len(near))[:, None]
        by = (near >= same) & newer & material.taught[begin:]
        if stands is not None:
            by &= (stands.said[part, None] == stands.said[begin:]) & ~stands.right[begin:]
        followed[part] = by.any(dim=1)
        yield min(1.0, (begin + rows) / count)
    return followed


def _last_at_their_key(material: Material) -> Tensor:
    """(n,) bool: corrections after which no other was taught with the very same key."""
    last = {key.tobytes(): row for row, key in enumerate(material.keys.numpy()) if material.taught[row]}
    found = torch.zeros(len(material.keys), dtype=torch.bool)
    found[torch.tensor(list(last.values()), dtype=torch.int64)] = True
    return found

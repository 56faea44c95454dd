"""Consolidation: what all corrections say that still hold, moved into the slow level, on a copy of the memory.

    part     which answers live side by side, though one seemed to have replaced the other       (`model/parting.py`)
    turn     where keys lie, and how much of a correction is noise                               (`model/choosing.py`, `model/turning.py`)
    places   the turned keys of the corrections; where they are more than `places`, of those that the others tell least about, as many as
             the places and half of the window have room for
    errors   E = (K + noise)⁻¹ V, kernel ridge regression (`model/solving.py`); where they are more than the places, the least squares of
             all corrections on places and pairs together. Rows of V are not the codes of answers but the vectors that say an answer
             without a murmur of the others (`clear`): codes are only nearly orthogonal
    write    what is still not right or not sure, by the least change (`model/repairing.py`): the fast level holds what slower ones leave
    middle   where places and pairs are fewer than the corrections, what these leave at all of them (`model/wide.py`); else empty

Of the corrections in one situation only the newest is learned; older ones that the memory tells apart are kept right (`model/holding.py`).
Of an answer that was replaced, the corrections count as ones of its successor where it is asked what lies together and what is right. Codes
stay as they are, and who replaced whom but where the corrections of both speak against it.

A function of configuration, state and lessons: repeatable bit for bit on one kind of processor with one thread.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import choosing, succession, turning, wide
from model.codes import unpacked
from model.config import FAST, MIDDLE, SLOW, RecallConfig
from model.features import kernel
from model.holding import BLOCK, Material, collected, holding
from model.parting import part
from model.recall import Lesson
from model.repairing import ROUNDS, Repair
from model.slow import Slow, kept
from model.solving import Half, kernels, solve
from model.state import Named, State, initial
from model.steps import within
from model.survey import Survey
from model.window import Ring

JITTER = 1e-3  # on the diagonal of the system
MURMUR = 0.1  # of other codes that is let pass, so that vectors stay short where answers are more than numbers in a code
GROUP = 8_000  # corrections in one system, of which 137 MiB are held
ROOM, ROOM_EACH = 480 * 2**20, 12 * 2**10  # bytes


class Trained(NamedTuple):
    """What comes of a consolidation."""

    state: State  # on the host
    stands: NDArray[np.bool_]  # (lessons,) which of them hold: what a gate may insist on


Work = Generator[float, None, Trained]


@dataclass(frozen=True, slots=True)
class Basis:
    """What speaks together: places of the slow level, and pairs of the window, each in the kernel of its level."""

    places: Tensor  # (m, key_width)
    pairs: Tensor  # (p, key_width)
    config: RecallConfig

    def near(self, keys: Tensor) -> Tensor:
        """(n, m + p) kernels of keys (n, key_width) with all."""
        count = len(self.places)
        near = torch.empty(len(keys), count + len(self.pairs))
        wide, sharp = near[:, :count], near[:, count:]
        kernel(torch.mm(keys, self.places.T, out=wide), self.config.slow_sharpness)
        kernel(torch.mm(keys, self.pairs.T, out=sharp), self.config.sharpness)
        return near

    def among(self) -> Half:
        """(m + p, m + p) kernels of all with each other; a place and a pair, which have different ones, count as apart."""
        count = len(self.places)
        among = Half(count + len(self.pairs), torch.float64)
        for rows, panel in among:
            wide, sharp = slice(rows.start, min(rows.stop, count)), slice(max(rows.start, count) - count, max(rows.stop, count) - count)
            said = kernel(self.places[wide] @ self.places[: wide.stop].T, self.config.slow_sharpness)
            panel[: len(said), : wide.stop] = said
            said = kernel(self.pairs[sharp] @ self.pairs[: sharp.stop].T, self.config.sharpness)
            panel[len(panel) - len(said) :, count : count + sharp.stop] = said
        return among

    def equations(self, material: Material, values: Tensor, noise: float) -> Generator[float, None, tuple[Half, Tensor]]:
        """The system whose solution E has the least ‖(V − K E) / √noise‖² + tr(Eᵀ K' E), K' from `among`, and its right side."""
        system = self.among()  # in float64: many speak nearly alike, sums need the digits
        system.add_to_diagonal(JITTER)
        right = torch.zeros(len(self.places) + len(self.pairs), values.shape[1], dtype=torch.float64)
        for begin in range(0, len(material.keys), BLOCK):
            part = slice(begin, begin + BLOCK)
            near, weights = self.near(material.keys[part]), material.shares[part, None] / noise
            for rows, panel in system:
                weighed = near[:, rows] * weights
                for columns in system.rows:
                    if columns.stop <= rows.stop:
                        panel[:, columns] += weighed.T @ near[:, columns]
                right[rows] += weighed.T @ values[part]
            yield min(1.0, (begin + BLOCK) / len(material.keys))
        return system, right


def consolidate(config: RecallConfig, state: State, lessons: Sequence[Lesson]) -> Work:
    """A consolidated copy of `state`, which has learned just `lessons`; yields the share that is done, in small steps.

    With fewer than `slow_from` situations it is a plain copy.
    """
    copy = state.to("cpu")
    fast = copy.levels[FAST]
    everything = collected(config, fast, lessons)
    holds, taught = (yield from within(holding(config, copy, everything), 0.0, 0.1)), everything.taught
    material, beside = everything.of(holds.newest), everything.of(holds.apart)
    del everything  # here as below: nothing is kept that is not needed any more, since it grows with the ledger
    said = material.taught
    if int(said.sum()) < config.slow_from:
        return Trained(copy, (holds.newest | holds.apart)[taught].numpy())
    yield from within(part(fast, material.keys[said], material.answers[said], config.slow_sharpness), 0.1, 0.12)
    become = torch.from_numpy(np.asarray(succession.become(fast), np.int64))[material.answers]
    choice = yield from within(choosing.choose(material.keys[said], become[said], config.slow_sharpness, config.seed), 0.12, 0.25)
    turn = torch.zeros(config.key_width, config.key_width)
    if choice.share:
        turn = yield from within(turning.learn(material.keys[said], become[said], seed=config.seed), 0.25, 0.4)
    turn *= choice.share
    for each in (material, beside):
        turning.turn_(each.keys, turn)
    fresh, count = initial(config), len(material.keys)
    for name in ("codes", "kin", "evidence", "last"):
        fresh.levels[FAST][name] = fast[name]
    fresh.clock, fresh.watermark = copy.clock, copy.watermark
    del copy, fast
    pairs = yield from within(_settle(config, fresh, turn, material, choice.noise), 0.4, 0.8)
    material = material.joined(beside)
    right = yield from within(_repair(config, fresh, material, pairs), 0.8, 1.0)
    holds.apart[holds.apart.nonzero()[:, 0]] = right[count:]  # what cannot be kept beside the newest is replaced by it
    return Trained(fresh, (holds.newest | holds.apart)[taught].numpy())


def room(corrections: int) -> int:
    """Bytes that a process needs at most to consolidate a bank of so many, beside what it has anyway, and other jobs of it.

    A part of it is for the systems, which have a largest size, for buffers of libraries and for states; the rest for the corrections
    themselves, as rows of the ledger, keys, and vectors of what is said there.
    """
    return ROOM + ROOM_EACH * corrections


def clear(codes: Tensor) -> Tensor:
    """For each of codes (n, width) a vector that has inner product 1 with it, and with the others as little as its length allows."""
    among = codes.mT @ codes
    among.diagonal().add_(MURMUR)
    found: Tensor = torch.linalg.solve(among, codes, left=False)
    return found / (found * codes).sum(dim=1, keepdim=True)


def hardest(config: RecallConfig, material: Material, values: Tensor, noise: float, most: int) -> Generator[float, None, Tensor]:
    """At most `most` rows of the corrections, in order: those that the others tell least about; of equal ones the newer.

    An answer's own words come after all corrections: many are like nothing else, and nobody asked them.

    That is the length of a correction's error in a kernel ridge regression in which all are places, taken in random groups where they are
    more than one system holds.
    """
    count = len(material.keys)
    if count <= most:
        return torch.arange(count)
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed))
    lengths, groups = torch.zeros(count), drawn.chunk(-(-count // GROUP))
    for done, rows in enumerate(groups):
        errors = values[rows]
        near = yield from within(kernels(material.keys[rows], config.slow_sharpness), done / len(groups), done / len(groups))
        near.add_to_diagonal(noise / material.shares[rows])
        yield from within(solve(near, errors), done / len(groups), (done + 1) / len(groups))
        del near
        lengths[rows] = errors.norm(dim=1)
    lengths[~material.taught] -= lengths.max() + 1.0
    newest_first = lengths.flip(0).argsort(descending=True, stable=True)
    return (count - 1 - newest_first[:most]).sort().values


def _settle(config: RecallConfig, state: State, turn: Tensor, material: Material, noise: float) -> Generator[float, None, list[int]]:
    """Write the slow level, and pairs of the window; the rows of `material` that are pairs, in their order."""
    room, fast = config.window - config.reserve, state.levels[FAST]
    exact = len(material.keys) <= config.places
    values = clear(torch.from_numpy(unpacked(fast["codes"].numpy())))[material.answers]
    chosen = yield from within(hardest(config, material, values, noise, config.places if exact else config.places + room // 2), 0.0, 0.5)
    drawn = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(config.seed))
    places = chosen[drawn[: config.places].sort().values]
    pairs = chosen[drawn[config.places :].sort().values]
    keys, scales = kept(material.keys[places])
    basis = Basis(keys * scales, material.keys[pairs], config)  # keys as they are kept, so that errors are of what is read
    if exact:
        system = yield from within(kernels(basis.places, config.slow_sharpness), 0.5, 0.8)
        system.add_to_diagonal(noise / material.shares[places])
        errors = values[places]
    else:
        system, errors = yield from within(basis.equations(material, values, noise), 0.5, 0.8)
    without = len(material.keys) - len(errors) if config.frequencies else 0  # corrections that have neither
    yield from within(solve(system, errors), 0.8, 0.9 if without else 1.0)
    del system
    slow, level = state.levels[SLOW], Slow(config)
    level.put(slow, turn, keys, scales, errors[: len(places)].float(), state.clock)
    if exact:
        pairs = torch.arange(0 if len(places) <= room else len(places) - room // 2, len(places))
    _take(config, fast, material, pairs)
    fast["errors"][: len(errors) - len(places)] = errors[len(places) :].float()
    if without:
        said = torch.cat([level.places(slow)[1], fast["errors"][: len(pairs)]])  # as they are kept

        def left(part: slice) -> Tensor:
            return values[part] - basis.near(material.keys[part]) @ said

        weights = yield from within(wide.fitted(config, material.keys, material.shares / noise, left), 0.9, 1.0)
        wide.write(state.levels[MIDDLE], weights, without)
    return pairs.tolist()


def _take(config: RecallConfig, fast: Named, material: Material, rows: Tensor) -> None:
    """Take corrections in `rows` into the window, with no error."""
    ring = Ring(config.window, config.sharpness)
    for row in rows.tolist():
        place = ring.take(fast, int(material.answers[row]), config.rate * float(material.shares[row]))
        fast["keys"][place], fast["errors"][place] = material.keys[row], 0.0


def _repair(config: RecallConfig, state: State, material: Material, pairs: list[int]) -> Generator[float, None, Tensor]:
    """Write the corrections that the memory does not get right; those in rows `pairs` are in the window.

    (n,) bool: which are right beyond doubt in the end.
    """
    fast, room = state.levels[FAST], config.window - config.reserve
    said = yield from within(Survey(config, state).whole(material.keys), 0.0, 0.5)
    repair = Repair(config, state, material.keys, material.answers, said)
    asked, places = material.taught.nonzero()[:, 0], {row: place for place, row in enumerate(pairs)}
    written: dict[int, int] = {}  # rows of corrections, and of their pairs in the window
    for turn in range(ROUNDS):
        begin, end = 0.5 + 0.5 * turn / ROUNDS, 0.5 + 0.5 * (turn + 1) / ROUNDS
        below, standing = yield from within(repair.below(asked), begin, 0.5 * (begin + end))
        for row in below.tolist():
            if row not in places and len(places) < room:
                places[row] = len(places)
                _take(config, fast, material, torch.tensor([row]))
            if row in places:
                written[row] = places[row]
        if not len(below) or not written:
            break
        rows, at = torch.tensor(list(written)), torch.tensor(list(written.values()))
        yield from within(repair.write(rows, at, standing), 0.5 * (begin + end), end)
    else:
        _, standing = yield from within(repair.below(asked), 1.0, 1.0)
    return standing.right & standing.sure

"""Consolidation: what all corrections say that still hold, moved into the slow level, on a copy of the memory.

    turn     where keys lie, learned on all of them                                             (`model/turning.py`)
    places   the turned keys of the corrections, or k-means centres of them where they are more than `places`
    pairs    of the window: all corrections as far as they fit, else as many as fill half of it, drawn from the whole history
    errors   E = argmin ‖(V − K_nm E) / √noise‖² + tr(Eᵀ K_mm E), kernel ridge regression of the codes V of all corrections: on the places
             alone where they are all corrections, so that the pairs have no error; else on places and pairs together
    write    what is still not right, each with its nearest, as a lesson writes: the fast level learns what slower ones leave
    middle   empty: what it held is in the others

A correction holds until a newer one in the same situation; only the newest is learned. Of an answer that was replaced, the corrections
count as ones of its successor where it is asked what lies together and what is right. Codes, kin and evidence stay as they are.

A function of configuration, state and lessons: repeatable bit for bit on one kind of processor with one thread.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from model import succession, turning
from model.codes import packed_code, unpacked
from model.config import FAST, SLOW, RecallConfig
from model.features import kernel
from model.products import Inquiry, OneByOne, Pairs
from model.recall import Lesson
from model.state import Named, State, initial
from model.window import Ring

NOISE = 0.1  # of a correction: how far a place may miss its code
JITTER = 1e-3  # on the diagonal of the system, and of a centre's own weight in k-means
ROUNDS = 3  # of k-means, and of writing
BLOCK = 1_024  # rows of a product of all corrections with each other

T = TypeVar("T")
Work = Generator[float, None, State]


class Material(NamedTuple):
    """Corrections that hold, in the order in which they were taught, and the own words of their answers before the first of each."""

    keys: Tensor  # (n, key_width)
    answers: Tensor  # (n,) rows of the bank's answers
    shares: Tensor  # (n,) of a lesson's rate: 1, and `own_words`


def consolidate(config: RecallConfig, state: State, lessons: Sequence[Lesson]) -> Work:
    """A consolidated copy on the host of `state`, which has learned just `lessons`; yields the share that is done, in small steps.

    With fewer than `slow_from` corrections that hold it is a plain copy.
    """
    copy = state.to("cpu")
    fast = copy.levels[FAST]
    all_of_them = collected(config, fast, lessons)
    material = yield from holding(all_of_them, config.same)
    if int((material.shares == 1.0).sum()) < config.slow_from:
        return copy
    become = torch.from_numpy(succession.become(fast))[material.answers]
    said = material.shares == 1.0
    learning = turning.learn(material.keys[said], become[said], seed=config.seed)
    turn = yield from _within(learning, 0.1, 0.6)
    fresh = initial(config)
    for name in ("codes", "kin", "evidence", "last"):
        fresh.levels[FAST][name] = fast[name]
    fresh.clock, fresh.watermark = copy.clock, copy.watermark
    keys = turning.turned(material.keys, turn)
    pairs = yield from _within(_settle(config, fresh, turn, keys, material), 0.6, 0.8)
    yield from _within(_repair(config, fresh, keys, material, become, pairs), 0.8, 1.0)
    return fresh


def collected(config: RecallConfig, fast: Named, lessons: Sequence[Lesson]) -> Material:
    """All that `lessons` taught, whose answers the fast level knows."""
    rows = {packed.tobytes(): row for row, packed in enumerate(fast["codes"].numpy())}
    keys, answers, shares, known = [], [], [], set[int]()
    for lesson in lessons:
        row = rows[packed_code(lesson.right, config.code_width).tobytes()]
        if row not in known and lesson.words is not None and config.own_words:
            keys.append(lesson.words)
            answers.append(row)
            shares.append(config.own_words)
        known.add(row)
        keys.append(lesson.key)
        answers.append(row)
        shares.append(1.0)
    stacked = np.stack(keys) if keys else np.zeros((0, config.key_width), np.float32)
    return Material(torch.tensor(stacked), torch.tensor(answers, dtype=torch.int64), torch.tensor(shares))


def holding(material: Material, same: float) -> Generator[float, None, Material]:
    """Without what a newer correction in the same situation has replaced: whose cosine is `same` or more."""
    count = len(material.keys)
    kept = torch.ones(count, dtype=torch.bool)
    for begin in range(0, count, BLOCK):
        near = material.keys[begin : begin + BLOCK] @ material.keys[begin:].T
        newer = torch.arange(count - begin)[None] > torch.arange(len(near))[:, None]
        kept[begin : begin + BLOCK] = ~((near >= same) & newer).any(dim=1)
        yield 0.1 * min(1.0, (begin + BLOCK) / count)
    return Material(*(each[kept] for each in material))


def centres(keys: Tensor, most: int, seed: int) -> Generator[float, None, Tensor]:
    """(at most `most`, key_width) unit centres of unit keys (n, key_width); the keys themselves where they are no more."""
    if len(keys) <= most:
        return keys.clone()
    found = keys[torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))[:most]]
    for turn in range(ROUNDS):
        nearest = torch.cat([(part @ found.T).argmax(dim=1) for part in _parts(keys)])
        found = normalize(torch.zeros_like(found).index_add_(0, nearest, keys) + JITTER * found, dim=1)  # one with no keys stays
        yield (turn + 1) / ROUNDS
    return found


def _settle(config: RecallConfig, state: State, turn: Tensor, keys: Tensor, material: Material) -> Generator[float, None, Tensor]:
    """Write places, and pairs of the window where the places are too few to hold all exactly; the rows of `keys` that are pairs."""
    slow, fast, room = state.levels[SLOW], state.levels[FAST], config.window - config.reserve
    places = yield from _within(centres(keys, config.places, config.seed), 0.0, 0.2)
    drawn = torch.randperm(len(keys), generator=torch.Generator().manual_seed(config.seed + 1))
    pairs = torch.arange(len(keys)) if len(keys) <= room else drawn[: room // 2].sort().values
    exact = len(places) == len(keys)
    held = places if exact else torch.cat([places, keys[pairs]])
    codes, noise = unpacked(fast["codes"].numpy()), NOISE / material.shares
    among = kernel(held @ held.T, config.sharpness).double()  # many places see nearly the same: sums need the digits
    if exact:
        among.diagonal().add_(noise)
        values = torch.from_numpy(codes[material.answers.numpy()]).double()
    else:
        values = torch.zeros(len(held), config.code_width, dtype=torch.float64)
        for begin in range(0, len(keys), BLOCK):
            part = slice(begin, begin + BLOCK)
            near = kernel(keys[part] @ held.T, config.sharpness).double()
            weighed = near / noise[part, None]
            among.addmm_(weighed.T, near)
            values.addmm_(weighed.T, torch.from_numpy(codes[material.answers[part].numpy()]).double())
            yield 0.2 + 0.8 * min(1.0, (begin + BLOCK) / len(keys))
        among.diagonal().add_(JITTER)
    errors = torch.cholesky_solve(values, torch.linalg.cholesky(among)).float()
    slow["turn"].copy_(turn)
    slow["keys"][: len(places)], slow["errors"][: len(places)] = places, errors[: len(places)]
    slow["held"][0, 0] = len(places)
    _take(config, fast, keys, material, pairs)
    fast["errors"][: len(held) - len(places)] = errors[len(places) :]
    return pairs


def _take(config: RecallConfig, fast: Named, keys: Tensor, material: Material, pairs: Tensor) -> None:
    """Fill the window with the corrections in rows `pairs`, oldest first, with no error."""
    count = len(pairs)
    fast["keys"][:count], fast["answers"][:count, 0] = keys[pairs], material.answers[pairs].int()
    fast["rates"][:count, 0], fast["errors"][:count], fast["marks"][0, 0] = config.rate * material.shares[pairs], 0.0, count


def _repair(
    config: RecallConfig, state: State, keys: Tensor, material: Material, become: Tensor, pairs: Tensor
) -> Generator[float, None, None]:
    """Write the corrections that the memory does not get right, in the order in which they were taught; `pairs` are in the window."""
    fast = state.levels[FAST]
    wrong = _wrong(config, state, keys, become)
    more = torch.tensor(sorted(set(wrong.nonzero()[:, 0].tolist()) - set(pairs.tolist())), dtype=torch.int64)
    more = more[len(pairs) + len(more) - min(len(pairs) + len(more), config.window - config.reserve) :]  # the newest, as far as they fit
    order, rank = torch.cat([pairs, more]).sort()
    errors = torch.cat([fast["errors"][: len(pairs)], torch.zeros(len(more), config.code_width)])[rank]
    _take(config, fast, keys, material, order)
    fast["errors"][: len(order)] = errors
    ring, products = Ring(config.window, config.sharpness), OneByOne(config)
    for turn in range(ROUNDS):
        left = wrong[order].nonzero()[:, 0].tolist()
        for done, row in enumerate(left):
            _, near = products.ask([Inquiry(state, fast["keys"][row].clone(), len(order))])[0]
            rows = list(dict.fromkeys([row, *ring.touched(fast, near, 1 + config.neighbours)]))
            values = torch.from_numpy(unpacked(fast["codes"].numpy()[fast["answers"][rows, 0].numpy()]))
            products.write([Pairs(state, rows, values)])
            yield (turn + done / len(left)) / ROUNDS
        if not left:
            return
        wrong = _wrong(config, state, keys, become)


def _wrong(config: RecallConfig, state: State, keys: Tensor, become: Tensor) -> Tensor:
    """(n,) whether what the memory says at turned keys has become something else than `become` (n,)."""
    fast, slow = state.levels[FAST], state.levels[SLOW]
    codes = torch.from_numpy(unpacked(fast["codes"].numpy()))
    successors = torch.from_numpy(succession.become(fast))
    said = []
    for part in _parts(keys):
        whole = torch.zeros(len(part), config.code_width)
        for named in (fast, slow):
            whole.addmm_(kernel(part @ named["keys"].T, config.sharpness), named["errors"])  # errors of unused rows are zero
        said.append(successors[(whole @ codes.T).argmax(dim=1)])
    return torch.cat(said) != become


def _within(work: Generator[float, None, T], begin: float, end: float) -> Generator[float, None, T]:
    """The work, as the part between two shares of a larger one."""
    while True:
        try:
            done = next(work)
        except StopIteration as ended:
            found: T = ended.value
            return found
        yield begin + (end - begin) * done


def _parts(keys: Tensor) -> list[Tensor]:
    return [keys[begin : begin + BLOCK] for begin in range(0, len(keys), BLOCK)]

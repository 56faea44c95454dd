"""Consolidation: what all corrections say that still hold, moved into the slow level, on a copy of the memory.

    turn     where keys lie, learned on all of them                                             (`model/turning.py`)
    places   k-means centres of the turned keys, at most `places`
    errors   E = argmin ‖(V − K_nm E) / √noise‖² + tr(Eᵀ K_mm E): kernel ridge regression on the places, V the codes of all corrections.
             Exact where there are no more corrections than places
    window   the corrections that the slow level does not get right, and the newest, as far as they fit: with no error yet
    write    those that it does not get right, each with its nearest, as a lesson writes: the fast level learns only what slower ones leave
    middle   empty: what it held is in the slow level

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
JITTER = 1e-3  # on the diagonal of the places' system: many of them see nearly the same
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
    yield from _within(_settle(config, fresh, turn, keys, material), 0.6, 0.8)
    yield from _within(_repair(config, fresh, keys, material, become), 0.8, 1.0)
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
        nearest = torch.cat([(part @ found.T).argmax(dim=1) for part in keys.split(BLOCK)])
        found = normalize(torch.zeros_like(found).index_add_(0, nearest, keys) + JITTER * found, dim=1)  # one with no keys stays
        yield (turn + 1) / ROUNDS
    return found


def _settle(config: RecallConfig, state: State, turn: Tensor, keys: Tensor, material: Material) -> Generator[float, None, None]:
    """Write the slow level: turn, places, and errors that say what all corrections say."""
    slow, codes = state.levels[SLOW], unpacked(state.levels[FAST]["codes"].numpy())
    places = yield from _within(centres(keys, config.places, config.seed), 0.0, 0.5)
    exact = len(places) == len(keys)
    among = kernel(places @ places.T, config.sharpness)
    noise = NOISE / material.shares
    if exact:
        values = torch.from_numpy(codes[material.answers.numpy()])
        among.diagonal().add_(noise)
    else:
        among.diagonal().add_(JITTER)
        values = torch.zeros(len(places), config.code_width)
        for begin in range(0, len(keys), BLOCK):
            part = slice(begin, begin + BLOCK)
            near = kernel(keys[part] @ places.T, config.sharpness)
            weighed = near / noise[part, None]
            among.addmm_(weighed.T, near)
            values.addmm_(weighed.T, torch.from_numpy(codes[material.answers[part].numpy()]))
            yield 0.5 + 0.5 * min(1.0, (begin + BLOCK) / len(keys))
    slow["turn"].copy_(turn)
    slow["keys"][: len(places)] = places
    slow["errors"][: len(places)] = torch.cholesky_solve(values, torch.linalg.cholesky(among))
    slow["held"][0, 0] = len(places)


def _repair(config: RecallConfig, state: State, keys: Tensor, material: Material, become: Tensor) -> Generator[float, None, None]:
    """Take corrections into the window, and write those that the memory does not get right, in the order in which they were taught."""
    fast, room = state.levels[FAST], config.window - config.reserve
    wrong = _wrong(config, state, keys, become)
    order = torch.cat([wrong.nonzero()[:, 0].flip(0), (~wrong).nonzero()[:, 0].flip(0)])[:room].sort().values
    count = len(order)
    fast["keys"][:count], fast["answers"][:count, 0] = keys[order], material.answers[order].int()
    fast["rates"][:count, 0], fast["marks"][0, 0] = config.rate * material.shares[order], count
    ring, products = Ring(config.window, config.sharpness), OneByOne(config)
    for turn in range(ROUNDS):
        left = wrong[order].nonzero()[:, 0].tolist()
        for done, row in enumerate(left):
            key = fast["keys"][row].clone()
            _, near = products.ask([Inquiry(state, key, count)])[0]
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
    for part in keys.split(BLOCK):
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

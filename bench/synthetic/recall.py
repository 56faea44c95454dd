"""Recall over a distance: many queries (MQAR, Arora et al. 2023), one needle in a haystack, pairs before a filler.

- MQAR: pairs of key and value first, then the keys again somewhere in the rest; each length is trained and tested on its own.
- needle: a sign and four tokens somewhere in a haystack, asked for at the end; trained on haystacks of up to 128, tested on longer ones.
- filler: pairs, one token over and over, the keys again in another order; trained with 4 of it, tested with up to 1,024.
"""

from collections.abc import Callable, Mapping

import numpy as np

from bench.synthetic.task import IGNORED, Examples, Ids, Task, full, padded

TRAINED, HELD, TESTED = 20_000, 256, 1_000
DIGITS = 4  # tokens of a needle
HAYSTACKS = (128, 256, 512, 1_024)
FILLERS = (4, 64, 256, 1_024)
MQAR = {64: 8, 128: 16, 256: 32}  # length: pairs


def mqar(generator: np.random.Generator, rows: int, length: int, pairs: int, vocabulary: int, power: float = 0.01) -> Examples:
    """Multi-query associative recall. Every row (length,) binds `pairs` keys to values, then asks for each key once.

    Queries come soon rather than late, by a power law with exponent `power` - 1 over the slots; between them are random tokens.

    Raises:
        ValueError: too many pairs for the length or for the vocabulary.
    """
    half, told = vocabulary // 2, 2 * pairs
    slots = (length - told) // 2
    if pairs < 1 or slots < pairs or half - 1 < pairs:
        raise ValueError(f"{pairs} pairs need a length of {4 * pairs} and a vocabulary of {2 * pairs + 2}, not {length} and {vocabulary}")
    keys = 1 + _different(generator, rows, np.zeros(half - 1), pairs)
    values = half + _different(generator, rows, np.zeros(vocabulary - half), pairs)
    queries = told + 2 * _different(generator, rows, (power - 1) * np.log(np.arange(1, slots + 1)), pairs)
    inputs = generator.integers(vocabulary, size=(rows, length))
    inputs[:, 0:told:2], inputs[:, 1:told:2] = keys, values
    targets = np.full_like(inputs, IGNORED)
    np.put_along_axis(inputs, queries, keys, axis=1)
    np.put_along_axis(targets, queries, values, axis=1)
    return full(inputs, targets)


def needle(generator: np.random.Generator, lengths: Ids, straw: int = 16, digits: int = 16) -> Examples:
    """One row for each of `lengths`: a sign and `DIGITS` digits at any depth of random straw; at the end the question and the digits.

    Ids: straw, then digits, then the sign, the question and padding. Straw holds digits, too, so that only the sign tells the needle.
    A row is right when all its digits are.
    """
    sign, question, pad = straw + digits, straw + digits + 1, straw + digits + 2
    rows, targets = [], []
    for length in lengths.tolist():
        hay = length - 2 * DIGITS - 1  # sign, digits, question, digits but the last
        if hay < 1:
            raise ValueError(f"lengths has {length}; a needle and its question alone take {2 * DIGITS + 1}")
        hidden = generator.integers(straw, straw + digits, DIGITS).tolist()
        around = generator.integers(straw + digits, size=hay).tolist()
        depth = int(generator.integers(hay + 1))
        rows.append([*around[:depth], sign, *hidden, *around[depth:], question, *hidden[:-1]])
        targets.append([IGNORED] * (length - DIGITS) + hidden)
    return padded(rows, targets, pad)


def after_filler(generator: np.random.Generator, rows: int, filler: int, pairs: int = 4, keys: int = 8, values: int = 8) -> Examples:
    """Rows (3 · pairs + filler,): pairs of key and value, `filler` times one token, the keys in another order. Chance is 1 / values."""
    every = np.arange(rows)[:, None]
    told = _different(generator, rows, np.zeros(keys), pairs)
    right = keys + generator.integers(values, size=(rows, pairs))
    order = _different(generator, rows, np.zeros(pairs), pairs)
    inputs = np.full((rows, 3 * pairs + filler), keys + values, np.int64)
    inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = told, right
    inputs[:, -pairs:] = told[every, order]
    targets = np.full_like(inputs, IGNORED)
    targets[:, -pairs:] = right[every, order]
    return full(inputs, targets)


def _different(generator: np.random.Generator, rows: int, weight: np.ndarray, count: int) -> Ids:
    """(rows, count) different places in each row, drawn one after the other with odds exp(weight): the largest of Gumbel noise."""
    return np.argsort(-(weight + generator.gumbel(size=(rows, len(weight)))), axis=1)[:, :count].astype(np.int64)


def _mqar_task(length: int, seed: int) -> Task:
    generator = np.random.default_rng([seed, length])
    train, held, test = (mqar(generator, rows, length, MQAR[length], vocabulary=256) for rows in (TRAINED, HELD, TESTED))
    return Task(f"mqar {length}", 256, train, {f"{length}": held}, {f"{length}": test}, "positions")


def _needle_task(seed: int) -> Task:
    generator = np.random.default_rng([seed, 1])
    train = needle(generator, generator.integers(16, HAYSTACKS[0] + 1, TRAINED))

    def parts(rows: int, lengths: tuple[int, ...]) -> dict[str, Examples]:
        return {f"{length}": needle(generator, np.full(rows, length)) for length in lengths}

    return Task("needle", 35, train, parts(HELD, HAYSTACKS[:2]), parts(TESTED // 4, HAYSTACKS), "rows")


def _filler_task(seed: int) -> Task:
    generator = np.random.default_rng([seed, 2])
    train = after_filler(generator, TRAINED, FILLERS[0])
    held = {f"{FILLERS[0]}": after_filler(generator, HELD, FILLERS[0])}
    return Task("filler", 17, train, held, {f"{filler}": after_filler(generator, TESTED // 4, filler) for filler in FILLERS}, "positions")


RECALL: Mapping[str, Callable[[int], Task]] = {
    "mqar 64": lambda seed: _mqar_task(64, seed),
    "mqar 128": lambda seed: _mqar_task(128, seed),
    "mqar 256": lambda seed: _mqar_task(256, seed),
    "needle": _needle_task,
    "filler": _filler_task,
}


def recall_task(name: str, seed: int) -> Task:
    """A recall task; the same seed gives the same rows.

    Raises:
        ValueError: no such task.
    """
    if name not in RECALL:
        raise ValueError(f"there is no recall task {name!r}; there are {', '.join(RECALL)}")
    return RECALL[name](seed)

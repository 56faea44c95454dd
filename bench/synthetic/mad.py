"""The five MAD tasks of the paper's table 4 (Poli et al. 2024, "Mechanistic Design and Scaling of Hybrid Architectures").

Each setting is a vocabulary, a length and a number of training rows. A MAD score is the mean over the baseline and its harder settings
(`settings`), which change one number at a time; table 4 does not say which settings it used.

Score: percent of asked positions. While training on the two recall tasks, every next token is asked, also those that nobody can know, as
MAD does; tests ask for values of keys that came before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.synthetic.task import IGNORED, Examples, Ids, Task, full

HELD, TESTED = 256, 1_280  # rows; MAD tests on 1,280
MOTIF = 3  # tokens of the longest key or value of fuzzy recall

Motif = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One difficulty of one task.

    Raises:
        ValueError: a number too small to make rows of, naming the field.
    """

    task: str
    vocabulary: int = 16
    length: int = 128
    rows: int = 12_800  # to train on
    copied: int = 16  # tokens that selective copying remembers

    def __post_init__(self) -> None:
        if self.task not in MAKERS:
            raise ValueError(f"task {self.task!r} is unknown; there are {', '.join(MAKERS)}")
        if self.vocabulary < 16 or self.length < 24 or self.length % 2 or self.rows < 1:
            raise ValueError(f"{self}: vocabulary must be at least 16, length even and at least 24, rows positive")
        if self.task == "selective copying" and self.length <= 2 * self.copied + 1:
            raise ValueError(f"copied is {self.copied}, too many to be repeated in {self.length} tokens")

    @property
    def name(self) -> str:
        """The task, and what differs from its baseline."""
        base = BASELINES[self.task]
        fields = ("vocabulary", "length", "rows", "copied")
        changed = [f"{field} {getattr(self, field)}" for field in fields if getattr(self, field) != getattr(base, field)]
        return ", ".join([self.task, *changed])


def settings(task: str) -> list[Setting]:
    """The baseline of a task, then its harder settings."""
    base = BASELINES[task]
    changes: list[dict[str, Any]] = [{field: value} for field, values in HARDER[task].items() for value in values]
    return [base, *(replace(base, **change) for change in changes)]


def mad_task(setting: Setting, seed: int, *, held: int = HELD, tested: int = TESTED) -> Task:
    """Training, held-out and test rows of a setting. The same seed gives the same rows."""
    generator = np.random.default_rng([seed, list(MAKERS).index(setting.task), setting.vocabulary, setting.length])
    facts = generator.permutation(_values(setting))  # of memorization: the same in all three parts
    train, kept, test = (
        MAKERS[setting.task](generator, setting, rows, training, facts)
        for rows, training in ((setting.rows, True), (held, False), (tested, False))
    )
    notes = {"ceiling": _known(train, test)} if setting.task == "memorization" else {}
    whole = setting.task == "compression"
    return Task(setting.name, setting.vocabulary, train, {"test": kept}, {"test": test}, "positions", whole=whole, notes=notes)


# --- the tasks: each makes `rows` rows; `training` asks for every next token where MAD does


def in_context_recall(generator: np.random.Generator, setting: Setting, rows: int, training: bool, facts: Ids) -> Examples:
    """Pairs of key and value, whose bond is new in each row; the value of a key that came before is asked."""
    keys_in_all, pairs = setting.vocabulary // 2, setting.length // 2
    every = np.arange(rows)
    bond = generator.integers(keys_in_all, setting.vocabulary, (rows, keys_in_all))
    keys = generator.integers(keys_in_all, size=(rows, pairs))
    seen, repeated = np.zeros((rows, keys_in_all), bool), np.zeros((rows, pairs), bool)
    for pair in range(pairs):
        if pair == pairs - 1:  # the last key is one that came before
            keys[:, pair] = np.where(seen, generator.random(seen.shape), -1.0).argmax(axis=1)
        repeated[:, pair] = seen[every, keys[:, pair]]
        seen[every, keys[:, pair]] = True
    tokens = np.stack([keys, bond[every[:, None], keys]], axis=2).reshape(rows, 2 * pairs)
    asked = np.stack([np.zeros_like(repeated), repeated], axis=2).reshape(rows, 2 * pairs)
    wanted = tokens if training else np.where(asked, tokens, IGNORED)
    return full(tokens[:, :-1], wanted[:, 1:])


def fuzzy_recall(generator: np.random.Generator, setting: Setting, rows: int, training: bool, facts: Ids) -> Examples:
    """In-context recall with keys and values of one to three different tokens; in tests all keys have three."""
    made = [_fuzzy_row(generator, setting, training) for _ in range(rows)]
    pad = setting.vocabulary - 1
    tokens = np.array([[pad] * (setting.length + 1 - len(row)) + row for row, _ in made], np.int64)
    asked = np.array([[False] * (setting.length + 1 - len(row)) + ask for row, ask in made])
    wanted = tokens if training else np.where(asked, tokens, IGNORED)
    return full(tokens[:, :-1], wanted[:, 1:])


def _fuzzy_row(generator: np.random.Generator, setting: Setting, training: bool) -> tuple[list[int], list[bool]]:
    """Tokens of one row, and whether each can be known."""
    half, pairs = (setting.vocabulary - 1) // 2, setting.length // 2
    keys = _motifs(generator, 0, half, pairs, least=1 if training else MOTIF)
    values = _motifs(generator, half, setting.vocabulary - 1, pairs, least=1)
    probe, answer = keys.pop(), values.pop()
    bond = {probe: answer}
    room = setting.length - len(probe) - len(answer) - 2 * MOTIF
    place = int(generator.integers(room - 2 * MOTIF + 1))  # the probe is told at the first pair from here on
    row: list[int] = []
    asked: list[bool] = []
    told: set[Motif] = set()
    while len(row) < room:
        asks = probe if len(row) >= place and probe not in told else keys.pop()
        answers = bond.setdefault(asks, values.pop())
        row += [*asks, *answers]
        asked += [False] * len(asks) + [asks in told] * len(answers)
        told.add(asks)
    return [*row, *probe, *answer], [*asked, *([False] * len(probe)), *([True] * len(answer))]


def _motifs(generator: np.random.Generator, low: int, high: int, count: int, least: int) -> list[Motif]:
    """`count` times `least` to `MOTIF` different tokens from `low` to `high` - 1, in any order."""
    tokens = low + generator.random((count, high - low)).argsort(axis=1)[:, :MOTIF]
    sizes = generator.integers(least, MOTIF + 1, count)
    return [tuple(motif[:size]) for motif, size in zip(tokens.tolist(), sizes.tolist(), strict=True)]


def selective_copying(generator: np.random.Generator, setting: Setting, rows: int, training: bool, facts: Ids) -> Examples:
    """Tokens strewn among blanks, a sign, then as many blanks, at which the tokens are asked in their order."""
    blank, sign, copied = setting.vocabulary - 2, setting.vocabulary - 1, setting.copied
    blanks = setting.length - 2 * copied - 1
    before = generator.multinomial(blanks, [1 / copied] * copied, size=rows)  # blanks before each token
    places = np.cumsum(before, axis=1) + np.arange(copied)
    told = generator.integers(blank, size=(rows, copied))
    inputs = np.full((rows, setting.length), blank, np.int64)
    np.put_along_axis(inputs, places, told, axis=1)
    inputs[:, blanks + copied] = sign
    targets = np.full_like(inputs, IGNORED)
    targets[:, -copied:] = told
    return full(inputs, targets)


def compression(generator: np.random.Generator, setting: Setting, rows: int, training: bool, facts: Ids) -> Examples:
    """Random tokens and a sign; all are asked back, from what the model holds at the sign (`bench.synthetic.autoencoder`)."""
    inputs = generator.integers(setting.vocabulary - 1, size=(rows, setting.length))
    inputs[:, -1] = setting.vocabulary - 1
    return full(inputs, inputs.copy())


def memorization(generator: np.random.Generator, setting: Setting, rows: int, training: bool, facts: Ids) -> Examples:
    """Key, sign, key, sign…: at the sign the value of the key before it, a bond that is the same in all rows."""
    keys = generator.integers(_keys(setting), size=(rows, setting.length // 2))
    signs = np.full_like(keys, setting.vocabulary - 1)
    inputs = np.stack([keys, signs], axis=2).reshape(rows, -1)
    targets = np.stack([np.full_like(keys, IGNORED), facts[keys]], axis=2).reshape(rows, -1)
    return full(inputs, targets)


def _keys(setting: Setting) -> int:
    return (setting.vocabulary - 1) // 2


def _values(setting: Setting) -> Ids:
    return np.arange(_keys(setting), setting.vocabulary - 1)


def _known(train: Examples, test: Examples) -> float:
    """Percent of the questions whose key was ever seen in training: no model can be better at the rest than chance."""
    return 100.0 * float(np.isin(test.inputs[:, ::2], train.inputs[:, ::2]).mean())


Maker = Callable[[np.random.Generator, Setting, int, bool, Ids], Examples]

MAKERS: Mapping[str, Maker] = {
    "compression": compression,
    "in-context recall": in_context_recall,
    "fuzzy recall": fuzzy_recall,
    "selective copying": selective_copying,
    "memorization": memorization,
}
BASELINES: Mapping[str, Setting] = {
    "compression": Setting("compression", length=32),
    "in-context recall": Setting("in-context recall"),
    "fuzzy recall": Setting("fuzzy recall"),
    "selective copying": Setting("selective copying", length=256),
    "memorization": Setting("memorization", vocabulary=256, length=32, rows=256),
}
_FEWER = [6_400, 3_200, 1_600, 800]
HARDER: Mapping[str, Mapping[str, list[int]]] = {
    "compression": {"vocabulary": [32, 64, 128], "length": [64, 128, 256], "rows": _FEWER},
    "in-context recall": {"vocabulary": [32, 64, 128], "length": [256, 512, 1024], "rows": _FEWER},
    "fuzzy recall": {"vocabulary": [32, 64, 128], "length": [256, 512, 1024], "rows": _FEWER},
    "selective copying": {"vocabulary": [32, 64, 128], "length": [512, 1024], "rows": _FEWER, "copied": [32, 64, 96]},
    "memorization": {"vocabulary": [512, 1024, 2048, 4096, 8192]},
}

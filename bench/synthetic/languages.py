"""Six formal languages, and what may follow each prefix: the paper's table 5.

The protocol is that of Bhattamishra et al. 2020 as used by Irie et al. 2023 (whose rows the paper's table repeats): read a word letter
by letter, after each letter say which letters may follow and whether the word may end here; a word counts only when every answer is
right. Trained on words of 2 to 50 letters (bin 0), tested on these and on 51 to 100 (bin 1). Every set that can be legal is one class, so
the answer is one choice among two to five.

Four of the languages have one word of each length: there all words of a bin are trained on or tested. Parity and shuffle-2 have many:
training, held-out and test words are all different.

What chooses the weights are never words of bin 1. They are words of bin 0 (held-out ones, or where there is one word of a length the
training words) and words "beyond": of 101 to 112 letters, longer than any that is trained on or tested. So a 100 of bin 1 is of words
that no choice has seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.synthetic.task import Examples, Task, padded

END = "$"  # in a legal set: the word may end here
BINS = {"bin0": (2, 50), "bin1": (51, 100)}
BEYOND = (101, 112)
TRAINED, HELD, TESTED = 10_000, 300, 2_000  # words of a language that has many; 10,000 and 2,000 as the protocol has them

State = tuple[int, ...]
Draw = Callable[[np.random.Generator, int], str]


@dataclass(frozen=True, slots=True)
class Language:
    """A deterministic automaton with counters, and a way to draw a word of a given length.

    `sets` are all legal sets that a non-empty prefix can have: letters in the order of the alphabet, then `END`. They are the classes.
    """

    name: str
    letters: str
    sets: tuple[str, ...]
    start: State
    step: Callable[[State, str], State]
    legal: Callable[[State], str]
    draw: Draw
    unit: int = 1  # word lengths are its multiples
    many: bool = False  # more than one word of a length

    @property
    def vocabulary(self) -> int:
        """Letters and padding as inputs, sets as targets."""
        return max(len(self.letters) + 1, len(self.sets))

    def lengths(self, low: int, high: int) -> list[int]:
        """Lengths from `low` to `high` that have words."""
        return [length for length in range(low, high + 1) if length % self.unit == 0]

    def labels(self, word: str) -> list[int]:
        """The class after each letter."""
        state, classes = self.start, []
        for letter in word:
            state = self.step(state, letter)
            classes.append(self.sets.index(self.legal(state)))
        return classes

    def encode(self, words: list[str]) -> Examples:
        """Words as rows, padded with the id after the last letter."""
        ids = [[self.letters.index(letter) for letter in word] for word in words]
        return padded(ids, [self.labels(word) for word in words], pad=len(self.letters))

    def words(self, generator: np.random.Generator, low: int, high: int, count: int) -> list[str]:
        """`count` different words, lengths drawn evenly; all words, in order, when there is one of each length."""
        lengths = self.lengths(low, high)
        if not self.many:
            return [self.draw(generator, length) for length in lengths]
        found: dict[str, None] = {}
        while len(found) < count:
            found[self.draw(generator, int(generator.choice(lengths)))] = None
        return list(found)


def _parity() -> Language:
    def draw(generator: np.random.Generator, length: int) -> str:
        bits = generator.integers(2, size=length)
        bits[-1] = bits[:-1].sum() % 2
        return "".join(map(str, bits))

    def step(state: State, letter: str) -> State:
        return ((state[0] + (letter == "1")) % 2,)

    return Language("parity", "01", ("01", "01$"), (0,), step, lambda state: "01" if state[0] else "01$", draw, many=True)


def _repeated(name: str, piece: str) -> Language:
    """Whole repetitions of a piece."""
    letters = "".join(sorted(set(piece)))

    def legal(state: State) -> str:
        return piece[state[0]] + (END if state[0] == 0 else "")

    sets = tuple(sorted({legal((place,)) for place in range(len(piece))}))
    return Language(
        name,
        letters,
        sets,
        (0,),
        lambda state, _: ((state[0] + 1) % len(piece),),
        legal,
        lambda _, length: piece * (length // len(piece)),
        unit=len(piece),
    )


def _counted(name: str, letters: str) -> Language:
    """n times each letter, one letter after the other, n ≥ 1."""

    def step(state: State, letter: str) -> State:
        place = letters.index(letter)
        return (*state[:place], state[place] + 1, *state[place + 1 :])

    def legal(state: State) -> str:
        place = max((place for place, count in enumerate(state) if count), default=-1)
        if place <= 0:
            return letters[: place + 2]
        if state[place] < state[0]:
            return letters[place]
        return (letters + END)[place + 1]

    return Language(
        name,
        letters,
        (letters[:2], *letters[1:], END),
        (0,) * len(letters),
        step,
        legal,
        lambda _, length: "".join(letter * (length // len(letters)) for letter in letters),
        unit=len(letters),
    )


def _shuffle(name: str, pairs: tuple[str, ...]) -> Language:
    """Words of balanced brackets of several kinds, each kind for itself: kinds may cross."""
    letters = "".join(pairs)

    def step(state: State, letter: str) -> State:
        place, closes = divmod(letters.index(letter), 2)
        return (*state[:place], state[place] + (-1 if closes else 1), *state[place + 1 :])

    def legal(state: State) -> str:
        open_or_close = "".join(pair if count else pair[0] for pair, count in zip(pairs, state, strict=True))
        return open_or_close + ("" if any(state) else END)

    def draw(generator: np.random.Generator, length: int) -> str:
        state, word = (0,) * len(pairs), ""
        while (left := length - len(word)) > 0:
            may = legal(state).rstrip(END)
            if sum(state) == left:  # no room for another bracket to open
                may = "".join(letter for letter in may if letters.index(letter) % 2)
            letter = may[int(generator.integers(len(may)))]
            state, word = step(state, letter), word + letter
        return word

    sets = tuple(legal(tuple((place >> kind) & 1 for kind in range(len(pairs)))) for place in range(2 ** len(pairs)))
    return Language(name, letters, sets, (0,) * len(pairs), step, legal, draw, unit=2, many=True)


LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        _parity(),
        _repeated("(aa)*", "aa"),
        _repeated("(abab)*", "abab"),
        _counted("a^n b^n", "ab"),
        _counted("a^n b^n c^n", "abc"),
        _shuffle("shuffle-2", ("()", "[]")),
    )
}


def language_task(name: str, seed: int, *, trained: int = TRAINED, held: int = HELD, tested: int = TESTED) -> Task:
    """A language with its two bins. The same seed gives the same words.

    Raises:
        ValueError: no such language.
    """
    if name not in LANGUAGES:
        raise ValueError(f"there is no language {name!r}; there are {', '.join(LANGUAGES)}")
    language = LANGUAGES[name]
    generator = np.random.default_rng([seed, list(LANGUAGES).index(name)])
    counts = {"bin0": trained + held + tested, "bin1": tested, "beyond": held}
    words = {name: language.words(generator, *lengths, counts[name]) for name, lengths in {**BINS, "beyond": BEYOND}.items()}
    bin0 = [words["bin0"][place] for place in generator.permutation(len(words["bin0"]))] if language.many else words["bin0"]
    parts = (bin0[:held], bin0[held : held + tested], bin0[held + tested :]) if language.many else (bin0,) * 3
    return Task(
        name,
        language.vocabulary,
        language.encode(parts[2]),
        {"bin0": language.encode(parts[0]), "beyond": language.encode(words["beyond"])},
        {"bin0": language.encode(parts[1]), "bin1": language.encode(words["bin1"])},
        "rows",
    )

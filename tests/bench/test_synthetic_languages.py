"""The six languages against independent definitions: which words there are, what may follow a prefix, and that bins keep apart."""

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.synthetic.languages import BEYOND, BINS, END, LANGUAGES, language_task
from bench.synthetic.task import IGNORED

MANY = [name for name in LANGUAGES if LANGUAGES[name].many]
SINGLE = [name for name in LANGUAGES if not LANGUAGES[name].many]


def balanced(word, pair):
    only = "".join(letter for letter in word if letter in pair)
    while pair in only:
        only = only.replace(pair, "")
    return not only


def counts(word, letters):
    blocks = [f"{letter}+" for letter in letters]
    return bool(re.fullmatch("".join(blocks), word)) and len({word.count(letter) for letter in letters}) == 1


DEFINED = {  # is this word of the language? Empty words count where the expression takes them
    "parity": lambda word: bool(re.fullmatch("(0*10*1)*0*", word)),
    "(aa)*": lambda word: bool(re.fullmatch("(aa)*", word)),
    "(abab)*": lambda word: bool(re.fullmatch("(abab)*", word)),
    "a^n b^n": lambda word: counts(word, "ab"),
    "a^n b^n c^n": lambda word: counts(word, "abc"),
    "shuffle-2": lambda word: balanced(word, "()") and balanced(word, "[]"),
}
REACH = {"parity": 9, "(aa)*": 12, "(abab)*": 12, "a^n b^n": 24, "a^n b^n c^n": 24, "shuffle-2": 8}  # longest words made by brute force
DEEP = {"parity": 7, "(aa)*": 10, "(abab)*": 8, "a^n b^n": 11, "a^n b^n c^n": 7, "shuffle-2": 3}  # prefixes all of whose ways end within


def all_words(name):
    letters = LANGUAGES[name].letters
    if name.startswith("a^n"):  # 3^24 words are too many to try
        found = ("".join(letter * n for letter in letters) for n in range(1, REACH[name] // len(letters) + 1))
        return {word for word in found if DEFINED[name](word)}
    return {"".join(word) for length in range(REACH[name] + 1) for word in product(letters, repeat=length) if DEFINED[name]("".join(word))}


def legal_by_force(name):
    """For each prefix of a word, what follows it in some word."""
    words, follows = all_words(name), {}
    for word in words:
        for cut in range(1, len(word) + 1):
            follows.setdefault(word[:cut], set()).add(word[cut] if cut < len(word) else END)
    return {prefix: legal for prefix, legal in follows.items() if len(prefix) <= DEEP[name]}


@pytest.mark.parametrize("name", LANGUAGES)
def test_legal_next_letters_are_those_that_some_word_goes_on_with(name):
    language, checked = LANGUAGES[name], 0
    for prefix, legal in legal_by_force(name).items():
        assert set(language.sets[language.labels(prefix)[-1]]) == legal, prefix
        checked += 1
    assert checked >= 5


@given(seed=st.integers(0, 2**32), length=st.integers(1, 50))
def test_bracket_of_a_kind_may_close_when_one_is_open_and_the_word_may_end_when_none_is(seed, length):
    word = LANGUAGES["shuffle-2"].draw(np.random.default_rng(seed), 2 * length)
    for cut, label in enumerate(LANGUAGES["shuffle-2"].labels(word), start=1):
        left = [word[:cut].count(pair[0]) - word[:cut].count(pair[1]) for pair in ("()", "[]")]
        legal = LANGUAGES["shuffle-2"].sets[label]
        assert [")" in legal, "]" in legal, END in legal] == [left[0] > 0, left[1] > 0, left == [0, 0]]
        assert {"(", "["} <= set(legal)


@pytest.mark.parametrize("name", LANGUAGES)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), size=st.integers(2, 100))
def test_every_drawn_word_is_in_the_language_and_has_its_length(name, seed, size):
    language = LANGUAGES[name]
    length = max(language.unit, size - size % language.unit)
    word = language.draw(np.random.default_rng(seed), length)
    assert len(word) == length
    assert DEFINED[name](word)
    assert END in language.sets[language.labels(word)[-1]]
    assert all(letter in language.sets[label] for letter, label in zip(word[1:], language.labels(word), strict=False))


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_class_occurs_so_that_none_is_asked_for_nothing(name):
    task = language_task(name, 0, trained=300, held=30, tested=30)
    assert set(np.unique(task.train.targets)) - {IGNORED} == set(range(len(LANGUAGES[name].sets)))
    assert task.vocabulary > task.train.inputs.max()


@pytest.mark.parametrize("name", LANGUAGES)
def test_bins_hold_the_lengths_of_the_protocol_and_do_not_overlap(name):
    task = language_task(name, 3, trained=200, held=20, tested=40)
    assert BINS == {"bin0": (2, 50), "bin1": (51, 100)}
    for parts, bins in ((task.held, {"bin0": BINS["bin0"], "beyond": BEYOND}), (task.test, BINS)):
        assert parts.keys() == bins.keys()
        for bin_, (low, high) in bins.items():
            assert low <= parts[bin_].lengths.min() <= parts[bin_].lengths.max() <= high
    assert task.train.lengths.min() >= 2
    assert task.train.lengths.max() <= 50


def rows(examples):
    return {tuple(row[:length]) for row, length in zip(examples.inputs.tolist(), examples.lengths, strict=True)}


@pytest.mark.parametrize("name", MANY)
def test_no_word_is_both_trained_and_tested_where_there_are_many(name):
    task = language_task(name, 1, trained=500, held=50, tested=100)
    parts = [task.train, *task.held.values(), *task.test.values()]
    assert [len(rows(part)) for part in parts] == [500, 50, 50, 100, 100]
    assert len(set().union(*map(rows, parts))) == 800


@pytest.mark.parametrize("name", LANGUAGES)
def test_no_word_of_bin_1_takes_part_in_training_or_in_the_choice_of_the_weights(name):
    task = language_task(name, 2, trained=200, held=40, tested=100)
    assert BEYOND[0] > BINS["bin1"][1]
    assert not rows(task.test["bin1"]) & set().union(rows(task.train), *map(rows, task.held.values()))


@pytest.mark.parametrize("name", SINGLE)
def test_bins_of_one_word_a_length_hold_them_all(name):
    task, language = language_task(name, 1), LANGUAGES[name]
    for bin_, (low, high) in BINS.items():
        assert task.test[bin_].lengths.tolist() == [length for length in range(low, high + 1) if length % language.unit == 0]
    assert rows(task.train) == rows(task.test["bin0"])


@pytest.mark.parametrize("name", LANGUAGES)
def test_only_letters_are_asked_never_the_padding(name):
    task = language_task(name, 2, trained=50, held=10, tested=10)
    for part in (task.train, *task.test.values()):
        places = np.arange(part.inputs.shape[1]) < part.lengths[:, None]
        assert (part.asked == places).all()
        assert (part.inputs[~places] == len(LANGUAGES[name].letters)).all()


def test_same_seed_gives_the_same_words_and_another_seed_others():
    one, same, other = (language_task("parity", seed, trained=100, held=10, tested=10) for seed in (4, 4, 5))
    assert (one.train.inputs == same.train.inputs).all()
    assert rows(one.train) != rows(other.train)


def test_unknown_language_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'dyck'.*parity"):
        language_task("dyck", 0)

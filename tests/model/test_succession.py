"""Answers that were replaced: a policy that changed is followed in every wording, and answers that live side by side stay. Own words."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, TINY, ReferenceKinship, bits_of, key_pair, stream, taught, unit, unit_keys
from numpy.typing import NDArray

from model import CodeBook, Lesson, Recall, State
from model.codes import code, packed_code
from model.state import Named, contradictions, initial
from model.succession import IN_A_ROW, PARENT, SUCCESSOR, SURE, Heard, add, become, find, replaced, speak_for
from model.succession import taught as corrected

Keys = NDArray[np.float32]
RECALL = Recall(TINY)
LOYAL = Recall(replace(TINY, replaced_at=1e9))  # no answer is ever replaced
SHORT = Recall(replace(TINY, window=40, frequencies=2_048))  # most of what it knows is in the middle level
SMALL = replace(TINY, code_width=16)


def cluster(seed: int, count: int, spread: float = 0.5, width: int = 384) -> Keys:
    """(count, width) wordings of one situation; their cosines are 1 / (1 + spread²) or so."""
    rng = np.random.default_rng(seed)
    return unit(unit(rng.standard_normal(width)) + spread * rng.standard_normal((count, width)) / width**0.5)


CLUSTERS, WORDINGS = 6, 8
_CLUSTERS = [cluster(seed, 2 * WORDINGS) for seed in range(CLUSTERS)]
SITUATIONS = [keys[:WORDINGS] for keys in _CLUSTERS]  # in the wordings that are taught
OTHERS = [keys[WORDINGS:] for keys in _CLUSTERS]  # in wordings that never are


def lessons_of(pairs: Iterable[tuple[NDArray[np.float32], str]], first: int = 1) -> list[Lesson]:
    return [Lesson(key, answer, 7, seq) for seq, (key, answer) in enumerate(pairs, first)]


def book_of(*answers: str) -> CodeBook:
    book = RECALL.book()
    for answer in answers:
        book.add(answer)
    return book


def said(recall: Recall, state: State, keys: Keys, *answers: str) -> list[str]:
    return [answers[best.index] for [best] in recall.answer(state, keys, book_of(*answers), top_k=1)]


def old_policy(recall: Recall) -> State:
    """Every wording of every situation, one situation after the other in turn."""
    pairs = [(SITUATIONS[place][wording], f"old {place}") for wording in range(WORDINGS) for place in range(CLUSTERS)]
    return taught(lessons_of(pairs), recall)


def new_policy(recall: Recall, corrections: int) -> State:
    """The same after so many corrections in each situation."""
    pairs = [(SITUATIONS[place][wording], f"new {place}") for wording in range(corrections) for place in range(CLUSTERS)]
    return recall.fold(old_policy(recall), lessons_of(pairs, 1_000))


ANSWERS = [f"{age} {place}" for age in ("old", "new") for place in range(CLUSTERS)]


def right_share(recall: Recall, state: State, situations: list[Keys], age: str) -> float:
    answered = [said(recall, state, keys, *ANSWERS) for keys in situations]
    return float(np.mean([answer == f"{age} {place}" for place, given in enumerate(answered) for answer in given]))


# --- a policy that changed


def corrected_only(count: int) -> list[Keys]:
    return [keys[:count] for keys in SITUATIONS]


@pytest.mark.parametrize("corrections", [2, 3])
def test_a_policy_that_changed_is_followed_in_wordings_that_were_never_corrected(corrections: int) -> None:
    assert right_share(RECALL, old_policy(RECALL), OTHERS, "old") > 0.97
    state = new_policy(RECALL, corrections)
    assert right_share(RECALL, state, corrected_only(corrections), "new") == 1
    assert right_share(RECALL, state, OTHERS, "new") > 0.97


def test_what_was_taught_in_so_many_words_stays_until_it_is_corrected_there() -> None:
    state = new_policy(RECALL, 3)
    for place, keys in enumerate(SITUATIONS):
        assert said(RECALL, state, keys[3:], *ANSWERS) == [f"old {place}"] * (WORDINGS - 3)
        RECALL.apply_(state, Lesson(keys[5], f"new {place}", 7, state.watermark + 1))
        assert said(RECALL, state, keys[5:6], *ANSWERS) == [f"new {place}"]


def test_without_a_sense_for_successions_the_wordings_that_were_never_corrected_keep_the_old_answer() -> None:
    state = new_policy(LOYAL, 2)
    assert right_share(LOYAL, state, corrected_only(2), "new") == 1
    assert right_share(LOYAL, state, OTHERS, "old") > 0.9


def test_a_correction_in_one_situation_replaces_nothing_in_the_others() -> None:
    pairs = [(SITUATIONS[0][0], "new 0"), (SITUATIONS[1][0], "old 1"), (SITUATIONS[0][1], "new 0")]
    state = RECALL.fold(old_policy(RECALL), lessons_of(pairs, 1_000))
    assert said(RECALL, state, OTHERS[0], *ANSWERS) == ["new 0"] * WORDINGS
    for place in range(1, CLUSTERS):
        assert said(RECALL, state, _CLUSTERS[place], *ANSWERS) == [f"old {place}"] * 2 * WORDINGS


def test_a_policy_that_changes_again_is_followed_to_the_last_answer() -> None:
    answers = ["policy 0", "policy 1"]
    state = old_policy(RECALL)
    for answer in answers:
        for wording in range(4):
            RECALL.apply_(state, Lesson(SITUATIONS[0][wording], answer, 7, state.watermark + 1))
            RECALL.apply_(state, Lesson(SITUATIONS[1][wording], "old 1", 7, state.watermark + 1))
        assert said(RECALL, state, OTHERS[0], *ANSWERS, *answers) == [answer] * WORDINGS
    for place in range(1, CLUSTERS):
        assert said(RECALL, state, OTHERS[place], *ANSWERS, *answers) == [f"old {place}"] * WORDINGS


def test_who_returns_to_the_old_answer_has_it_again() -> None:
    state = new_policy(RECALL, 2)
    for number, key in enumerate(SITUATIONS[0]):
        RECALL.apply_(state, Lesson(key, "old 0", 7, 2_000 + number))
    assert said(RECALL, state, _CLUSTERS[0], *ANSWERS) == ["old 0"] * 2 * WORDINGS
    fast = state.levels["fast"]
    assert int(fast["kin"][find(fast, packed_code("old 0", 128)), SUCCESSOR]) == -1
    assert said(RECALL, state, OTHERS[1], *ANSWERS) == ["new 1"] * WORDINGS, "the others stay with the new policy"


# --- answers that live side by side


@pytest.mark.parametrize("spread", [0.8, 1.2])
def test_answers_that_live_side_by_side_are_not_merged(spread: float) -> None:
    # two situations of one subject, taught in turn: each is right again and again
    rng = np.random.default_rng(3)
    subject, parts = rng.standard_normal(384), 0.7 * rng.standard_normal((2, 384))
    keys = unit(subject + parts[:, None] + 0.4 * spread * rng.standard_normal((2, 10, 384)))
    pairs = [(keys[part][wording], f"answer {part}") for wording in range(10) for part in (0, 1)]
    state = taught([*lessons_of([(key, "elsewhere") for key in SITUATIONS[0]]), *lessons_of(pairs, 100)])
    assert (state.levels["fast"]["kin"][:, SUCCESSOR] == -1).all()
    for part in (0, 1):
        assert said(RECALL, state, keys[part], "answer 0", "answer 1", "elsewhere") == [f"answer {part}"] * 10


def test_an_answer_that_appears_where_the_memory_is_unsure_replaces_nothing() -> None:
    state = old_policy(RECALL)
    far = unit_keys(1, 50)[0]
    for number, key in enumerate(unit(far + 0.01 * np.random.default_rng(4).standard_normal((2, 384)))):
        RECALL.apply_(state, Lesson(key, "another", 7, 1_000 + number))
    assert (state.levels["fast"]["kin"][:, SUCCESSOR] == -1).all()
    for place in range(CLUSTERS):
        assert said(RECALL, state, SITUATIONS[place], *ANSWERS, "another") == [f"old {place}"] * WORDINGS


def test_an_answer_that_was_not_born_of_another_never_replaces_it() -> None:
    # it goes only where it is taught
    pairs = [(key, "old 0") for key in SITUATIONS[1][:3]]
    state = RECALL.fold(old_policy(RECALL), lessons_of(pairs, 1_000))
    assert (state.levels["fast"]["kin"][:, SUCCESSOR] == -1).all()
    assert said(RECALL, state, SITUATIONS[1][:3], *ANSWERS) == ["old 0"] * 3
    assert said(RECALL, state, SITUATIONS[0], *ANSWERS) == ["old 0"] * WORDINGS


# --- the rules of replacement

STEP, THRESHOLD = 0.1, 0.3


class Family:
    """Answers by name, and what the memory is told about them."""

    def __init__(self, **parents: str | None) -> None:
        self.fast: Named = initial(SMALL).levels["fast"]
        self.rows: dict[str | None, int] = {None: -1}
        for name, parent in parents.items():
            self.rows[name] = add(self.fast, packed_code(name, SMALL.code_width), self.rows[parent], SURE)

    def correct(self, said: str | None, right: str, margin: float = 0.0, home: bool = True, lead: float = 0.0) -> None:
        corrected(self.fast, self.rows[right], Heard(self.rows[said], margin, lead, home), step=STEP, threshold=THRESHOLD)

    def evidence(self, name: str) -> float:
        return float(self.fast["evidence"][self.rows[name], 0])

    def successions(self) -> dict[str, str]:
        names = {row: name for name, row in self.rows.items()}
        old, new = replaced(self.fast)
        return {str(names[int(was)]): str(names[int(now)]) for was, now in zip(old, new, strict=True)}


def test_evidence_grows_by_margin_and_step_with_each_correction_and_shrinks_by_the_step_where_another_was_said() -> None:
    family = Family(a=None, b="a", c=None)
    family.correct("a", "b", 0.05)
    assert family.evidence("b") == pytest.approx(0.15)
    family.correct("c", "b", 0.9)
    assert family.evidence("b") == pytest.approx(0.05)
    family.correct("b", "b", 0.9)
    family.correct(None, "b")
    assert family.evidence("b") == pytest.approx(0.05)
    assert family.successions() == {}
    family.correct("a", "b", 0.1)
    assert family.successions() == {}
    family.correct("a", "b", 0.0)
    assert family.evidence("b") == pytest.approx(0.35)
    assert family.successions() == {"a": "b"}


def test_a_succession_ends_when_the_new_answer_is_taught_where_it_is_louder_by_itself_more_than_where_the_old_one_is() -> None:
    family = Family(a=None, b="a")
    family.correct("a", "b", 0.4)
    assert family.successions() == {"a": "b"}
    family.correct("b", "b", lead=-0.2)
    assert family.evidence("b") == pytest.approx(0.8), "the old answer speaks for it there"
    family.correct("b", "b", lead=-0.2, home=False)
    assert family.evidence("b") == pytest.approx(0.8)
    for margin, left in ((0.2, 0.5), (0.2, 0.2), (0.05, 0.05)):
        family.correct("b", "b", margin, lead=0.6)
        assert family.evidence("b") == pytest.approx(left)
        assert family.successions() == {"a": "b"}
    family.correct("b", "b", SURE / 2, lead=0.9)
    assert family.successions() == {"a": "b"}, "it was not sure"
    family.correct("b", "b", SURE, lead=0.01)
    assert family.successions() == {}, "however little louder than the old one"
    for _ in range(3):
        family.correct("b", "b", lead=-0.3)
    assert family.evidence("b") == pytest.approx(-0.1), "it is confirmed only where it speaks"
    for _ in range(2):
        family.correct("a", "b", 0.2)
    assert family.successions() == {"a": "b"}, "who is corrected to it again and again, has become it after all"


def test_in_a_row_a_lead_counts_as_little_as_a_margin() -> None:
    family = Family(a=None, b="a")
    heard = Heard(family.rows["b"], 0.9, 0.9, home=True, in_a_row=True)
    corrected(family.fast, family.rows["b"], heard, step=STEP, threshold=THRESHOLD)
    assert family.evidence("b") == pytest.approx(-0.2)
    corrected(family.fast, family.rows["b"], heard._replace(said=family.rows["a"]), step=STEP, threshold=THRESHOLD)
    assert family.evidence("b") == pytest.approx(0.0)


def test_an_answer_that_is_still_right_takes_the_evidence_from_all_its_children() -> None:
    family = Family(a=None, b="a", c="a", d="b")
    for child in ("b", "c"):
        family.correct("a", child, 0.1)
    family.correct("b", "d", 0.1)
    family.correct("a", "a", 0.5)
    assert (family.evidence("b"), family.evidence("c")) == (0, 0)
    assert family.evidence("d") == pytest.approx(0.2), "no child of its own"


def test_a_refuted_succession_ends_and_does_not_come_back_for_that_child() -> None:
    family = Family(a=None, b="a", c="a")
    family.correct("a", "b", 0.9)
    assert family.successions() == {"a": "b"}
    family.correct("b", "a", 0.9)
    assert family.successions() == {}
    for _ in range(20):
        family.correct("a", "b", 0.9)
    assert family.successions() == {}
    family.correct("a", "c", 0.9)
    assert family.successions() == {"a": "c"}, "another child may come"


def test_an_answer_that_is_born_where_the_memory_was_unsure_has_no_parent() -> None:
    fast = initial(SMALL).levels["fast"]
    for number, margin in enumerate((0.0, SURE / 2, SURE)):
        add(fast, packed_code(f"answer {number}", SMALL.code_width), 0 if number else -1, margin)
    assert fast["kin"][:, PARENT].tolist() == [-1, -1, 0]


def test_a_correction_away_from_home_is_no_evidence() -> None:
    family = Family(a=None, b="a")
    for _ in range(5):
        family.correct("a", "b", 0.9, home=False)
    assert (family.evidence("b"), family.successions()) == (0, {})
    family.correct("a", "b", 0.9)
    assert family.successions() == {"a": "b"}


def test_answers_that_are_taught_one_after_the_other_do_not_replace_each_other() -> None:
    # as in an import that is sorted by answer: no answer is ever right again
    rng = np.random.default_rng(12)
    subject = rng.standard_normal(384)
    parts = subject + 0.8 * rng.standard_normal((12, 1, 384))
    keys = unit(parts + 0.8 * rng.standard_normal((12, 8, 384)))
    names = [f"answer {number}" for number in range(12)]
    state = taught(lessons_of((key, name) for name, own in zip(names, keys, strict=True) for key in own))
    for name, own in zip(names, keys, strict=True):
        assert said(RECALL, state, own, *names) == [name] * 8


def test_two_agents_who_contradict_each_other_in_one_situation_change_nothing_elsewhere() -> None:
    state = old_policy(RECALL)
    for turn in range(6):
        RECALL.apply_(state, Lesson(SITUATIONS[0][0], ("new 0", "old 0")[turn % 2], 7, 1_000 + turn))
    RECALL.apply_(state, Lesson(SITUATIONS[0][0], "new 0", 7, 2_000))
    assert said(RECALL, state, SITUATIONS[0][:1], *ANSWERS) == ["new 0"]
    assert (state.levels["fast"]["kin"][:, SUCCESSOR] == -1).all()


def test_facts_of_one_kind_stay_beside_each_other() -> None:
    # as native languages: few answers, each right again and again, in situations that resemble each other
    rng = np.random.default_rng(9)
    keys = unit(rng.standard_normal(384) + 1.1 * rng.standard_normal((120, 384)))
    answers = [f"answer {number}" for number in rng.integers(6, size=120)]
    state = taught(lessons_of(zip(keys, answers, strict=True)))
    told = said(RECALL, state, keys[-60:], *(f"answer {number}" for number in range(6)))
    assert told == answers[-60:]


def test_two_lessons_in_a_new_bank_keep_both_their_answers() -> None:
    for cosine in (0.5, 0.7, 0.9, 0.97):
        first, second = key_pair(cosine, 70)
        state = taught(lessons_of([(first, "a"), (second, "b")]))
        assert said(RECALL, state, np.stack([first, second]), "a", "b") == ["a", "b"], cosine


def test_noise_does_not_add_up_along_a_long_chain() -> None:
    scores = np.full(60, 0.03, np.float32)
    scores[59], scores[3] = 0.5, 0.2
    spoken = speak_for(scores, np.arange(59), np.full(59, 59), noise=0.03)
    assert spoken[59] == pytest.approx(0.7), "only what says more than noise"


def test_an_answer_has_one_successor_until_that_is_refuted() -> None:
    family = Family(a=None, b="a", c="a")
    family.correct("a", "b", 0.9)
    for _ in range(5):
        family.correct("a", "c", 0.9)
    assert family.successions() == {"a": "b"}


def test_a_chain_of_successions_leads_to_its_last_answer_and_a_refuted_link_takes_out_what_lies_before() -> None:
    family = Family(a=None, b="a", c="b", d="c")
    for old, new in (("a", "b"), ("b", "c"), ("c", "d")):
        family.correct(old, new, 0.9)
    assert family.successions() == {"a": "d", "b": "d", "c": "d"}
    assert become(family.fast).tolist() == [3, 3, 3, 3]
    family.correct("d", "b", 0.9)
    assert family.successions() == {"a": "b", "c": "d"}


NAMES = [f"answer {number}" for number in range(6)]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.none() | st.sampled_from(NAMES),
        st.sampled_from([0.0, 0.15, 0.6]),
        st.booleans(),
        st.sampled_from([-0.3, 0.05, 0.4]),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(EVENTS, st.sampled_from([0.05, 0.3]), st.sampled_from([0.0, 0.1]))
def test_no_history_makes_a_circle_and_all_is_as_in_the_plain_rules(
    events: list[tuple[str, str | None, float, bool, float, bool]], threshold: float, step: float
) -> None:
    levels, kinship, rows = initial(SMALL).levels, ReferenceKinship(step, threshold), {None: -1}
    fast = levels["fast"]
    for right, heard, margin, home, lead, in_a_row in events:
        wrong = heard if heard in rows else None
        if right not in rows:
            wrong = None if wrong == right else wrong
            rows[right] = add(fast, packed_code(right, SMALL.code_width), rows[wrong], margin)
        else:
            corrected(fast, rows[right], Heard(rows[wrong], margin, lead, home, in_a_row), step=step, threshold=threshold)
        kinship.learn(right, wrong, margin, home, lead, IN_A_ROW if in_a_row else math.inf)

        assert not list(contradictions(SMALL, levels))
        assert become(fast).tolist() == [rows[kinship.become(name)] for name in rows if name is not None]
        assert fast["kin"].tolist() == [[rows[own.parent], rows[own.successor]] for own in kinship.kin.values()]
        assert fast["evidence"][:, 0].tolist() == pytest.approx([own.evidence for own in kinship.kin.values()], abs=1e-5)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(1, 50), st.integers(0, 10**6))
def test_become_is_the_end_of_every_chain(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order, fast = rng.permutation(count), initial(SMALL).levels["fast"]
    for number in range(count):
        add(fast, packed_code(f"answer {number}", SMALL.code_width), -1, 0.0)
    for place in range(count - 1):  # to one that is later in some order, or to none
        if rng.random() < 0.7:
            fast["kin"][order[place], SUCCESSOR] = int(order[rng.integers(place + 1, count)])
    for row, last in enumerate(become(fast)):
        at = row
        while int(fast["kin"][at, SUCCESSOR]) >= 0:
            at = int(fast["kin"][at, SUCCESSOR])
        assert last == at
    old, new = replaced(fast)
    assert (fast["kin"][:, SUCCESSOR] >= 0).nonzero().flatten().tolist() == old.tolist()
    assert new.tolist() == become(fast)[old].tolist()


def test_an_answer_is_found_by_its_code_in_the_order_of_first_lessons() -> None:
    fast = initial(TINY).levels["fast"]
    assert find(fast, packed_code("a", 128)) is None
    assert [add(fast, packed_code(text, 128), -1, 0.0) for text in "abc"] == [0, 1, 2]
    assert [find(fast, packed_code(text, 128)) for text in "cabd"] == [2, 0, 1, None]
    assert fast["kin"].tolist() == [[-1, -1]] * 3
    assert (PARENT, SUCCESSOR) == (0, 1)


# --- speaking for another


def test_what_was_replaced_speaks_for_what_it_has_become_where_it_speaks_at_all() -> None:
    scores = np.array([0.5, -0.2, 0.1, 0.3], np.float32)
    given = scores.copy()
    moved = speak_for(scores, np.array([0, 1, 3]), np.array([2, 2, 2]), 0.0)
    assert moved == pytest.approx([0, -0.2, 0.9, 0])
    assert (scores == given).all(), "the scores that were given stay"
    assert speak_for(scores, np.array([], np.intp), np.array([], np.intp), 0.0) == pytest.approx(given)


def voice(state: State, key: NDArray[np.float32], answer: str) -> float:
    """What the read-out says of an answer itself, for nobody else."""
    return float(SHORT.read(state, key) @ code(answer, TINY.code_width))


def test_a_successor_that_the_book_lacks_leaves_its_predecessor_its_voice() -> None:
    state = new_policy(SHORT, 2)
    kept = [answer for answer in ANSWERS if answer != "new 0"]
    for key in SITUATIONS[0]:
        [candidates] = SHORT.answer(state, key[None], book_of(*kept), top_k=len(kept))
        [score] = [c.score for c in candidates if kept[c.index] == "old 0"]
        assert score == pytest.approx(voice(state, key, "old 0"), abs=1e-5)
    assert max(voice(state, key, "old 0") for key in SITUATIONS[0]) > 0.3, "there is something to be said"
    assert said(SHORT, state, SITUATIONS[1][:2], *kept) == ["new 1"] * 2


def test_a_predecessor_that_the_book_lacks_says_nothing() -> None:
    state = new_policy(RECALL, 2)
    kept = [answer for answer in ANSWERS if answer != "old 0"]
    [[best]] = RECALL.answer(state, SITUATIONS[0][:1], book_of(*kept), top_k=1)
    assert kept[best.index] == "new 0"
    assert best.score == pytest.approx(float(RECALL.read(state, SITUATIONS[0][0]) @ code("new 0", 128)), abs=1e-5)


def test_a_successor_that_the_mask_bars_leaves_its_predecessor_its_voice_and_is_not_given() -> None:
    state, barred = new_policy(SHORT, 2), ANSWERS.index("new 0")
    mask = np.arange(len(ANSWERS)) != barred
    for key in SITUATIONS[0]:
        [candidates] = SHORT.answer(state, key[None], book_of(*ANSWERS), top_k=len(ANSWERS), mask=mask)
        scores = {ANSWERS[c.index]: c.score for c in candidates}
        assert scores.keys() == {*ANSWERS} - {"new 0"}
        assert scores["old 0"] == pytest.approx(voice(state, key, "old 0"), abs=1e-5)
        assert scores["old 1"] < 0.1, "whose successor is admitted"


def test_a_predecessor_that_the_mask_bars_speaks_for_nobody() -> None:
    # as when all that was taught of it is forgotten
    state, book = new_policy(RECALL, 2), book_of(*ANSWERS)
    mask = np.array([answer != "old 0" for answer in ANSWERS])
    for key in OTHERS[0]:
        [candidates] = RECALL.answer(state, key[None], book, top_k=len(ANSWERS), mask=mask)
        [score] = [c.score for c in candidates if ANSWERS[c.index] == "new 0"]
        assert score == pytest.approx(float(RECALL.read(state, key) @ code("new 0", TINY.code_width)), abs=1e-5)
    assert said(RECALL, state, OTHERS[1], *ANSWERS) == ["new 1"] * WORDINGS


def test_a_replaced_answer_stays_below_its_successor_where_it_is_only_inferred() -> None:
    state = new_policy(RECALL, 2)
    for place, keys in enumerate(OTHERS):
        for candidates in RECALL.answer(state, keys, book_of(*ANSWERS), top_k=len(ANSWERS)):
            order = [ANSWERS[c.index] for c in candidates]
            assert order.index(f"new {place}") < order.index(f"old {place}")


# --- R1


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 10**6))
def test_equal_histories_have_equal_bits_with_all_their_successions(count: int, cut: int, seed: int) -> None:
    config = replace(MINUTE, replaced_at=0.05)
    lessons = stream(config, count, seed, answers=6)
    whole = taught(lessons, Recall(config))
    assert bits_of(Recall(config).fold(taught(lessons[:cut], Recall(config)), lessons[cut:])) == bits_of(whole)
    renumbered = taught([replace(lesson, seq=lesson.seq + 5) for lesson in lessons], Recall(config))
    assert renumbered.digest() == whole.digest()


def test_a_copy_of_a_state_learns_its_own_answers() -> None:
    state = new_policy(RECALL, 1)
    before = bits_of(state)
    after = RECALL.update(state, Lesson(SITUATIONS[0][5], "newer still", 7, 5_000))
    assert bits_of(state) == before
    assert len(after.levels["fast"]["kin"]) == len(state.levels["fast"]["kin"]) + 1


# --- own words

WORDS, NEAR_WORDS = key_pair(0.9, 60)


def with_words(words: Keys | None, config_words: float = 0.5) -> tuple[Recall, State]:
    recall = Recall(replace(TINY, own_words=config_words))
    return recall, recall.update(old_policy(recall), Lesson(unit_keys(1, 61)[0], "freeze the card", 7, 1_000, words))


def test_an_answer_is_found_by_its_own_words_before_a_similar_situation_was_taught() -> None:
    recall, state = with_words(WORDS)
    [[best, second]] = recall.answer(state, NEAR_WORDS[None], book_of(*ANSWERS, "freeze the card"), top_k=2)
    assert best.index == len(ANSWERS)
    assert best.score > 2 * second.score
    recall, untold = with_words(None)
    [[best]] = recall.answer(untold, NEAR_WORDS[None], book_of("freeze the card"), top_k=1)
    assert best.score < 0.15


def test_own_words_are_taught_at_their_share_of_the_rate_and_only_by_memories_that_want_them() -> None:
    for share in (0.25, 0.5, 1.0):
        recall, state = with_words(WORDS, share)
        [[best]] = recall.answer(state, WORDS[None], book_of("freeze the card"), top_k=1)
        rate = TINY.rate * share
        assert best.score == pytest.approx(rate / (1 + rate), abs=0.1)
    [told, untold] = (bits_of(with_words(words, 0.0)[1]) for words in (WORDS, None))
    assert told == untold


def test_own_words_are_taught_with_the_first_lesson_of_an_answer_only() -> None:
    recall, state = with_words(WORDS)
    again = Lesson(unit_keys(2, 62)[1], "freeze the card", 7, 2_000)
    assert bits_of(recall.update(state, replace(again, words=NEAR_WORDS))) == bits_of(recall.update(state, again))
    recall, untold = with_words(None)
    assert bits_of(recall.update(untold, replace(again, words=WORDS))) == bits_of(recall.update(untold, again))
    fast, earlier = state.levels["fast"], untold.levels["fast"]
    assert int(fast["marks"][0, 0]) == int(earlier["marks"][0, 0]) + 1


def test_own_words_give_way_to_what_is_taught_at_them() -> None:
    recall, state = with_words(WORDS)
    state = recall.update(state, Lesson(WORDS, "old 3", 7, 2_000))
    assert said(recall, state, WORDS[None], *ANSWERS, "freeze the card") == ["old 3"]
    assert torch.equal(state.levels["fast"]["answers"][state.levels["fast"]["rates"] == 1.5], torch.tensor([3], dtype=torch.int32))

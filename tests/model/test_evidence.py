"""Facts that differ only in what they are about are told apart; where nothing is named the memory's own confidence stands."""

from dataclasses import replace

import pytest

from model import Candidate
from model.encoder import find_weights, tokenizer_in
from model.evidence import confidence, overlap
from model.wording import Words

TAUGHT = "The mother tongue of Danielle Darrieux is"
NEAR = Candidate(0, 0.3, 0.9, "fast", 0.2)


@pytest.fixture(scope="module")
def between():
    words = Words(tokenizer_in(find_weights(None)))
    return lambda asked, taught=TAUGHT: overlap(words.of(asked), words.of(taught))


def sure(shared, candidate=NEAR, cosine=0.75, corrections=5):
    return confidence(candidate, cosine, corrections, shared)


def test_another_subject_is_doubted_and_another_wording_believed(between):
    reworded = sure(between("Where Danielle Darrieux is from, people speak the language of"))
    other = sure(between("The mother tongue of Michel Rocard is"))
    assert other < 0.1 < 0.8 < reworded


def test_case_of_a_question_does_not_matter(between):
    assert sure(between("where danielle darrieux is from, people speak the language of")) > 0.8


@pytest.mark.parametrize("believed", [0.05, 0.9])
def test_a_correction_that_names_nothing_leaves_the_confidence_as_it_was(between, believed):
    shared = between("i lost my card in Paris", "my card was stolen")
    assert sure(shared, replace(NEAR, confidence=believed)) == believed


def test_number_that_differs_is_a_difference(between):
    assert sure(between("turn off alarm 8", "turn off alarm 7")) < sure(between("turn off alarm 7", "turn off alarm 7"))


def test_confidence_grows_with_score_of_the_same_texts(between):
    shared = between("People around Danielle Darrieux speak")
    low, high = (sure(shared, Candidate(0, score, 0.5, "fast", score)) for score in (0.05, 0.4))
    assert low < high


def test_nothing_in_common_and_nothing_at_all_have_a_confidence(between):
    for asked, taught in (("", TAUGHT), ("weather", TAUGHT), ("", ""), ("?", "!")):
        assert 0.0 <= sure(between(asked, taught)) <= 1.0

"""What a text says in so many words: rare pieces weigh, names are seen, and it is read as the encoder reads it."""

import pytest

from model.encoder import find_weights, tokenizer_in
from model.wording import RARITY, VOCABULARY, Words, named_spans


@pytest.fixture(scope="module")
def words():
    return Words(tokenizer_in(find_weights(None)))


def named(text):
    return [text[start:stop] for start, stop in named_spans(text)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The mother tongue of Danielle Darrieux is", ["Danielle", "Darrieux"]),
        ("Danielle Darrieux was born in", ["Danielle", "Darrieux"]),
        ("How do I change my PIN?", ["PIN"]),
        ("Where do I change it? My card is lost. Send a new one", []),
        ("transfer money to Spain", ["Spain"]),
        ("Turn off alarm 7", ["7"]),
        ("Move build_report.py to a well-known place", ["build_report.py"]),
        ("", []),
        ("?!", []),
    ],
)
def test_names_are_seen_by_how_they_are_written(text, names):
    assert named(text) == names


def test_rare_pieces_weigh_more_than_common_ones(words):
    assert len(RARITY) == VOCABULARY
    (the,), (tongue,) = words.of("the").pieces, words.of("tongue").pieces
    assert RARITY[the] == 0.0 < RARITY[tongue] < max(RARITY)
    (seven,) = words.of("7").pieces
    assert RARITY[seven] > 0.0, "a number is no filler"


def test_pieces_are_those_of_the_tokenizer_without_its_marks(words):
    wording = words.of("The mother tongue of Danielle Darrieux is")
    assert wording.pieces == words.of("the MOTHER tongue of danielle darrieux is").pieces
    assert wording.names < wording.pieces
    assert words.of("danielle darrieux").pieces == wording.names
    assert words.of("").pieces == frozenset()
    long = words.of("palimpsest " * 1_000)
    assert long.pieces == words.of("palimpsest").pieces

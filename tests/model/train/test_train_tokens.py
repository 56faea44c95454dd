"""Tokenizers: exact both ways, known bytes behind every id, clear refusals."""

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from train_little import TEXT

from model.train.tokens import PIECE, BpeTokenizer, ByteTokenizer, CharTokenizer, build_tokenizer, decode, load_tokenizer, sizes, train_bpe

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
BPE = train_bpe([TEXT], 300)


@given(ANY_TEXT)
def test_bytes_round_trip_exactly(text):
    tokenizer = ByteTokenizer()
    assert decode(tokenizer, tokenizer.encode(text).tolist()) == text
    assert bytes(tokenizer.encode(text).tolist()) == text.encode()


@given(ANY_TEXT)
def test_characters_round_trip_exactly(text):
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert decode(tokenizer, ids.tolist()) == text
    assert len(ids) == len(text)


@given(ANY_TEXT)
def test_bpe_round_trips_text_that_it_was_not_trained_on(text):
    assert decode(BPE, BPE.encode(text).tolist()) == text


@given(ANY_TEXT)
def test_sizes_of_tokens_add_up_to_bytes_and_characters_of_the_text(text):
    for tokenizer in (ByteTokenizer(), CharTokenizer(text), BPE):
        of_bytes, of_characters = sizes(tokenizer)
        ids = tokenizer.encode(text).long()
        assert int(of_bytes[ids].sum()) == len(text.encode())
        assert int(of_characters[ids].sum()) == len(text)


def test_bpe_shortens_what_it_was_trained_on():
    assert len(BPE.encode(TEXT)) < len(TEXT) / 3
    assert len(BPE.pieces) == 300


def test_long_text_is_encoded_piece_by_piece_without_loss():
    text = (TEXT * (PIECE // len(TEXT) + 1)) + "x" * (PIECE + 7)
    assert decode(BPE, BPE.encode(text).tolist()) == text


@pytest.mark.parametrize("spec", ["byte", "char", "bpe:280"])
def test_saved_tokenizer_gives_the_same_ids(spec, tmp_path):
    tokenizer = build_tokenizer(spec, [TEXT], [TEXT])
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert torch.equal(again.encode(TEXT), tokenizer.encode(TEXT))
    assert again.pieces == tokenizer.pieces


def test_saved_bpe_is_a_file_of_the_tokenizers_library(tmp_path):
    BPE.save(tmp_path / "tokenizer.json")
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(TEXT).ids == BPE.encode(TEXT).tolist()


def test_unknown_character_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 3 is not among the 3 of the alphabet"):
        CharTokenizer("caf").encode("café")
    with pytest.raises(ValueError, match="among the 0 of the alphabet"):
        CharTokenizer("").encode("a")


def test_half_a_surrogate_pair_is_refused():
    for tokenizer in (ByteTokenizer(), CharTokenizer("a"), BPE):
        with pytest.raises(ValueError, match=r"half a character \(U\+D800\) at position 1"):
            tokenizer.encode("a\ud800")


@pytest.mark.parametrize("spec", ["words", "bpe", "bpe:x", "byte:3", "bpe:255", ""])
def test_unknown_tokenizer_is_refused_by_name(spec):
    with pytest.raises(ValueError, match="tokenizer"):
        build_tokenizer(spec, [TEXT], [TEXT])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kind": "morse"}', '{"model": {"type": "no"}}'])
def test_damaged_tokenizer_file_is_refused(content, tmp_path):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(tmp_path / "t.json")


def test_sample_that_ends_inside_a_character_shows_it():
    assert decode(ByteTokenizer(), list("é".encode())[:1]) == "�"


def test_merges_come_from_training_text_alone():
    tokenizer = build_tokenizer("bpe:270", ["ab" * 50, "zq" * 50], ["ab" * 50])
    assert isinstance(tokenizer, BpeTokenizer)
    merged = [piece for piece in tokenizer.pieces if len(piece) > 1]
    assert merged
    assert not any(b"z" in piece or b"q" in piece for piece in merged)

"""Response codes and the code book: derived from the text alone, nearly orthogonal, bounded."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import reference_code

from model import CodeBook
from model.codes import code, packed_code, scores, unpacked

TEXTS = [f"answer {number}" for number in range(1_000)] + [f"Zürich, {number} 😀" for number in range(1_000)]


def book_of(texts: list[str], width: int = 256) -> CodeBook:
    book = CodeBook(width, 4_096)
    for text in texts:
        book.add(text)
    return book


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.text(), st.sampled_from([8, 16, 128, 256, 1_024]))
def test_a_code_is_the_bits_of_shake_256_as_signs(text: str, width: int) -> None:
    vector = code(text, width)

    assert vector.shape == (width,)
    assert vector.dtype == np.float32
    assert np.abs(vector - reference_code(text, width)).max() < 1e-7
    assert len(packed_code(text, width)) == width // 8


def test_codes_stay_what_they_are_for_ever() -> None:
    total = hashlib.sha256()
    for text in ("", "change_pin", "Zürich", "😀", "a" * 10_000):
        total.update(code(text, 256).astype("<f4").tobytes())
    assert total.hexdigest() == "a42e3238b4cdf08530940d379fc3ae49e665250aa295de3593833f692079c30e"


def test_codes_have_unit_length_and_two_thousand_texts_are_nearly_orthogonal() -> None:
    codes = np.stack([code(text, 256) for text in TEXTS])
    products = codes @ codes.T
    between = products[np.triu_indices(len(TEXTS), 1)]

    assert np.abs(np.diag(products) - 1).max() < 1e-6
    assert abs(between.mean()) < 1e-3
    assert between.std() == pytest.approx(1 / 16, rel=0.02)  # 1 / √width
    assert np.abs(between).max() < 7 / 16  # seven standard deviations, two million pairs


def test_scores_are_the_inner_products_with_the_codes() -> None:
    book, codes = book_of(TEXTS[::3]), np.stack([code(text, 256) for text in TEXTS[::3]])
    rng = np.random.default_rng(5)
    for out in (rng.standard_normal((8, 256)) * rng.uniform(0.01, 3, (8, 1))).astype(np.float32):
        assert np.abs(book.scores(out) - codes.astype(np.float64) @ out).max() < 3e-6 * np.linalg.norm(out)
    assert book.scores(codes[17]).argmax() == 17
    assert book.scores(codes[17])[17] == pytest.approx(1, abs=1e-6)


def test_a_score_does_not_depend_on_what_else_is_in_the_book_or_asked() -> None:
    whole, out = book_of(TEXTS), np.random.default_rng(6).standard_normal(256).astype(np.float32)
    scores = whole.scores(out)

    for count in (1, 2, 7, 64, 65, 1_999):
        assert (book_of(TEXTS[:count]).scores(out) == scores[:count]).all()
    for indices in ([3], [1_999, 0], list(range(0, 2_000, 7))):
        assert (whole.scores_of(np.array(indices), out) == scores[indices]).all()


def test_unpacked_codes_are_the_codes_and_have_the_scores_of_the_book() -> None:
    packed = np.stack([packed_code(text, 256) for text in TEXTS[:300]])
    assert (unpacked(packed) == np.stack([code(text, 256) for text in TEXTS[:300]])).all()
    assert (unpacked(packed.reshape(3, 100, 32)) == unpacked(packed).reshape(3, 100, 256)).all()
    out = np.random.default_rng(8).standard_normal(256).astype(np.float32)
    assert (scores(packed, out) == book_of(TEXTS[:300]).scores(out)).all()
    assert scores(packed[:0], out).shape == (0,)


def test_a_response_has_the_place_where_it_was_taken_in_and_an_unknown_one_has_none() -> None:
    book = book_of(TEXTS)
    assert [book.place(text) for text in TEXTS] == list(range(len(TEXTS)))
    assert book.place("never heard of") is None
    asked = [TEXTS[1_500], "never heard of", TEXTS[0], TEXTS[0]]
    assert book.places(np.stack([packed_code(text, 256) for text in asked])).tolist() == [1_500, -1, 0, 0]
    assert book.places(np.zeros((0, 32), np.uint8)).tolist() == []
    assert CodeBook(256, 10).place("a") is None


def test_of_equal_responses_the_newest_is_found() -> None:
    book = book_of(["a", "b", "a"])
    assert (book.place("a"), book.place("b"), len(book)) == (2, 1, 3)


def test_indices_are_given_in_order_and_the_full_book_refuses_and_stays_as_it_is() -> None:
    book = CodeBook(128, 100)
    assert [book.add(f"answer {number}") for number in range(100)] == list(range(100))
    out = code("answer 99", 128)
    before = book.scores(out)

    with pytest.raises(ValueError, match="at most 100 distinct responses"):
        book.add("one more")

    assert len(book) == 100
    assert (book.scores(out) == before).all()
    assert book.nbytes == 100 * 128 // 8, "the book holds no row beyond its limit"


def test_an_empty_book_scores_nothing() -> None:
    assert CodeBook(256, 10).scores(code("a", 256)).shape == (0,)
    assert len(CodeBook(256, 10)) == 0

"""Text: read exactly, split by position, domains by folder; damage is named."""

import gzip
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.train.corpus import CorpusError, Domain, open_corpus, read, split


def test_plain_xz_and_gz_hold_the_same_text_and_keep_newlines(tmp_path):
    text = "one\r\ntwo\rthree\nÄ ∇\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "b.md.xz").write_bytes(lzma.compress(text.encode()))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(text.encode()))
    assert [read(tmp_path / name) for name in ("a.txt", "b.md.xz", "c.txt.gz")] == [text] * 3


def test_folder_gives_a_domain_for_each_sub_folder_and_file(tmp_path):
    (tmp_path / "books" / "deep").mkdir(parents=True)
    for name, text in {"books/b.txt": "B", "books/deep/a.txt": "A", "peps.txt": "P", "notes.bin": "x", ".hidden.txt": "h"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "rust.md.xz").write_bytes(lzma.compress(b"R"))
    domains = open_corpus([str(tmp_path)])
    assert {domain.name: domain.text() for domain in domains} == {"books": "BA", "peps": "P", "rust": "R"}


def test_named_places_join_into_one_domain(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    (domain,) = open_corpus([f"both={tmp_path / 'a.txt'}", f"both={tmp_path / 'b.txt'}"])
    assert (domain.name, domain.text()) == ("both", "ab")


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    (tmp_path / "late.txt").write_text("early")
    (domain,) = open_corpus([str(tmp_path / "late.txt")])
    (tmp_path / "late.txt").write_text("late")
    assert domain.text() == "late"


@given(st.text(max_size=200), st.floats(0.01, 0.99))
def test_training_and_validation_text_together_are_the_text(text, validation):
    training, held_out = split(text, validation)
    assert training + held_out == text
    assert abs(len(held_out) - validation * len(text)) <= 1


def test_default_split_is_that_of_the_published_shakespeare_setting():
    assert [len(part) for part in split("x" * 1_115_394, 0.1)] == [1_003_854, 111_540]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", b"ok \xff", "is not UTF-8 text: byte 3 is 0xff"),
        ("a.txt.xz", lzma.compress(b"text" * 99)[:-9], "cannot be read"),
        ("a.txt.xz", b"no xz", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"text" * 99, mtime=0)[:-9], "cannot be read"),
        ("a.txt.gz", b"no gz", "cannot be read"),
        ("a.txt", b"", "has no text"),
    ],
)
def test_damaged_file_is_named(name, data, says, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=says) as caught:
        Domain("d", (tmp_path / name,)).text()
    assert name in str(caught.value)


def test_missing_place_and_folder_without_text_are_named(tmp_path):
    with pytest.raises(CorpusError, match=r"no file or folder .*absent"):
        open_corpus([str(tmp_path / "absent")])
    with pytest.raises(CorpusError, match="holds no text"):
        open_corpus([str(tmp_path)])

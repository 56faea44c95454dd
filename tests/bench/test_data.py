"""Reading the data sets, and what is said when they are not there."""

import gzip
import os

import pytest
from bench_data import write_all

from bench.data import DEFAULT, SOURCES, DataAbsent, directory, load, load_all

ROWS = [("Where's my card, please?", "card_arrival"), ('It said "declined",\ntwice', "declined"), ("été", "card_arrival")]


@pytest.mark.parametrize("name", list(SOURCES))
def test_rows_are_read_in_file_order(tmp_path, name):
    write_all(tmp_path, ROWS)
    assert list(load(name, tmp_path).rows) == ROWS


def test_out_of_scope_rows_of_clinc150_are_not_read(tmp_path):
    write_all(tmp_path, ROWS)
    assert "oos" not in {intent for _, intent in load("clinc150", tmp_path).rows}


def test_absent_files_are_all_named_with_their_public_origin(tmp_path):
    write_all(tmp_path, ROWS)
    (tmp_path / SOURCES["banking77"].file).unlink()
    (tmp_path / SOURCES["hwu64"].file).unlink()
    with pytest.raises(DataAbsent) as absent:
        load_all(list(SOURCES), tmp_path)
    said = str(absent.value)
    for expected in (str(tmp_path), "PALIMPSEST_DATA", "PolyAI-LDN/task-specific-datasets", "Few-Shot-Intent-Detection", "seq.in"):
        assert expected in said
    assert "oos-eval" not in said  # that one is there


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        gzip.compress(b"text,category\n", mtime=0),
        gzip.compress(b"a,b\n1,2\n"),
        gzip.compress(b"text,category\n ,x\n"),
        gzip.compress(b"\xff"),
    ],
    ids=["not gzip", "no rows", "other columns", "no text", "not UTF-8"],
)
def test_unreadable_file_is_told_with_its_path_and_its_origin(tmp_path, content):
    path = tmp_path / SOURCES["banking77"].file
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataAbsent, match=r"banking77_train\.csv\.gz[\s\S]*PolyAI-LDN"):
        load("banking77", tmp_path)


def test_directory_is_the_variable_else_beside_the_repository(tmp_path):
    assert directory({"PALIMPSEST_DATA": str(tmp_path)}) == tmp_path
    assert directory({}) == directory({"PALIMPSEST_DATA": ""}) == DEFAULT
    assert DEFAULT.parts[-2:] == ("shared", "data")


@pytest.mark.parametrize(("name", "rows", "intents"), [("banking77", 10_003, 77), ("clinc150", 15_000, 150), ("hwu64", 8_954, 64)])
def test_public_files_have_the_rows_they_are_known_for(tmp_path, name, rows, intents):
    below = directory(os.environ)
    if not (below / SOURCES[name].file).is_file():
        with pytest.raises(DataAbsent):
            load(name, below)
        return
    data = load(name, below)
    assert (len(data.rows), len({intent for _, intent in data.rows})) == (rows, intents)

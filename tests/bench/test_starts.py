"""Nobody is measured on what its encoder has learned from: sets are played with a start that left them out, rivals have none."""

import hashlib
import json
import os
from pathlib import Path

import click
import pytest

from bench.cluster.running import Shape, cluster
from bench.cluster.servers import NotStarted
from bench.data import directory
from bench.runs import encode_sets, to_encode
from bench.scoreboard.sources import cheat_sheet, facts, intents
from bench.scoreboard.supersession import corrected
from bench.starts import EVERYTHING, WITHOUT, encoder_of, settings_of, unseen
from bench.vectors import encoders_of
from model.encoder import PINNED, EncoderRefused
from model.start.shipped import FORMER, SHIPPED, name_of
from model.start.sources import Sources, bag
from service.processes.parts import encoder_digest
from service.settings import Settings

ASKED_FOR = Settings(encoder_start="shipped")


@pytest.mark.parametrize("name", WITHOUT)
def test_a_set_is_played_with_a_start_that_left_it_out(name):
    chosen = unseen(ASKED_FOR, name)
    with open(chosen.encoder_start, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == chosen.encoder_start_sha256
    with open(chosen.encoder_start.replace(".safetensors", ".json")) as file:
        record = json.load(file)
    shipped = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert name in record["left_out"]
    assert record["recipe"] == shipped["recipe"]  # judged is the recipe that ships
    assert name not in record["learned_from"]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (ASKED_FOR, "counterfact"),
        (Settings(), "hwu64"),
        (Settings(encoder_start="/own", encoder_start_sha256="f" * 64), "hwu64"),
    ],
    ids=["nothing learned from it", "none", "own"],
)
def test_a_choice_is_taken_as_it_is(settings, name):
    assert unseen(settings, name) == settings


@pytest.mark.skipif(not directory(os.environ).is_dir(), reason="the public data sets are not there")
def test_what_ships_was_learned_from_these_files_and_from_nothing_that_facts_supersession_or_test_rows_ask():
    below, record = directory(os.environ), json.loads(SHIPPED.with_suffix(".json").read_text())
    sources = Sources(below)
    domains = sources.domains()
    assert record["files"] == sources.digests()
    assert record["learned_from"] == {domain.name: {"groups": len(domain.groups), "texts": domain.texts} for domain in domains}
    learned = {bag(text) for domain in domains for group in domain.groups for text in group}
    learned |= {bag(text) for family in sources.passages() for wordings in family for text in wordings}
    asked = [text for name in ("banking77", "clinc150", "hwu64") for text, _ in intents(name, below).holds.test]
    asked += [
        text for name in ("counterfact", "zsre") for edit in facts(name, below).holds for text in (edit.prompt, edit.rephrase, edit.near)
    ]
    asked += [version.wording for item in corrected(cheat_sheet(below).holds) for version in item]
    assert [text for text in asked if text and bag(text) in learned] == []


def test_a_board_of_everything_is_played_without_a_start_and_a_start_that_is_not_there_is_told(tmp_path, monkeypatch):
    assert unseen(ASKED_FOR, EVERYTHING).encoder_start == "none"
    monkeypatch.setattr("bench.starts.STARTS", tmp_path)
    with pytest.raises(EncoderRefused, match="without-banking77-facts-hwu64"):
        unseen(ASKED_FOR, "hwu64")


def test_of_a_former_start_no_set_that_it_has_learned_from_is_played():
    former = Settings(encoder_start=name_of(FORMER[0]))
    for name in WITHOUT:
        with pytest.raises(EncoderRefused, match=f"{former.encoder_start} has learned from {name}.*START=shipped"):
            unseen(former, name)
    assert unseen(former, EVERYTHING).encoder_start == "none"
    assert unseen(former, "counterfact") == former


def test_where_the_start_is_left_to_the_banks_a_bench_has_that_of_new_ones():
    asked = {"PALIMPSEST_ENCODER_START": "auto"}
    assert settings_of(asked) == ASKED_FOR
    assert settings_of(asked | {"PALIMPSEST_ENCODER_SHA256": "f" * 64}).encoder_start == "none"
    assert unseen(settings_of(asked), "hwu64") == unseen(ASKED_FOR, "hwu64")
    assert encoder_of(asked).digest == encoder_digest(ASKED_FOR)


def test_settings_that_give_no_encoder_end_a_bench_in_one_clear_message():
    with pytest.raises(click.ClickException, match="PALIMPSEST_ENCODER_START_SHA256"):
        encoder_of({"PALIMPSEST_ENCODER_START": "mine.safetensors"})
    with pytest.raises(click.ClickException, match="cannot be read"):
        encoder_of({"PALIMPSEST_ENCODER_START": "/nowhere", "PALIMPSEST_ENCODER_START_SHA256": "f" * 64})


async def test_a_cluster_whose_encoder_cannot_be_had_is_not_begun(tmp_path):
    environ = {"PALIMPSEST_ENCODER_START": "auto", "PALIMPSEST_ENCODER_START_SHA256": "f" * 64}
    with pytest.raises(NotStarted, match="leave it out"):
        async with cluster(tmp_path, Shape(), environ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_no_bench_asks_the_environment_for_an_encoder_in_another_way():
    root = Path(__file__).resolve().parents[2] / "bench"
    asking = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if "from_environment(" in path.read_text()}
    assert asking == {"starts.py", "cluster/running.py", "consolidating.py"}  # the last is given the encoder's digest


def test_rivals_have_the_plain_encoder_unless_they_are_given_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    texts = {"": ["where is my card", "a new pin please", "where is my card"], "hwu64": ["play a song"]}
    done: list[int] = []
    vectors = encode_sets(texts, ASKED_FOR, done.append, same=False)
    assert sum(done) == to_encode(texts, ASKED_FOR, same=False) == 6
    assert vectors[""].digest == encoder_digest(ASKED_FOR)
    assert vectors["hwu64"].digest == encoder_digest(unseen(ASKED_FOR, "hwu64"))
    assert {some.rivals.digest for some in vectors.values()} == {PINNED}
    assert vectors[""].only(["a new pin please"]).rivals.places == {"a new pin please": 0}
    assert (vectors[""]["a new pin please"] != vectors[""].rivals["a new pin please"]).any()
    assert encoders_of(vectors).count("with a start") == 2
    same = encode_sets(texts, ASKED_FOR, done.append, same=True)
    assert same["hwu64"].rivals is same["hwu64"]
    assert to_encode(texts, ASKED_FOR, same=True) == 3

"""How a start is learned: what is learned from, what is compared, that a run can be made again, and that it is judged by what it says."""

import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.encoder import PINNED, find_weights, tokenizer_in
from model.encoder_weights import read_weights
from model.start import resuming
from model.start.__main__ import main
from model.start.batches import Batches
from model.start.comparing import Compared, Hits, compared
from model.start.judging import figures, judge, worse
from model.start.network import ChangedEncoder
from model.start.passages import passages, sentences_of
from model.start.probes import PROBES, probe
from model.start.shipped import SHIPPED, SHIPPED_SHA256, STARTS
from model.start.sources import DOMAINS, TEXTS, Asked, SourceAbsent, Sources, bag
from model.start.training import Recipe, Training, contrast, rate_at
from model.start.weights import read_start

WISHES = {
    "card": ["where is my new card", "my card has not come", "has the card been sent", "the card is late", "card still missing"],
    "pin": ["how do I change the pin", "a new pin please", "I forgot my pin code", "set another pin", "pin number reset"],
    "rate": ["what is the exchange rate", "rate for euros today", "how much is a dollar", "currency rates please", "convert pounds"],
}


NOVEL = """
Ada walked to the harbour with Mr. Brown before the storm. The old sailor told Bertha about the lighthouse yesterday.

Then the people of the village heard what Clara said about ghosts. We sold our boat to Daniel after the long winter. It rained.
He gave Ernest the golden compass that she had found. Late in the evening Fanny Green came home alone. On that day
nothing was said by Gustav or the others. They asked Helen whether the road was safe.
"""


def packed(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((lzma if path.suffix == ".xz" else gzip).compress(text.encode()))


def lines(path: Path, rows: list[dict]) -> None:
    packed(path, "".join(json.dumps(row) + "\n" for row in rows))


def scattered(texts) -> np.ndarray:
    """Unit vectors that say nothing."""
    draw = np.random.default_rng(len(texts))
    made = draw.normal(size=(len(texts), 8)).astype("f4")
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture
def sets(tmp_path) -> Path:
    """The shared sets in small: every file, with rows that may not be learned from among them."""
    below = tmp_path / "data"
    rows = [(text, intent) for intent, texts in WISHES.items() for text in texts]
    splits = {"train": rows, "val": rows[:1], "test": [["Pin, set another!", "pin"]], "oos_val": [], "oos_test": []}
    packed(below / "intents/clinc150_full.json.gz", json.dumps(splits))
    for split, some in (("train", rows), ("test", rows[3:4])):
        packed(below / f"intents/banking77_{split}.csv.gz", "text,category\n" + "".join(f"{text},{intent}\n" for text, intent in some))
    for split in ("train", "valid", "test"):
        some = [{"text": f"play {text}", "label": intent} for text, intent in rows] if split == "train" else []
        lines(below / f"intents/hwu64_{split}.jsonl.gz", some)
    for split, whom in (("train", ("Ada", "Bo", "Cy")), ("val", ("Di",)), ("edit", ("Bo",))):
        edits = [
            {"subject": one, "prompt": f"{one} lives in", "rephrase_prompt": f"The home of {one} is", "locality_prompt": f"Eve {one}"}
            for one in whom
        ]
        lines(below / f"edits/counterfact_{split}.jsonl.gz", edits)
    hop = {"question": "Who leads Rome?", "cloze": "Rome is led by"}
    asked = {"question": "Who leads Bo?", "cloze": "Bo is led by"}
    lines(
        below / "edits/mquake_cf_hard.jsonl.gz", [{"questions": ["who?", "who is it?"], "single_hops": [hop], "new_single_hops": [asked]}]
    )
    questions = [
        {"subject": "Ada", "src": "Who made Ada?", "rephrase": "By whom was Ada made?"},
        {"subject": "Bo", "src": "Where is Bo?", "rephrase": "In which town is Bo?"},
        {"subject": "Cy", "src": "When was Cy born?", "rephrase": "When was that?"},  # names nobody: no other can be put there
    ]
    lines(below / "edits/zsre_mend_train_1k.jsonl.gz", questions)
    sheet = [
        {
            "tool": "tar",
            "family": "tar",
            "versions": [
                {"description": "List files", "command": "tar t", "change": []},
                {"description": "Show the files", "command": "tar --list", "change": ["wording", "command-style"]},
            ],
        },
        {
            "tool": "git",
            "family": "git",
            "versions": [
                {"description": "Undo", "command": "git reset", "change": []},
                {"description": "Revert", "command": "git revert", "change": ["command"]},
            ],
        },
    ]
    lines(below / "corrections/tldr_history.jsonl.gz", sheet)
    for file in TEXTS:
        packed(below / file, NOVEL)
    return below


def test_only_what_no_board_asks_is_learned_from(sets):
    found = {domain.name: domain.groups for domain in Sources(sets).domains()}
    assert tuple(found) == DOMAINS
    texts = {name: {text for group in groups for text in group} for name, groups in found.items()}
    assert "set another pin" not in texts["clinc150"] | texts["banking77"]  # a test row in another order
    assert "where is my new card" not in texts["banking77"]  # a validation row of another set
    homes = tuple((f"{one} lives in", f"The home of {one} is") for one in ("Ada", "Cy"))
    assert found["facts"] == (*homes, ("who?", "who is it?"), ("Who leads Rome?", "Rome is led by"))
    assert found["rewordings"] == (("tar: List files", "tar: Show the files"),)


def test_a_domain_that_is_left_out_takes_its_equals_along(sets):
    found = {domain.name: domain for domain in Sources(sets).domains(["clinc150"])}
    assert {"clinc150", "banking77"}.isdisjoint(found)  # the second has the same utterances
    assert len(found["hwu64"].groups) == 3


def test_a_missing_file_and_a_domain_that_is_none_are_named(sets):
    with pytest.raises(ValueError, match="no domain is called weather"):
        Sources(sets).domains(["weather"])
    (sets / "edits/counterfact_val.jsonl.gz").unlink()
    with pytest.raises(SourceAbsent, match="counterfact_val"):
        Sources(sets).domains()


def test_a_bag_is_the_same_in_any_order_case_and_punctuation():
    assert bag("Pin, set another!") == bag("set another PIN") != bag("set another pin pin")


def test_sentences_are_whole_and_of_letters():
    found = list(sentences_of(NOVEL + "\n\nThe value of x is 3 in this fine example here. It rained on the house and on the fields."))
    assert found[0] == "The old sailor told Bertha about the lighthouse yesterday."  # the first one ends behind a title
    assert found[-1] == "It rained on the house and on the fields."
    assert len(found) == 8


def test_sentences_of_a_family_differ_in_one_word_and_their_wordings_keep_it():
    families = passages({"a": NOVEL, "b": NOVEL})
    assert families == passages({"a": NOVEL, "b": NOVEL})
    assert families
    for family in families:
        whole = [sentence.replace("Fanny Green", "Fanny-Green").split() for sentence, _, _ in family]
        assert len({len(words) for words in whole}) == 1
        places = {at for at in range(len(whole[0])) if len({words[at] for words in whole}) > 1}
        assert len(places) == 1
        assert len({tuple(words) for words in whole}) == len(family) == 4
        own = places.pop()
        for (sentence, behind, half), words in zip(family, whole, strict=True):
            assert behind.endswith(f" {sentence}")
            assert half in sentence
            assert words[own].partition("-")[0] in half


def test_a_batch_of_passages_holds_whole_families(sets):
    sources = Sources(sets)
    batches = Batches(sources.domains(), scattered, sources.passages(), seed=0, passages_share=1.0, wordings_share=0, hard_share=0)
    batch = batches(0)
    assert np.bincount(batch.groups).tolist() == [2] * len(set(batch.groups.tolist()))
    assert len(set(batch.groups.tolist())) % 4 == 0


def test_a_batch_depends_on_seed_and_step_alone_and_its_groups_are_real(sets):
    domains = [domain for domain in Sources(sets).domains() if len(domain.groups) > 1]

    one, other = (Batches(domains, scattered, seed=3, wordings_share=0.5, hard_share=0.5) for _ in range(2))
    for step in (0, 1, 7, 2):
        batch = one(step)
        assert batch.texts == other(step).texts
        where = {text: (domain.name, at) for domain in domains for at, group in enumerate(domain.groups) for text in group}
        found = [where[text] for text in batch.texts]
        assert len({name for name, _ in found}) == 1
        assert [at for _, at in found] == batch.groups.tolist()
    with pytest.raises(ValueError, match="nothing is left"):
        Batches([], scattered, seed=0, wordings_share=0.5, hard_share=0.5)


def test_the_loss_is_that_of_the_definition():
    draw = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(6, 5, generator=draw), dim=1)
    groups, temperature = [0, 0, 1, 1, 1, 2], 0.1
    expected = []
    for i in range(5):  # the last has no other of its group
        weights = [float(torch.exp(vectors[i] @ vectors[j] / temperature)) for j in range(6)]
        same = sum(weights[j] for j in range(6) if j != i and groups[j] == groups[i])
        expected.append(-np.log(same / sum(weights[j] for j in range(6) if j != i)))
    assert contrast(vectors, torch.tensor(groups), temperature).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_rate_rises_and_ends_near_nothing():
    assert rate_at(0, 300) < rate_at(20, 300) < rate_at(49, 300)
    assert rate_at(299, 300) < 0.001


def test_without_a_step_nothing_is_changed_and_padding_leaves_no_trace():
    tokenizer = tokenizer_in(find_weights(None))
    network = ChangedEncoder(read_weights(find_weights(None)), 2, 0)
    rows = [tokenizer.encode(text).ids for text in ("a card", "the exchange rate of the euro today", "my card has not come")]
    with torch.no_grad():
        together, alone = network(rows), torch.cat([network([row]) for row in rows])
    assert torch.equal(together, network.plain(rows))
    assert (together - alone).abs().max() < 0.02  # bfloat16


def test_a_run_gives_the_same_file_twice_and_a_record_that_says_how(sets, tmp_path):
    files = []
    for name in ("a", "b"):
        out = tmp_path / name / "start.safetensors"
        told = ["train", "--out", str(out), "--data", str(sets), "--leave-out", "rewordings", "--steps", "2", "--rank", "2", "--quiet"]
        ran = CliRunner().invoke(main, told, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        files.append(out.read_bytes())
        record = json.loads(out.with_suffix(".json").read_text())
    assert files[0] == files[1]
    start = read_start(out, record["start_sha256"])
    assert (start.rank, start.base) == (2, PINNED)
    assert any(np.abs(up).max() > 0 for _, up in start.changes.values())
    assert record["left_out"] == ["rewordings"]
    assert set(record["learned_from"]) == {"hwu64", "banking77", "clinc150", "facts"}
    judged = CliRunner().invoke(main, ["evaluate", str(out), "--data", str(sets), "--quiet"], catch_exceptions=False)
    found = json.loads(judged.output)
    assert set(found["domains"]) == {"rewordings"}
    assert judged.exit_code == int(bool(found["worse"]["rewordings"]))
    assert found["questions"]["rewordings"]["found"]["questions"] == 1
    assert (found["lost"], found["seen"]) == ({"rewordings": []}, [])
    own = tmp_path / "own.jsonl"
    own.write_text('{"taught": "Wo ist mein Paket?", "asked": "Ist das Paket da?"}\n{"taught": "Guten Tag", "asked": "Hallo"}\n')
    asked = CliRunner().invoke(main, ["evaluate", str(out), "--pairs", str(own), "--quiet"], catch_exceptions=False)
    assert json.loads(asked.output)["questions"]["pairs"]["found"]["questions"] == 2
    both = ["evaluate", str(out), "--pairs", str(own), "--domain", "rewordings", "--data", str(sets), "--quiet"]
    assert set(json.loads(CliRunner().invoke(main, both, catch_exceptions=False).output)["domains"]) == {"rewordings", "pairs"}
    refused = CliRunner().invoke(main, [*both, "--validation"])
    assert (refused.exit_code, "no validation rows of pairs" in refused.output) == (2, True), "what is passed over is said"
    for text in ('{"taught": "Wo ist es?"}', ""):
        own.write_text(text)
        refused = CliRunner().invoke(main, ["evaluate", str(out), "--pairs", str(own), "--quiet"])
        assert (refused.exit_code, '"asked"' in refused.output) == (1, True)


def test_another_share_of_a_start_is_the_file_that_training_with_it_gives(sets, tmp_path):
    def train(name: str, strength: str) -> Path:
        out = tmp_path / name
        told = ["train", "--out", str(out), "--data", str(sets), "--steps", "2", "--rank", "2", "--strength", strength, "--quiet"]
        assert CliRunner().invoke(main, told, catch_exceptions=False).exit_code == 0
        return out

    half, trained, taken = train("half.safetensors", "0.5"), train("trained.safetensors", "0.3"), tmp_path / "new" / "taken.safetensors"
    ran = CliRunner().invoke(main, ["take", str(half), "--strength", "0.3", "--out", str(taken)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert json.loads(taken.with_suffix(".json").read_text())["start_sha256"] in ran.output
    for end in (".safetensors", ".json"):
        assert taken.with_suffix(end).read_bytes() == trained.with_suffix(end).read_bytes()
    refused = CliRunner().invoke(main, ["take", str(trained), "--strength", "0.5", "--out", str(tmp_path / "back.safetensors")])
    assert (refused.exit_code, "took 0.3 of it" in refused.output) == (1, True), (
        "three tenths are rounded: half of them is no file of training"
    )
    assert not (tmp_path / "back.safetensors").exists()


def test_the_newest_start_is_what_take_gives_of_the_one_before(tmp_path):
    half, _ = STARTS["shipped-82adf308"]
    ran = CliRunner().invoke(main, ["take", str(half), "--strength", "0.4", "--out", str(tmp_path / "start.safetensors")])
    assert ran.output.split()[1] == SHIPPED_SHA256
    for end in (".safetensors", ".json"):
        assert (tmp_path / f"start{end}").read_bytes() == SHIPPED.with_suffix(end).read_bytes()


OTHER_RECORDS = {
    "of another start": (lambda record: record.update(start_sha256="f" * 64), "is the record of another start"),
    "for another encoder": (lambda record: record.update(base_sha256="f" * 64), "is the record of another start"),
    "of another rank": (lambda record: record["recipe"].update(rank=4), "is the record of another start"),
    "of nothing": (lambda record: record.clear(), "cannot be read as a record"),
    "without a share": (lambda record: record["recipe"].pop("strength"), "which share it took"),
}


@pytest.mark.parametrize("case", OTHER_RECORDS)
def test_a_start_whose_record_is_not_its_own_is_neither_taken_nor_judged(tmp_path, case):
    change, said = OTHER_RECORDS[case]
    half, _ = STARTS["shipped-82adf308"]
    copied, record = tmp_path / "half.safetensors", json.loads(half.with_suffix(".json").read_text())
    copied.write_bytes(half.read_bytes())
    change(record)
    copied.with_suffix(".json").write_text(json.dumps(record))
    taken = CliRunner().invoke(main, ["take", str(copied), "--strength", "0.25", "--out", str(tmp_path / "out.safetensors")])
    assert (taken.exit_code, said in taken.output, (tmp_path / "out.safetensors").exists()) == (1, True, False), taken.output
    if case != "without a share":
        judged = CliRunner().invoke(main, ["evaluate", str(copied), "--domain", "numbers", "--data", str(tmp_path), "--quiet"])
        assert (judged.exit_code, said in judged.output) == (1, True), judged.output


def test_of_what_was_learned_the_recipe_takes_a_share(sets):
    network = ChangedEncoder(read_weights(find_weights(None)), 2, 0)
    tokenizer, sources = tokenizer_in(find_weights(None)), Sources(sets)
    batches = Batches(sources.domains(), scattered, seed=0, wordings_share=0.5, hard_share=0.5)
    taken = {}
    for strength in (1.0, 0.25):
        training = Training(network, batches, lambda text: tokenizer.encode(text).ids, Recipe(strength=strength))
        if strength == 1.0:
            training.step(0)
        taken[strength] = training.changes()
    assert any(np.abs(up).max() > 0 for _, up in taken[1.0].values())
    for name, (down, up) in taken[1.0].items():
        assert np.array_equal(taken[0.25][name][0], down)
        assert np.array_equal(taken[0.25][name][1], up / 4)


def test_a_run_that_was_stopped_ends_in_the_file_it_would_have_ended_in(sets, tmp_path, monkeypatch):
    def train(name: str):
        told = ["train", "--out", str(tmp_path / name), "--data", str(sets), "--steps", "3", "--rank", "2", "--quiet"]
        return CliRunner().invoke(main, told)

    assert train("whole.safetensors").exit_code == 0
    with monkeypatch.context() as broken:
        broken.setattr(resuming, "EVERY", 1)
        learn = Training.step

        def until_the_third(training, number):
            if number == 2:
                raise KeyboardInterrupt
            return learn(training, number)

        broken.setattr(Training, "step", until_the_third)
        assert train("stopped.safetensors").exit_code != 0
    assert not (tmp_path / "stopped.safetensors").exists()
    other = CliRunner().invoke(main, ["train", "--out", str(tmp_path / "stopped.safetensors"), "--data", str(sets), "--steps", "4"])
    assert (other.exit_code, "another recipe" in other.output) == (1, True)
    assert train("stopped.safetensors").exit_code == 0
    for end in (".safetensors", ".json"):
        assert (tmp_path / f"stopped{end}").read_bytes() == (tmp_path / f"whole{end}").read_bytes()
    assert not (tmp_path / "stopped.part").exists()


def test_what_a_user_can_repair_is_one_message(tmp_path):
    ran = CliRunner().invoke(main, ["train", "--out", str(tmp_path / "s.safetensors"), "--data", str(tmp_path)])
    assert ran.exit_code == 1
    assert "PALIMPSEST_DATA" in ran.output
    ran = CliRunner().invoke(main, ["evaluate", str(tmp_path / "none.safetensors")])
    assert ran.exit_code == 1
    assert "none.safetensors" in ran.output


def test_vectors_that_tell_classes_apart_are_judged_better_than_those_that_do_not():
    rows = tuple((text, intent) for intent, texts in WISHES.items() for text in texts)
    number = {intent: at for at, intent in enumerate(WISHES)}
    of = {text: number[intent] for text, intent in rows}

    def telling(texts):
        return np.stack([np.eye(4, dtype="f4")[of[text]] for text in texts])

    def blind(texts):
        return np.tile(np.eye(4, dtype="f4")[3], (len(texts), 1))

    good, bad = figures(judge(Asked(rows, rows), telling)), figures(judge(Asked(rows, rows), blind))
    assert good == {"means_of_1": 100, "means_of_5": 100, "means_of_10": 100, "ridge": 100, "avoidable": 0}
    assert worse(bad, good) == []
    assert set(worse(good, bad)) == set(good)
    reworded = (("where is my new card", "my card has not come"), ("a new pin please", "set another pin"))
    pairs = Asked(pairs=reworded, near=("rate for euros today",) * 2)
    assert figures(judge(pairs, telling)) == {"found": 100, "parted": 100}


def test_questions_are_counted_that_fare_better_and_worse_and_what_chance_says_of_it():
    before = Hits.once(np.array([False] * 9 + [True] * 11))
    after = Hits.once(np.array([True] * 9 + [False] + [True] * 10))
    won = compared({"found": before}, {"found": after})["found"]
    assert (won.questions, won.better, won.worse) == (20, 9, 1)
    assert won.chance == pytest.approx(22 / 1024)  # of ten coins: none, one, nine or ten
    assert (won.difference, won.lost) == (pytest.approx(40.0), False)
    assert 0.0 < won.low < won.difference < won.high
    turned = compared({"found": after}, {"found": before})["found"]
    assert (turned.better, turned.worse, turned.lost) == (1, 9, True)
    assert not Compared(616, 0, 2, -0.3, -0.8, 0.1).lost  # two coins fall alike every other time
    assert Compared(4_000, 1_000, 1_000, 0.0, -1.0, 1.0).chance == 1.0


def test_a_question_that_is_asked_several_times_counts_once():
    twice = np.array([0, 1, 0, 1])
    before = Hits(np.array([False, True, False, True]), twice)
    after = Hits(np.array([True, True, True, False]), twice)
    found = compared({"means_of_1": before}, {"means_of_1": after})["means_of_1"]
    assert (found.questions, found.better, found.worse) == (2, 1, 1)
    assert found.difference == pytest.approx(25.0)
    with pytest.raises(ValueError, match="means_of_1"):
        compared({"means_of_1": before}, {"means_of_1": Hits.once(after.right)})


def test_probes_are_of_kinds_that_no_start_learns_from(sets):
    learned = {bag(text) for domain in Sources(sets).domains() for group in domain.groups for text in group}
    asked = {name: probe(name, sets) for name in PROBES}
    assert asked["questions"].pairs == (("Who made Ada?", "By whom was Ada made?"), ("Where is Bo?", "In which town is Bo?"))
    assert all(near.startswith(said) for near, said in zip(asked["questions"].near, ("By whom was", "In which town is"), strict=True))
    assert asked["commands"].pairs == (("tar t", "tar --list"),)
    for some in asked.values():
        assert not {bag(text) for pair in some.pairs for text in pair} & learned
    for (said, otherwise), near in zip(asked["numbers"].pairs, asked["numbers"].near, strict=True):
        assert said != otherwise
        assert sum(one != other for one, other in zip(otherwise, near, strict=True)) == 1
    assert probe("numbers", sets) == asked["numbers"]
    with pytest.raises(SourceAbsent, match="PALIMPSEST_DATA"):
        probe("questions", sets / "nowhere")

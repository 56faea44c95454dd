"""What is equal for all kinds, and how forgetting and learning in context are measured."""

import json
import lzma
import math
import shutil

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from bench.data import DataAbsent
from bench.language import levels, rates, sources, trials
from bench.language.ablations import VARIANTS
from bench.language.budgets import BUDGETS
from bench.language.context import by_position, carried, doubling, sliding, streams
from bench.language.continual import by_steps, in_turn
from bench.language.corpora import Corpus, batches, chosen_on, domain, mixed, shakespeare
from bench.language.levels import BOTH, RATES, READINGS, Reading, left_out, nats, online, relevelled, without
from bench.language.plan import Plan, attempt, done, execute, missing, outdated, tuned
from bench.language.rates import GRID, rate_of
from bench.language.rivals import build
from bench.language.stream import bits_per_token
from bench.language.trials import Trial, code_of
from bench.ledger import Ledger


class Counter(nn.Module):
    """A model of two ids whose state is how many tokens it has read; it is surer of id 1 the more they are."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.longest = 0

    def forward(self, input_ids, past_key_values=None, use_cache=False):
        seen = past_key_values or 0
        self.longest = max(self.longest, input_ids.shape[1])
        at = torch.arange(1, input_ids.shape[1] + 1) + seen
        ones = at.float().log().expand(input_ids.shape) * self.weight
        logits = torch.stack([torch.zeros_like(ones), ones], -1)
        return CausalLMOutputWithPast(logits=logits, past_key_values=seen + input_ids.shape[1])


def corpus(name, token, length=400):
    return Corpus(name, (torch.full((length,), token, dtype=torch.uint8),), torch.full((100,), token, dtype=torch.uint8), 4, "byte")


def pack(below, files):
    for path, text in files.items():
        (below / path).parent.mkdir(parents=True, exist_ok=True)
        (below / path).write_bytes(lzma.compress(text))


def test_tails_are_the_end_of_every_file_and_never_trained_on(tmp_path):
    one, two = bytes(range(100)) * 10, b"x" * 500
    pack(tmp_path, {"lm/books/b.txt.xz": two, "lm/books/a.txt.xz": one})
    novels = domain("novels", tmp_path)
    assert [bytes(text.tolist()) for text in novels.train] == [one[:950], two[:475]]
    assert bytes(novels.tail.tolist()) == one[950:] + two[475:]


def test_shakespeare_is_split_as_in_every_published_number(tmp_path):
    text = "".join(chr(97 + i % 7) for i in range(1_003))
    pack(tmp_path, {"lm/tinyshakespeare.txt.xz": text.encode()})
    read = shakespeare(tmp_path)
    assert (read.vocab, len(read.train[0]), len(read.tail)) == (7, 903, 100)
    assert "".join(chr(97 + token) for token in read.tail.tolist()) == text[903:]


def test_absent_and_damaged_texts_are_told_with_where_to_get_them(tmp_path):
    with pytest.raises(DataAbsent, match=r"lm/rust_book\.md\.xz below .*PALIMPSEST_DATA.*rust-lang/book"):
        domain("rust", tmp_path)
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm/rust_book.md.xz").write_bytes(b"no archive")
    with pytest.raises(DataAbsent, match="cannot be read"):
        domain("rust", tmp_path)


def test_equal_seeds_give_equal_batches_whatever_is_mixed_never_across_texts():
    both = mixed([corpus("a", 1), corpus("b", 2)])
    draw, again, other = batches(both, 8, 16, 5), batches(both, 8, 16, 5), batches(both, 8, 16, 6)
    assert all(torch.equal(draw(i).inputs, again(i).inputs) for i in range(5))
    assert any(not torch.equal(draw(i).inputs, other(i).inputs) for i in range(5))
    rows = torch.cat([torch.cat([draw(i).inputs, draw(i).targets], 1) for i in range(20)])
    assert bool((rows == rows[:, :1]).all())
    assert set(rows[:, 0].tolist()) == {1, 2}


def test_forgetting_is_what_the_first_domain_costs_more_at_the_end():
    domains = [corpus(name, token) for token, name in enumerate("abc")]
    learned = []

    def score(each):
        return 8.0 if each.name not in learned else 1.0 + 0.5 * learned[::-1].index(each.name)

    calls = []
    result = in_turn(domains, lambda each, phase: learned.append(each.name), score, calls.append)
    assert result.bits == ((8.0, 8.0, 8.0), (1.0, 8.0, 8.0), (1.5, 1.0, 8.0), (2.0, 1.5, 1.0))
    assert (result.forgetting, result.final, calls) == (1.0, 1.5, [1, 2, 3])
    with pytest.raises(ValueError, match="name two at least"):
        in_turn(domains[:1], lambda each, phase: None, score)


def test_any_step_function_learns_equal_tokens_of_each_domain():
    seen = []
    domains = [corpus("a", 1), corpus("b", 2)]
    in_turn(domains, by_steps(lambda batch: seen.append(batch.inputs), lambda each: batches(each, 2, 8, 0), 64), lambda each: 0.0)
    assert [int(batch.unique()) for batch in seen] == [1] * 4 + [2] * 4


def test_training_on_another_domain_is_forgetting_for_a_real_model():
    domains = [corpus(name, token) for token, name in enumerate("abc")]
    model = build("retnet", 4, 32, 1, 16, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(batch):
        optimizer.zero_grad()
        model(input_ids=batch.inputs, labels=batch.inputs).loss.backward()
        optimizer.step()

    learn = by_steps(step, lambda each: batches(each, 4, 16, 0), 64 * 12)
    result = in_turn(domains, learn, lambda each: bits_per_token(model, each.tail, 16))
    assert result.bits[1][0] < 0.3
    assert result.forgetting > 1.0


def test_carried_state_reads_every_byte_once_behind_all_that_went_before():
    tokens = torch.ones(2, 50, dtype=torch.int64)
    model = Counter()
    curve = by_position(model, tokens, carried(7), [1, 2, 10, 50])
    at = torch.arange(1, 50).double()
    cost = (1 + 1 / at).log2()  # −log2 p(1) with odds n : 1
    expected = [float(cost[low - 1 : high - 1].mean()) for low, high in ((1, 2), (2, 10), (10, 50))]
    assert curve.bits == pytest.approx(expected, rel=1e-5)
    assert curve.gain == pytest.approx(expected[0] - expected[-1], rel=1e-5)
    assert model.longest == 7


def test_sliding_window_sees_half_a_window_at_least_and_a_window_at_most():
    tokens = torch.ones(2, 50, dtype=torch.int64)
    model = Counter()
    curve = by_position(model, tokens, sliding(8), range(1, 51))
    seen = [n if n <= 8 else 5 + (n - 9) % 4 for n in range(1, 50)]
    assert curve.bits == pytest.approx([float(torch.tensor(1 + 1 / n).log2()) for n in seen], rel=1e-4)
    assert model.longest == 8


def test_buckets_and_streams_are_checked():
    assert doubling(16, 100) == [16, 32, 64, 100]
    text = torch.arange(100, dtype=torch.uint8)
    assert streams(text, 3, 40)[:, 0].tolist() == [0, 30, 60]
    with pytest.raises(ValueError, match="no stream of 200"):
        streams(text, 3, 200)
    with pytest.raises(ValueError, match="must rise"):
        by_position(Counter(), torch.ones(1, 50, dtype=torch.int64), carried(7), [1, 60])


def test_torn_line_is_dropped_and_its_trial_runs_again(tmp_path):
    trial = Trial("text", "tiny", "retnet", 0, 1_000, 1e-3)
    path = tmp_path / "deep" / "lm.jsonl"
    Ledger(path).add(trial.named() | {"bits": 2.0})
    torn = trial.named() | {"seed": 1, "bits": 3.0}
    with path.open("a") as file:
        file.write(json.dumps(torn)[:-5])
    ledger = Ledger(path)
    assert [line["bits"] for line in ledger.lines] == [2.0]
    second = Trial("text", "tiny", "retnet", 1, 1_000, 1e-3)
    assert missing([trial, second], ledger) == [second]
    ledger.add(torn)
    assert Ledger(path).lines == ledger.lines


def test_best_rate_of_the_grid_is_taken_for_its_kind_and_size_only(tmp_path):
    ledger = Ledger(tmp_path / "lm.jsonl")
    plan = Plan(("tiny",), ("retnet", "mamba2"), ("text",), 2, 900)
    tuning = plan.tuning()
    assert [(trial.kind, trial.rate, trial.tokens) for trial in tuning] == [(kind, rate, 300) for kind in plan.kinds for rate in GRID]
    for trial, bits in zip(tuning[: len(GRID)], (3.0, 2.5, 2.1, 2.4, 2.6), strict=True):
        ledger.add(trial.named() | {"bits": bits})
    ledger.add(tuning[-1].named() | {"failed": "diverged"})
    assert tuned(ledger, "tiny", "retnet") == GRID[2]
    assert [trial.rate for trial in plan.trials(ledger)] == [GRID[2], rate_of("mamba2", "tiny"), GRID[2], rate_of("mamba2", "tiny")]


def test_training_that_diverges_is_a_result(tmp_path):
    pack(tmp_path, {"lm/tinyshakespeare.txt.xz": b"to be or not to be\n" * 200})
    ledger = Ledger(tmp_path / "lm.jsonl")
    trial = Trial("shakespeare", "tiny", "transformer++", 0, 3_000, 1e30)
    said = []
    execute([trial], ledger, tmp_path, 1, lambda tokens: None, said.append)
    assert done([trial], ledger)[0]["failed"].startswith("diverged:")
    assert "diverged" in said[0]


def test_runs_of_an_earlier_version_of_a_kind_are_told():
    lines = [{"kind": kind, "code": code} for kind in ("hope", "retnet") for code in (code_of(kind), "of before")]
    assert outdated([*lines, {"kind": "hope", "failed": "diverged"}]) == {"hope": 1, "retnet": 1}
    assert code_of("hope") == code_of("titans") != code_of("mamba2")


def test_a_digest_follows_what_is_computed_and_nothing_that_only_people_read(monkeypatch, tmp_path):
    for folder in ("bench/language", "model/hope", "model/train", "model/optim"):
        shutil.copytree(sources.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)

    def changed(path, old, new):
        sources._meaning.cache_clear()
        before = sources.digest(["bench.language.hope"], "how")
        text = (tmp_path / path).read_text()
        assert old in text
        (tmp_path / path).write_text(text.replace(old, new, 1))
        sources._meaning.cache_clear()
        return sources.digest(["bench.language.hope"], "how") != before

    assert not changed("model/hope/rules.py", "from dataclasses", "# records\n\nfrom dataclasses")
    assert not changed("model/hope/titans.py", '"""', '"""Read this. ')
    assert not changed("model/hope/convert.py", "import", "import this\nimport")
    assert not changed("bench/language/report.py", "import", "import this\nimport")
    assert changed("model/hope/rules.py", "from dataclasses", "import math as other\nfrom dataclasses")
    everything = ("model/hope/stepwise.py", "model/hope/state.py", "model/train/loop.py", "model/optim/rule.py", "bench/language/sizes.py")
    assert [path for path in everything if not changed(path, "import", "import cmath\nimport")] == []
    assert sources.digest(["bench.language.hope"], "how") != sources.digest(["bench.language.hope"], "other")


def test_rates_are_chosen_on_texts_that_are_neither_trained_on_nor_measured_on(tmp_path):
    lines = [f"line {index} of a book\n".encode() for index in range(2_000)]
    pack(tmp_path, {"lm/books/one.txt.xz": b"".join(lines), "lm/books/two.txt.xz": b"".join(reversed(lines))})
    whole = domain("novels", tmp_path)
    parts = chosen_on(whole)
    for text, left, cut in zip(whole.train, parts.train, torch.split(parts.tail, len(parts.tail) // 2), strict=True):
        assert torch.equal(torch.cat([left, cut]), text)
    assert len(parts.tail) == pytest.approx(0.05 * sum(map(len, whole.train)), rel=0.01)


def test_without_a_number_of_tokens_each_task_has_its_budget_size_and_kinds(tmp_path):
    ledger = Ledger(tmp_path / "lm.jsonl")
    kinds = ("transformer++", "retnet", "hope")
    planned = Plan(("small", "mini"), kinds, tuple(BUDGETS), 1).trials(ledger)
    by_task = {task: [trial for trial in planned if trial.task == task] for task in BUDGETS}
    assert all(trial.tokens == BUDGETS[task].tokens for task, each in by_task.items() for trial in each)
    assert [(trial.size, trial.kind) for trial in by_task["shakespeare"]] == [("small", "transformer++"), ("small", "hope")]
    assert [(trial.size, trial.kind) for trial in by_task["text"]] == [(size, kind) for size in ("small", "mini") for kind in kinds]
    assert {trial.size for trial in by_task["ablations"]} == {"mini"}
    alone = Plan(("tiny",), ("retnet",), ("shakespeare",), 1).trials(ledger)
    assert [(trial.size, trial.kind, trial.rate) for trial in alone] == [("tiny", "retnet", rates.RATES["retnet"][1])]


@pytest.mark.parametrize("task", ["shakespeare", "continual"])
def test_an_interrupted_trial_goes_on_at_its_checkpoint_and_ends_as_if_it_had_not_been(task, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "EVERY", 1_536)
    monkeypatch.setattr(trials, "STREAM", 128)
    monkeypatch.setattr(trials, "BETWEEN", 512)
    lines = [f"{word} {index}: to be or not to be\n".encode() for word in ("a", "b", "c") for index in range(400)]
    files = ("lm/tinyshakespeare.txt.xz", "lm/books/one.txt.xz", "lm/python_peps.txt.xz", "lm/rust_book.md.xz")
    pack(tmp_path, {name: b"".join(lines[place:]) for place, name in enumerate(files)})
    trial = Trial(task, "tiny", "hope", 0, 12_288, 4e-3)
    plain = attempt(trial, tmp_path)

    class Cut(Exception):
        pass

    seen = []

    def cut(tokens):
        seen.append(tokens)
        if sum(seen) >= 9_000:
            raise Cut

    kept, ledger = tmp_path / "unfinished", Ledger(tmp_path / "lm.jsonl")
    with pytest.raises(Cut):
        execute([trial], ledger, tmp_path, 1, cut, lambda words: None, kept)
    assert ledger.lines == []
    assert list(kept.iterdir())
    again = []
    execute([trial], ledger, tmp_path, 1, again.append, lambda words: None, kept)
    assert 0 < sum(again) < 12_288 - 6_000
    (resumed,) = ledger.lines
    differs = ("tokens_per_s", "cpu_s")
    assert {name: value for name, value in resumed.items() if name not in differs} == {
        name: value for name, value in plain.items() if name not in differs
    }
    assert resumed["cpu_s"] > 0
    assert list(kept.iterdir()) == []


def test_tasks_of_hope_have_a_quarter_of_the_tokens_its_rate_and_kinds_of_their_own(tmp_path):
    ledger = Ledger(tmp_path / "lm.jsonl")
    ledger.add(Trial("tune", "tiny", "hope", 1_000, 300, 4e-3).named() | {"bits": 2.0})
    tasks = ("shakespeare", "levels", "ablations", "widths", "speed")
    planned = Plan(("tiny",), ("retnet", "hope"), tasks, 1, 1_000).trials(ledger)
    assert [(trial.task, trial.kind, trial.tokens, trial.rate) for trial in planned] == [
        ("shakespeare", "retnet", 1_000, rate_of("retnet", "tiny")),
        ("shakespeare", "hope", 1_000, 4e-3),
        ("levels", "hope", 250, 4e-3),
        *(("ablations", name, 250, 4e-3) for name in VARIANTS),
    ]
    without = Plan(("tiny",), ("retnet",), tasks, 1, 1_000)
    assert {trial.task for trial in without.trials(ledger)} == {"shakespeare"}
    assert [task for task in tasks if without.has(task)] == ["shakespeare", "speed"]


def test_an_ablation_is_outdated_with_hope_and_with_the_variants():
    assert code_of("hope", "ablations") == code_of("w/o CMS", "ablations") != code_of("hope")
    line = {"task": "ablations", "kind": "w/o CMS", "code": code_of("w/o CMS", "ablations")}
    assert outdated([line, {"task": "levels", "kind": "hope", "code": code_of("hope", "levels")}]) == {}
    assert outdated([{**line, "code": "of before"}]) == {"w/o CMS": 1}


# --- what HOPE's levels are worth


@pytest.fixture
def short(monkeypatch):
    """A slow level that is reached in a short stream."""
    monkeypatch.setattr(levels, "SLOW_PERIOD", 64)


@pytest.fixture
def reader():
    return build("hope", 7, 32, 2, 64, 0, knob=8).eval()


def text(tokens, seed=0):
    return torch.randint(7, (tokens,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_readings_differ_in_what_learns_online_and_in_nothing_else(short, reader):
    ids, before = streams(text(900), 2, 300), torch.random.get_rng_state()
    read = {reading.name: relevelled(reader, reading) for reading in READINGS}
    assert torch.equal(before, torch.random.get_rng_state())
    for model in read.values():
        assert all(torch.equal(mine, its) for mine, its in zip(reader.parameters(), model.parameters(), strict=True))
    periods = [model.blocks[0].memory.periods for model in read.values()]
    assert periods == [(), *[(16,)] * len(RATES), (64,), (16, 64)]
    nothing, low, *_, slow, both = (nats(model, ids, 50, 100) for model in read.values())
    plain = by_position(read["nothing learns online"], ids, carried(64), (1, 300)).bits[0]
    assert nothing[0] == pytest.approx(math.log(2) * plain, rel=1e-5)
    assert slow[1] == pytest.approx(nothing[1], rel=1e-6)  # its period is not over in the first 50 tokens
    assert len({round(reading[2], 5) for reading in (nothing, low, slow, both)}) == 4


def test_dead_level_is_seen(short, reader):
    dead = without(reader, "slow", [1])
    assert not bool(dead.blocks[1].memory.all_levels[1].down_proj.weight.any())
    assert bool(reader.blocks[1].memory.all_levels[1].down_proj.weight.any())
    costs = left_out(dead, text(300), 64)
    assert [name for name, each in costs.items() for cost in each["layers"] if cost == 0.0] == ["slow"]
    assert costs["slow"]["layers"][1] == 0.0
    assert costs["slow"]["all"] == costs["slow"]["layers"][0] != 0.0


def test_updates_are_told_by_level_and_layer(short, reader):
    told = online(relevelled(reader, BOTH), streams(text(400), 3, 16 * 9))
    assert {name: each["updates"] for name, each in told.items()} == {"middle": [8.0, 8.0], "slow": [2.0, 2.0]}
    for each in told.values():
        assert all(0 < one <= total < 1 for one, total in zip(each["update"], each["learned"], strict=True)), each
        assert (each["clipped"], each["refused"]) == ([0.0, 0.0], [0.0, 0.0])


def test_updates_of_one_level_alone_are_the_difference_it_made(short, reader):
    model, ids = relevelled(reader, Reading("slow", 0.0, 0.1)), streams(text(400), 2, 65)
    told = online(model, ids)
    assert list(told) == ["slow"]
    assert told["slow"]["updates"] == [1.0, 1.0]
    assert told["slow"]["update"] == pytest.approx(told["slow"]["learned"], rel=1e-6)

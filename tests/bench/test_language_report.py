"""The report: what is written and drawn from a small set of results, and the command from end to end in a process of its own."""

import json
import lzma
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from waiting import PATIENCE_S

from bench.__main__ import main
from bench.language.ablations import VARIANTS
from bench.language.neural_memory import NeuralMemoryLM, NotInstalled, installed
from bench.language.pictures import draw
from bench.language.report import markdown
from bench.language.rivals import Shape, build
from bench.language.speed import decoding, training
from bench.language.summary import Figure, mean_curve
from bench.language.trials import TASKS
from bench.language.widths import by_width, widths_of

ROOT = Path(__file__).resolve().parent.parent.parent
MADE = {"blocks": 4, "knob": 364, "parameters": 830_720, "not_embedding": 822_400, "tokens_per_s": 9_000.0}


def line(task, kind, seed, bits, **more):
    return {"task": task, "size": "small", "kind": kind, "seed": seed, "tokens": 1_000, "rate": 2e-3, **MADE, "bits": bits, **more}


def learned(task, kind, seed, bits):
    domains = {"shakespeare": bits} if task == "shakespeare" else {"novels": bits, "peps": bits - 0.2, "rust": bits + 0.2}
    return line(task, kind, seed, bits, by_domain=domains, stream=bits - 0.1, curve=[[500, bits + 1], [1_000, bits]])


def continual(kind, seed, forgetting, ways):
    matrix = [[8.0, 8.0, 8.0], [2.0, 5.0, 5.0], [2.0 + forgetting / 2, 2.2, 4.0], [2.0 + forgetting, 2.5, 1.9]]
    curve = {"edges": [64, 128, 1_024], "bits": [4.0, 3.5], "spread": [0.1, 0.1]}
    context = dict.fromkeys(ways, curve)
    streams = [[1.9, 4.0, 4.0], [2.0, 2.1, 3.0], [1.9 + forgetting / 4, 2.2, 1.7]]
    more = {"domains": ["novels", "peps", "rust"], "matrix": matrix, "forgetting": forgetting, "context": context, "streams": streams}
    return line("continual", kind, seed, 2.3, **more)


RUNS = [
    *(learned("shakespeare", kind, seed, bits + 0.1 * seed) for kind, bits in (("transformer++", 2.6), ("hope", 2.5)) for seed in (0, 1)),
    {"task": "shakespeare", "size": "small", "kind": "mamba2", "seed": 0, "tokens": 1_000, "rate": 4e-3, "failed": "diverged: nan"},
    *(learned("text", kind, 0, bits) for kind, bits in (("transformer++", 2.0), ("hope", 2.1))),
    continual("transformer++", 0, 0.8, ["window"]),
    continual("hope", 0, 0.3, ["window", "carried"]),
    {
        "task": "speed",
        "size": "small",
        "kinds": ["transformer++", "hope"],
        "batch": 8,
        "context": 256,
        "rows": {
            "transformer++": {"parameters": 830_720, "train": [10_000.0, 9_000.0, 11_000.0], "decode": {"1000": 2.0, "100000": 40.0}},
            "hope": {"parameters": 828_704, "train": [6_000.0, 5_900.0, 6_100.0], "decode": {"1000": 3.0, "100000": 3.03}},
            "titans-pytorch": {"parameters": 1_800_000, "train": [300.0, 290.0, 310.0], "decode": {}},
        },
    },
]
READINGS = {"nothing learns online": [2.0, 2.1, 2.0], "middle level, rate 0.1": [1.8, 2.0, 1.7], "both": [1.9, 2.0, 1.8]}
MOVES = {"updates": [128.0, 129.0], "update": [0.01, 0.03], "learned": [0.1, 0.3], "clipped": [0.0, 0.5], "refused": [0.0, 0.0]}


def levels(seed, **more):
    left_out = {"middle": {"all": 0.5, "layers": [0.2, 0.25]}, "static": {"all": 0.3, "layers": [0.1, 0.15 + 0.1 * seed]}}
    readings = {name: [value + 0.02 * seed for value in values] for name, values in READINGS.items()}
    how = {"rows": 8, "tokens": 8_192, "first": 1_000, "last": 2_000, "slow_period": 1_024}
    told = {"streams": how, "readings": readings, "left_out": left_out, "online": {"middle": MOVES}, "curve": []}
    return line("levels", "hope", seed, 2.6, **told | more)


def ablation(name, seed, bits, stream, idle=0):
    return line("ablations", name, seed, bits, stream=stream, idle=idle, by_domain={"shakespeare": bits}, curve=[])


ABLATIONS = [
    *(ablation("hope", seed, 2.5 + 0.1 * seed, 2.4) for seed in (0, 1)),
    *(ablation("w/o CMS", seed, 2.6 + 0.1 * seed, 2.3) for seed in (0, 1)),
    *(ablation("with momentum", seed, 2.6 + 0.3 * seed, 2.3) for seed in (0, 1)),
    *(ablation("w/o weight decay", seed, 2.4 + 0.1 * seed, 2.5, idle=720) for seed in (0, 1)),
    ablation("w/o self-modification", 0, 2.7, 2.7),
    {"task": "ablations", "size": "small", "kind": "w/o DGD", "seed": 0, "tokens": 1_000, "rate": 2e-3, "failed": "diverged: nan"},
]
WIDTHS = {
    "task": "widths",
    "kind": "hope",
    "widths": [128, 256, 512],
    "heads": [16, 32, 64],
    "layers": 2,
    "batch": 8,
    "context": 256,
    "rounds": 5,
    "rows": {
        "128": {
            "transformer++": {"parameters": 425_600, "train": [10_000.0, 9_000.0, 11_000.0]},
            "head 16": {"parameters": 425_920, "train": [2_700.0, 2_600.0, 2_800.0]},
        },
    },
}
REPORT = {
    "benchmark": "lm",
    "version": "0.1.0",
    "command": "python -m bench lm --sizes small",
    "machine": {"torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.7", "device": "CPU"},
    "plan": {"tokens": 1_000, "seeds": 2, "rate": None},
    "tuned": True,
    "runs": RUNS,
}


def row(section, title, kind):
    part = section.split(f"### {title}")[1].split("###")[0]
    return [cell.strip() for cell in next(text for text in part.splitlines() if text.startswith(f"| {kind} ")).split("|")[1:-1]]


def test_section_has_means_spreads_and_the_best_in_bold():
    section = markdown(REPORT)
    assert "`python -m bench lm --sizes small`" in section
    assert "tuned for each kind (0.001, 0.002, 0.004, 0.008, 0.016;" in section
    shakespeare = row(section, "tinyshakespeare", "hope")
    assert shakespeare[:5] == ["hope", "830,720", "0.002", "**1.768 ± 0.049**", "2.550 ± 0.071"]
    assert shakespeare[-2:] == ["-0.100", "2.500 2.600"]
    assert row(section, "tinyshakespeare", "transformer++")[3] == "1.837 ± 0.049"
    assert row(section, "tinyshakespeare", "mamba2")[2:4] == ["0.004", "diverged"]
    assert row(section, "Novels", "transformer++")[3:] == ["**2.000**", "2.000", "1.800", "2.200", "1.900", "+0.000", "2.000"]
    hope = ["2.000", "2.300", "**0.300**", "2.500", "1.900", "**2.300**", "**0.075**", "**1.958**"]
    assert row(section, "Three domains", "hope")[3:] == hope
    assert "| hope | carried | 4.000 | 3.500 | 0.500 |" in section
    assert row(section, "Speed", "hope")[2:] == ["6,000", "0.60", "3.00", "3.03", "1.01"]
    assert row(section, "Speed", "titans-pytorch")[2:] == ["300", "0.03", "–", "–", "–"]


def test_levels_are_told_by_what_learns_and_by_what_is_missed():
    section = markdown(REPORT | {"runs": [levels(0), levels(1)]})
    assert "1,000 training tokens, 2 seeds; 1.802 ± 0.000 nats a character in windows" in section
    assert row(section, "HOPE's levels", "nothing")[1:] == ["2.010 ± 0.014", "2.110 ± 0.014", "2.010 ± 0.014", "–"]
    assert row(section, "HOPE's levels", "middle level, rate 0.1")[1::3] == ["**1.810 ± 0.014**", "-0.200 ± 0.000"]
    assert "| middle | all | +0.500 ± 0.000 | 128 | 2 % | 20 % | 25 % |" in section
    assert "| middle | 2 | +0.250 ± 0.000 | 129 | 3 % | 30 % | 50 % |" in section
    assert "| static | 2 | +0.200 ± 0.071 | – | – | – | – |" in section
    assert "Every level of every layer is used" in section


def test_dead_levels_are_named():
    still = MOVES | {"updates": [128.0, 0.0], "update": [0.01, 0.0], "refused": [3.0, 0.0]}
    costs = {"middle": {"all": 0.5, "layers": [0.2, 0.25]}, "static": {"all": 0.3, "layers": [0.0, 0.1]}}
    section = markdown(REPORT | {"runs": [levels(0, online={"middle": still}, left_out=costs)]})
    verdict = next(text for text in section.splitlines() if text.startswith("**Without effect"))
    assert "leaving static out of layer 1 costs +0.0000 bits" in verdict
    assert "middle in layer 2 never moves" in verdict
    assert "middle in layer 1 met numbers that are not finite" in verdict
    assert "layer 2 costs" not in verdict


def test_ablations_are_told_as_differences_with_the_papers_sign():
    section = markdown(REPORT | {"runs": ABLATIONS})
    title = "Ablations of HOPE, small (the paper's table 6)"
    assert row(section, title, "hope")[1:] == ["830,720", "1.768 ± 0.049", "–", "1.664 ± 0.000", "–", "–", "–"]
    without = row(section, title, "w/o CMS")
    assert (without[0], without[3:]) == (
        "w/o CMS (one static SwiGLU block)",
        ["+0.069 ± 0.000", "1.594 ± 0.000", "-0.069 ± 0.000", "+0.80", "yes / no"],
    )
    momentum = row(section, title, "with momentum")
    assert "hope has none by default" in momentum[0]
    assert momentum[-2:] == ["-1.34", "no / yes"]
    assert row(section, title, "w/o weight decay")[1::5] == ["830,720", "+1.47"]
    assert row(section, title, "w/o self-modification")[-2:] == ["–", "–"]
    assert row(section, title, "w/o DGD")[2] == "diverged"


def test_difference_within_its_spread_decides_nothing():
    runs = [ablation(name, seed, bits, 2.0) for seed in (0, 1) for name, bits in (("hope", 2.5), ("w/o CMS", 2.49 + 0.03 * seed))]
    assert row(markdown(REPORT | {"runs": runs}), "Ablations", "w/o CMS")[-1] == "open / open"


def test_speed_by_width_is_a_ratio_to_the_llama():
    section = markdown(REPORT | {"runs": [WIDTHS]})
    assert row(section, "Training speed by width", "128") == ["128", "425,600", "10,000", "0.27 (2,700)"]


def test_section_leaves_out_what_was_not_run():
    section = markdown(REPORT | {"runs": RUNS[:4], "tuned": False})
    assert "what was best for it on a third of the text task" in section
    assert "Speed" not in section
    assert "domains one after another" not in section


def test_section_survives_a_task_in_which_everything_diverged():
    section = markdown(REPORT | {"runs": [{**RUNS[4], "task": task} for task in TASKS]})
    assert section.count("diverged") >= len(TASKS)


def test_picture_is_a_png_and_no_picture_is_drawn_of_nothing(tmp_path):
    assert draw(RUNS, tmp_path / "deep" / "lm.png")
    assert (tmp_path / "deep" / "lm.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not draw([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_spread_is_over_seeds_and_curves_are_averaged_point_by_point():
    assert str(Figure((1.0, 2.0, 3.0))) == "2.000 ± 1.000"
    assert str(Figure((1.25,))) == "1.250"
    x, mean, spread = mean_curve([[[10, 4.0], [20, 2.0]], [[10, 2.0], [20, 2.0]]])
    assert (x, mean, spread) == ([10, 20], [3.0, 2.0], [pytest.approx(2**0.5), 0.0])


def test_speed_is_of_every_contestant_and_every_context():
    models = {kind: build(kind, 61, 32, 1, 32, 0).eval() for kind in ("transformer++", "retnet")}
    rates = training(models, 61, batch=2, context=32, rounds=2)
    assert all(0 < rate.low <= rate.median <= rate.high for rate in rates.values())
    for model in models.values():
        costs = decoding(model, 61, [16, 64], tokens=3)
        assert list(costs) == [16, 64]
        assert all(cost > 0 for cost in costs.values())


def test_speed_by_width_is_measured_for_every_head_width():
    line = by_width((64,), (16, 32), rounds=1)
    assert line.items() > widths_of((64,), (16, 32)).items()
    assert list(line["rows"]["64"]) == ["transformer++", "head 16", "head 32"]
    assert all(0 < low <= median <= high for row in line["rows"].values() for median, low, high in (each["train"] for each in row.values()))


@pytest.mark.skipif(installed(), reason="titans-pytorch is installed")
def test_absent_rival_says_how_to_get_it():
    with pytest.raises(NotInstalled, match="pip install titans-pytorch"):
        NeuralMemoryLM(Shape(61, 32, 1, 32), 64)


@pytest.fixture
def data(tmp_path):
    texts = {"books/a.txt": "It was a dark night. ", "python_peps.txt": "def f(x): return x\n", "rust_book.md": "let mut x = 5;\n"}
    for name, text in {**texts, "tinyshakespeare.txt": "To be, or not to be:\n"}.items():
        path = tmp_path / "data" / "lm" / f"{name}.xz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(text.encode() * (12_000 // len(text))))
    return tmp_path / "data"


@pytest.mark.timeout(600)
def test_bench_goes_on_after_a_kill_and_ends_in_a_table_and_curves(data, tmp_path, monkeypatch):
    report = tmp_path / "out" / "lm.json"
    tasks = ("--tasks", "shakespeare", "--tasks", "continual")
    options = ["lm", "--json", str(report), "--sizes", "tiny", "--kinds", "retnet", "--seeds", "2", "--tokens", "3000", *tasks]
    monkeypatch.setenv("PALIMPSEST_DATA", str(data))
    kept = killed_after_the_first_trial([sys.executable, "-m", "bench", *options], report.with_suffix(".jsonl"))
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    told = json.loads(report.read_text())
    assert [(run["task"], run["seed"]) for run in told["runs"]] == [
        ("shakespeare", 0),
        ("continual", 0),
        ("shakespeare", 1),
        ("continual", 1),
    ]
    assert all(run in told["runs"] for run in kept)  # not run again: tokens_per_s would differ
    assert all(0 < run["bits"] < 8.5 for run in told["runs"])
    assert "| retnet | 37,792 |" in result.output
    assert report.with_suffix(".png").stat().st_size > 10_000
    assert report.with_suffix(".md").read_text() in result.output


@pytest.mark.timeout(600)
def test_tasks_of_hope_end_in_tables_and_are_not_run_again(data, tmp_path, monkeypatch):
    report = tmp_path / "out" / "lm.json"
    tasks = [word for task in ("levels", "ablations", "widths") for word in ("--tasks", task)]
    options = ["lm", "--json", str(report), "--sizes", "tiny", "--kinds", "hope", "--seeds", "1", "--tokens", "3072", *tasks]
    monkeypatch.setenv("PALIMPSEST_DATA", str(data))
    (data / "lm/tinyshakespeare.txt.xz").write_bytes(lzma.compress(b"To be, or not to be:\n" * 120))  # 17 readings, 9 trainings
    ledger = report.with_suffix(".jsonl")
    ledger.parent.mkdir()
    ledger.write_text(json.dumps(WIDTHS) + "\n")  # half a minute, if it were measured here
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    lines = [json.loads(text) for text in ledger.read_text().splitlines()]
    assert [(line["task"], line["kind"]) for line in lines] == [
        ("widths", "hope"),
        ("levels", "hope"),
        *(("ablations", name) for name in VARIANTS),
    ]
    assert {line["tokens"] for line in lines[1:]} == {768}
    assert "w/o self-modification" in result.output.split("tiny, ablations")[1].split("##")[0]  # how large it is
    assert "### HOPE's levels at work, tiny" in result.output
    assert "| slow level alone, rate 0.1, every 1,024 tokens |" in result.output
    assert "### Ablations of HOPE, tiny" in result.output
    assert "| 128 | 425,600 | 10,000 | 0.27 (2,700) |" in result.output
    again = CliRunner().invoke(main, options)
    assert again.output.count("seed 0") == 0
    assert [json.loads(text) for text in ledger.read_text().splitlines()] == lines


def killed_after_the_first_trial(command, ledger):
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not (ledger.exists() and ledger.read_bytes().count(b"\n")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    errors = process.communicate()[1]
    kept = [json.loads(text) for text in ledger.read_text().splitlines(keepends=True) if text.endswith("\n")]
    assert kept, errors
    return kept


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--sizes", "tiny", "--kinds", "retnet", "--tasks", "text"), 1, "lm/books/*.txt.xz"),
        (("--kinds", "lstm"), 2, "there is no kind 'lstm'; there are transformer++"),
        (("--kinds", "retnet", "--tasks", "levels"), 2, "are of the kind hope, which is not among --kinds"),
    ],
    ids=["texts", "kind", "hope's task"],
)
def test_what_is_not_there_ends_in_one_clear_message(options, code, message, tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "nowhere"))
    result = CliRunner().invoke(main, ["lm", "--json", str(tmp_path / "lm.json"), *options])
    assert result.exit_code == code
    assert message in result.output
    assert "Traceback" not in result.output

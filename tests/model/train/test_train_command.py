"""`python -m model.train`, end to end: in this process for most promises, as a process for those about processes."""

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from train_little import TEXT, same
from waiting import PATIENCE_S

from model.train.__main__ import main

ROOT = Path(__file__).resolve().parents[3]
TINY = ["--layers", "1", "--width", "16", "--heads", "2", "--batch", "2", "--context", "8", "--quiet", "--device", "cpu"]
COMMAND = [sys.executable, "-m", "model.train"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "beer.txt.xz"
    path.write_bytes(lzma.compress(TEXT.encode()))
    return str(path)


def call(*arguments, code=0):
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def run(text, out, *more, tokens=64, code=0):
    return call("run", "--data", text, "--out", out, "--tokens", tokens, *TINY, *more, code=code)


def newest(out):
    return load_file(max((out / "checkpoints").iterdir()) / "model.safetensors")


def lines(out):
    return [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run that nobody changes."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "beer.txt").write_text(TEXT)
    run(folder / "beer.txt", folder / "out", "--tokenizer", "char")
    return folder / "out"


def test_run_as_a_process_leaves_checkpoint_curves_and_picture(text, tmp_path):
    out = tmp_path / "out"
    options = [option for option in TINY if option != "--quiet"]
    done = subprocess.run(
        [*COMMAND, "run", "--data", text, "--out", out, "--tokens", "1k", "--tokenizer", "bpe:300", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout
    assert "tok/s" in done.stderr
    assert lines(out)[-1]["kind"] == "evaluation"
    with Image.open(out / "curves.png") as picture:
        picture.verify()
    assert newest(out)["model.embed_tokens.weight"].shape == (300, 16)


def test_interrupted_run_leaves_a_checkpoint_and_resumes_as_if_nothing_had_been(text, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    steady = ["--schedule", "constant", "--warmup", "0"]
    process = subprocess.Popen(
        [*COMMAND, "run", "--data", text, "--out", out, "--tokens", "100M", *steady, *TINY],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (out / "curves.jsonl").exists() or not (out / "curves.jsonl").read_text():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "the checkpoint is safe. Go on with: python -m model.train resume" in errors
    tokens = lines(out)[-1]["tokens"] + 48
    call("resume", out, "--tokens", tokens, "--quiet")
    run(text, whole, *steady, "--inner-warmup", 0, tokens=tokens)
    assert same(newest(out), newest(whole))
    losses = [[line["loss"] for line in lines(place) if line["kind"] == "step"] for place in (out, whole)]
    assert losses[0] == losses[1]


def test_help_names_the_commands_and_options():
    assert all(name in call("--help").output for name in ("run", "resume", "evaluate", "sample"))
    assert "--decay-starts" in call("run", "--help").output


def test_two_runs_of_a_seed_are_equal_and_quiet_is_quiet(text, trained, tmp_path):
    result = run(text, tmp_path / "out", "--tokenizer", "char")
    assert same(newest(tmp_path / "out"), newest(trained))
    assert result.stderr == ""


def test_resume_after_a_kill_before_the_first_checkpoint_begins_again(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    call("resume", tmp_path / "out", "--quiet", "--device", "cpu")
    assert same(newest(tmp_path / "out"), newest(trained))
    assert [line["step"] for line in lines(tmp_path / "out") if line["kind"] == "step"] == [1, 2, 3, 4]


def test_evaluate_scores_the_validation_text_in_windows_and_as_a_stream(trained):
    told = lines(trained)[-1]["scores"]
    assert json.loads(call("evaluate", trained).stdout) == pytest.approx(told)
    stream = json.loads(call("evaluate", trained, "--stream", "--limit", 50).stdout)
    assert stream["tokens"] == 50
    assert stream["bits_per_byte"] == pytest.approx(told["bits_per_byte"], rel=0.3)


def test_evaluate_reads_other_texts_whole(trained, tmp_path):
    (tmp_path / "other.txt").write_text(TEXT[:200])
    assert json.loads(call("evaluate", trained, "--data", tmp_path / "other.txt").stdout)["bytes"] == 199


def test_domains_are_scored_apart(tmp_path):
    (tmp_path / "data" / "songs").mkdir(parents=True)
    (tmp_path / "data" / "songs" / "a.txt").write_text(TEXT)
    (tmp_path / "data" / "numbers.txt").write_text("0123456789\n" * 60)
    run(str(tmp_path / "data"), tmp_path / "out")
    scores = lines(tmp_path / "out")[-1]["scores"]
    assert {"bits_per_byte/songs", "bits_per_byte/numbers"} <= scores.keys()


def test_sample_is_drawn_from_a_seed(trained):
    samples = [call("sample", trained, "--prompt", "9", "--length", 12, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    assert samples[0].startswith("9")
    assert len(samples[0]) == 14  # prompt, 12 characters, newline
    assert "not among" in call("sample", trained, "--prompt", "é", code=1).output


def test_no_validation_byte_is_trained_on(tmp_path):
    """The validation text is of bytes that the training text lacks: their embeddings get no gradient as inputs, nor any decay."""
    (tmp_path / "t.txt").write_text("ab" * 450 + "z" * 100)
    (tmp_path / "m.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "tie_word_embeddings": False,
    }))  # fmt: skip
    for name, tokens in (("short", 16), ("long", 320)):
        run(str(tmp_path / "t.txt"), tmp_path / name, "--model", tmp_path / "m.json", tokens=tokens)
    before, after = (newest(tmp_path / name)["model.embed_tokens.weight"] for name in ("short", "long"))
    changed = {index for index in range(256) if not (before[index] == after[index]).all()}
    assert changed == {ord("a"), ord("b")}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rate", "-1"], "rate is -1.0, it must be a positive number"),
        (["--precision", "fp8"], "precision is 'fp8', it must be one of fp32, bf16"),
        (["--tokenizer", "words"], "tokenizer is 'words', it must be byte, char, or bpe:VOCAB"),
        (["--batch", "0"], "batch is 0, it must be a whole number of at least 1"),
        (["--context", "100000"], "a window of 100000 tokens needs texts of at least 100001"),
        (["--width", "10", "--heads", "4"], "width 10 is not a multiple of heads 4"),
        (["--model", "perceptron-9000"], "model is 'perceptron-9000', it must be one of"),
        (["--validation", "0.0001"], "the validation part of beer has 1 tokens"),
        (["--decay-starts", "0.1"], "decay_starts is 0.1"),
        (["--data", "/absent.txt"], "there is no file or folder /absent.txt"),
        (["--device", "cuda:99"], "device"),
        (["--device", "gpu"], "device is 'gpu', it must be"),
    ],
)
def test_bad_settings_are_told_in_one_line_and_leave_nothing(options, says, text, tmp_path):
    result = run(text, tmp_path / "out", *options, code=1)
    assert says in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_number_of_tokens_that_is_none_is_refused(text, tmp_path):
    assert "'lots' is not a number of tokens" in run(text, tmp_path / "out", tokens="lots", code=2).output


def test_folder_of_a_run_is_never_written_over(text, trained, tmp_path):
    before = newest(trained)
    assert "holds a run already; resume it, or choose another folder" in run(text, trained, "--seed", 1, code=1).output
    assert same(newest(trained), before)
    assert "holds no training run" in call("resume", tmp_path / "none", code=1).output


def test_run_is_not_resumed_on_a_changed_text(text, tmp_path):
    run(text, tmp_path / "out")
    Path(text).write_bytes(lzma.compress(TEXT.replace("beer", "wine").encode()))
    assert "has changed since the run began" in call("resume", tmp_path / "out", "--tokens", 128, code=1).output


def test_diverging_run_says_so_and_keeps_its_checkpoint(text, tmp_path):
    wild = ["--rate", "1e30", "--clip", 0, "--warmup", 0.025, "--checkpoint-every", 16]
    output = run(text, tmp_path / "out", *wild, code=1, tokens=640).output
    assert "finite" in output or "the loss is" in output or "norm is" in output
    assert "Traceback" not in output

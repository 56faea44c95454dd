"""Settings: schedules on the token clock; refusals that name the field; JSON and back."""

import json

import pytest

from model.train.settings import Run, Settings, from_mapping


def test_rate_rises_then_falls_by_half_a_cosine():
    settings = Settings(1000, rate=2.0, warmup=0.1, rate_end=0.1)
    assert [settings.rate_at(tokens) for tokens in (50, 100, 550, 1000, 2000)] == pytest.approx([1.0, 2.0, 1.1, 0.2, 0.2])
    constant = settings.but(schedule="constant")
    assert [constant.rate_at(tokens) for tokens in (50, 100, 1000)] == pytest.approx([1.0, 2.0, 2.0])


def test_rate_depends_on_tokens_and_not_on_what_made_them():
    with_batch = Settings(1000, accumulate=4)
    assert with_batch.rate_at(640) == Settings(1000).rate_at(640)


def test_inner_rate_is_warmed_up_from_a_tenth_over_the_first_tenth():
    settings = Settings(1000)
    assert [settings.inner_scale_at(tokens) for tokens in (0, 50, 100, 900)] == pytest.approx([0.1, 0.55, 1.0, 1.0])
    assert Settings(1000, inner_warmup=0.0).inner_scale_at(0) == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens", 0), ("tokens", 1.5), ("tokens", True), ("accumulate", 0), ("windows", -1), ("evaluate_every", -1),
        ("checkpoint_every", "x"),
        ("seed", -1), ("rate", 0.0), ("rate", float("nan")), ("rate", float("inf")), ("rate", None), ("rate", "fast"),
        ("clip", 0.0), ("clip", -1.0),
        ("rate_end", 1.1), ("warmup", -0.1), ("inner_warmup", 2.0), ("inner_start", -1.0), ("beta1", 1.0), ("beta2", -0.1),
        ("weight_decay", 1.0),
        ("decay_starts", 0.01), ("optimizer", "sgd"), ("precision", "fp16"), ("schedule", "linear"),
    ],
)  # fmt: skip
def test_value_out_of_range_is_refused_with_its_name(field, value):
    with pytest.raises(ValueError, match=rf"^{field} is {value!r}, it must be"):
        Settings(**{"tokens": 1000, field: value})


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(ValueError, match=r"precision.*; tokens.*; beta1"):
        Settings(0, beta1=2.0, precision="fp8")


@pytest.mark.parametrize(
    ("field", "value"), [("batch", 0), ("context", 0), ("keep", 0), ("validation", 1.0), ("data", ()), ("evaluate_tokens", -1)]
)
def test_run_refuses_with_the_name(field, value):
    with pytest.raises(ValueError, match=f"^{field} is"):
        Run(**{"data": ("a",), "model": {}, "loop": Settings(1), field: value})


def test_run_comes_back_from_json_equal(tmp_path):
    run = Run(("a.txt", "b"), {"model_type": "llama", "hidden_size": 8}, Settings(1000, clip=None, rate=0.1 + 0.2), tokenizer="char")
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_unknown_and_missing_fields_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"loop\.speed is not a setting"):
        from_mapping(Settings, {"tokens": 1, "speed": 2}, "loop.")
    with pytest.raises(ValueError, match="tokens"):
        from_mapping(Settings, {}, "loop.")
    with pytest.raises(ValueError, match="holds no training run"):
        Run.load(tmp_path / "run.json")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Run.load(tmp_path / "run.json")
    (tmp_path / "run.json").write_text(json.dumps({"data": ["a"], "model": {}, "loop": {"tokens": 1}, "colour": 1}))
    with pytest.raises(ValueError, match="colour is not a setting"):
        Run.load(tmp_path / "run.json")

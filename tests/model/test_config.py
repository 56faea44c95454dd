"""The configuration: contradictions are refused by name, and the hash is the identity of a bank's weights."""

from dataclasses import fields, replace

import numpy as np
import pytest
from memory_reference import unit_keys

from model import Lesson, Recall, RecallConfig
from model.config import FORMAT
from model.features import BLOCK
from model.state import contradictions, layout

DEFAULT = RecallConfig("e" * 64)
READING = {"young", "settled", "growth", "abstain_below"}
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("code_width", {"code_width": 12}),
        ("code_width", {"code_width": 0}),
        ("code_width", {"code_width": -8}),
        ("code_width", {"code_width": 4_104}),
        ("neighbours", {"neighbours": -1}),
        ("neighbours", {"neighbours": 2_048}),
        ("window", {"window": 32}),
        ("window", {"window": 0}),
        ("window", {"middle_period": 1_500}),
        ("rate", {"rate": 0.0}),
        ("rate", {"rate": -3.0}),
        ("rate", {"rate": INFINITY}),
        ("rate", {"rate": NAN}),
        ("own_words", {"own_words": -0.1}),
        ("own_words", {"own_words": 1.01}),
        ("own_words", {"own_words": NAN}),
        ("same", {"same": 0.0}),
        ("same", {"same": 1.01}),
        ("same", {"same": NAN}),
        ("replaced_at", {"replaced_at": 0.0}),
        ("replaced_at", {"replaced_at": INFINITY}),
        ("replaced_at", {"replaced_at": NAN}),
        ("replaced_step", {"replaced_step": -0.1}),
        ("replaced_step", {"replaced_step": INFINITY}),
        ("replaced_step", {"replaced_step": NAN}),
        ("periods", {"middle_period": 1}),
        ("periods", {"middle_period": 0}),
        ("periods", {"slow_period": 16}),
        ("key_width", {"key_width": 0}),
        ("key_width", {"key_width": BLOCK + 1}),
        ("frequencies", {"frequencies": -1}),
        ("places", {"places": 0}),
        ("slow_from", {"slow_from": 1}),
        ("max_responses", {"max_responses": 0}),
        ("sharpness", {"sharpness": 0.0}),
        ("sharpness", {"sharpness": -4.5}),
        ("sharpness", {"sharpness": NAN}),
        ("sharpness", {"sharpness": INFINITY}),
    ],
    ids=str,
)
def test_a_contradiction_is_refused_by_name(named: str, changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=named):
        replace(DEFAULT, **changes)


def test_all_contradictions_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"code_width 9 .*; neighbours 9000 .*; rate 0 .*; same 2 .*; periods 1, 0, .*; key_width 999 "):
        RecallConfig("e", code_width=9, neighbours=9_000, rate=0, same=2, middle_period=0, key_width=999)


@pytest.mark.parametrize(
    "changes",
    [
        {"key_width": BLOCK},
        {"key_width": 1},
        {"code_width": 8},
        {"frequencies": 1},
        {"frequencies": 0, "window": 34},
        {"neighbours": 0},
        {"neighbours": 127},
        {"window": 33},
        {"window": 5, "middle_period": 2, "neighbours": 4},
        {"rate": 1e-2},
        {"rate": 1e2},
        {"own_words": 0.0},
        {"own_words": 1.0},
        {"sharpness": 1e-3},
        {"sharpness": 1e3},
        {"replaced_step": 0.0},
        {"max_responses": 3},
    ],
    ids=str,
)
def test_what_is_accepted_works(changes: dict[str, float]) -> None:
    config = RecallConfig.tiny(encoder_digest="e", **changes)
    recall, keys = Recall(config), unit_keys(40, 1, config.key_width)
    state = recall.initial()
    for seq, key in enumerate(keys, 1):
        recall.apply_(state, Lesson(key, f"answer {seq % 3}", 1, seq, words=keys[-seq]))
    assert not list(contradictions(config, state.levels))
    assert np.isfinite(recall.read(state, keys[0])).all()


def test_the_reserve_is_two_pairs_for_each_token_of_a_middle_period() -> None:
    assert DEFAULT.reserve == 32
    assert replace(DEFAULT, middle_period=100).reserve == 200


def test_the_hash_covers_everything_that_bits_depend_on_and_nothing_about_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {DEFAULT.hash}
    for field in fields(RecallConfig):
        value = getattr(DEFAULT, field.name)
        more = 1_024 if field.name == "places" else 8
        other = "f" * 64 if isinstance(value, str) else value + more if isinstance(value, int) else np.multiply(value, 0.5)
        changed = replace(DEFAULT, **{field.name: other}).hash
        assert (changed == DEFAULT.hash) == (field.name in READING), field.name
        hashes.add(changed)
    assert len(hashes) == len(fields(RecallConfig)) - len(READING) + 1, "no two differing configurations share a hash"
    assert replace(DEFAULT).hash == DEFAULT.hash
    monkeypatch.setattr("model.config.FORMAT", FORMAT + 1)
    assert DEFAULT.hash not in hashes, "the meaning of the tensors is part of the identity"


def test_the_default_holds_13_1_mebibytes_and_44_bytes_for_each_distinct_answer_and_the_tiny_one_one() -> None:
    for config, mebibytes, row in ((DEFAULT, 13.1, 44), (RecallConfig.tiny(encoder_digest="e"), 1.1, 28)):
        forms = [form for named in layout(config).values() for form in named.values()]
        fixed = sum(form.rows * form.columns * form.dtype.itemsize for form in forms if form.rows is not None)
        assert round(fixed / 2**20, 1) == mebibytes
        assert Recall(config).initial().nbytes == fixed
        assert sum(form.columns * form.dtype.itemsize for form in forms if form.rows is None) == row


def test_periods_are_in_tokens_and_grow_from_level_to_level() -> None:
    assert [DEFAULT.period_of(level) for level in ("fast", "middle", "slow")] == [0, 16, 1_000_000]

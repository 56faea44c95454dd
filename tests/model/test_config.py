"""The configuration: contradictions are refused by name, and the hash is the identity of a bank's weights."""

from dataclasses import fields, replace

import pytest
import torch

from model import Recall, RecallConfig
from model.features import BLOCK, FeatureMap
from model.state import layout

DEFAULT = RecallConfig("e" * 64)
READING = {"score_weight", "margin_weight", "bias", "abstain_below"}
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("code_width", {"code_width": 12}),
        ("code_width", {"code_width": 0}),
        ("code_width", {"code_width": -8}),
        ("code_width", {"code_width": 4_104}),
        ("active", {"active": 0}),
        ("active", {"active": 5_120}),
        ("units", {"units": 128}),
        ("share", {"share": -0.1}),
        ("share", {"share": 1.01}),
        ("share", {"share": NAN}),
        ("step", {"step": 0.0}),
        ("step", {"step": 1.5}),
        ("step", {"step": NAN}),
        ("periods", {"middle_period": 1}),
        ("periods", {"middle_period": 0}),
        ("periods", {"slow_period": 16}),
        ("key_width", {"key_width": 0}),
        ("key_width", {"key_width": BLOCK + 1}),
        ("frequencies", {"frequencies": 0}),
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
    with pytest.raises(ValueError, match=r"code_width 9 .*; active 9000 .*; .*step 2.0 .*; periods 1, 0, .*; key_width 999 "):
        RecallConfig("e", code_width=9, active=9_000, step=2.0, middle_period=0, key_width=999)


@pytest.mark.parametrize(
    "changes",
    [{"key_width": BLOCK}, {"key_width": 1}, {"active": 511}, {"share": 0.0}, {"share": 1.0}, {"code_width": 8}, {"frequencies": 1}],
    ids=str,
)
def test_what_is_accepted_works(changes: dict[str, float]) -> None:
    config = RecallConfig.tiny(encoder_digest="e", **changes)
    key = torch.zeros(config.key_width)
    key[0] = 1.0
    features = FeatureMap(config)(key)
    assert bool(torch.isfinite(features.waves).all())
    assert bool(torch.isfinite(features.strengths).all())


def test_the_hash_covers_everything_that_bits_depend_on_and_nothing_about_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {DEFAULT.hash}
    for field in fields(RecallConfig):
        value = getattr(DEFAULT, field.name)
        other = "f" * 64 if isinstance(value, str) else value + 8 if isinstance(value, int) else value * 0.5
        changed = replace(DEFAULT, **{field.name: other}).hash
        assert (changed == DEFAULT.hash) == (field.name in READING), field.name
        hashes.add(changed)
    assert len(hashes) == len(fields(RecallConfig)) - len(READING) + 1, "no two differing configurations share a hash"
    assert replace(DEFAULT).hash == DEFAULT.hash
    monkeypatch.setattr("model.config.FORMAT", 2)
    assert DEFAULT.hash not in hashes, "the meaning of the tensors is part of the identity"


def test_the_default_holds_14_mebibytes_of_weights_and_the_tiny_one_half_of_one() -> None:
    for config, mebibytes in ((DEFAULT, 14.0), (RecallConfig.tiny(encoder_digest="e"), 0.5)):
        numbers = sum(rows * columns for named in layout(config).values() for rows, columns in named.values() if rows is not None)
        assert 4 * numbers / 2**20 == mebibytes
        assert Recall(config).initial().nbytes == 4 * numbers


def test_periods_are_in_tokens_and_grow_from_level_to_level() -> None:
    assert [DEFAULT.period_of(level) for level in ("fast", "middle", "slow")] == [0, 16, 1_000_000]

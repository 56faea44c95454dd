"""Training-time levels on a token clock: exact frequency, exact means, untouched in between, restorable (T30, T31, T35, T53)."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_reference import numbers
from torch import nn

from model.optim import M3, AdamW, Frequencies, LevelGroup, Momentum, RuleOptimizer, Sgd

PERIODS = {"fast": 1, "middle": 10, "slow": 64, "static": None}


def levels(optimizer=lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), **periods):
    """One weight of 3 × 4 per level, all starting alike, under one optimizer each."""
    periods = periods or PERIODS
    weights = {name: nn.Parameter(numbers(1, 3, 4)) for name in periods}
    groups = [LevelGroup(name, [weights[name]], period, optimizer([weights[name]])) for name, period in periods.items()]
    return weights, Frequencies(groups)


def give(weights, seed, scale=1.0):
    for weight in weights.values():
        weight.grad = scale * numbers(seed, 3, 4)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 5) | st.integers(1, 80), min_size=1, max_size=25))
def test_t30_a_level_changes_exactly_when_the_clock_crosses_its_period_and_not_by_a_bit_otherwise(calls):
    weights, freq = levels()
    clock = 0
    for seed, tokens in enumerate(calls):
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        give(weights, seed)
        updated = freq.step(tokens)
        moments = range(clock + 1, clock + tokens + 1)
        clock += tokens
        due = {name for name, period in PERIODS.items() if period is not None and any(moment % period == 0 for moment in moments)}
        assert set(updated) == due
        assert {name for name, weight in weights.items() if not weight.equal(before[name])} == due
        assert all(weight.grad is None for weight in weights.values())
    assert freq.tokens == clock


def test_t31_the_same_tokens_in_any_pieces_update_at_the_same_times_with_the_same_mean():
    gradients = numbers(5, 60, 3, 4)  # one per token
    ends = {}
    for name, cuts in {"one by one": [1] * 60, "sixes": [6] * 10, "ragged": [1, 2, 3, 7, 5, 2, 10, 15, 1, 14]}.items():
        weights, freq = levels(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), level=30)
        at, times = 0, []
        for tokens in cuts:
            weights["level"].grad = gradients[at : at + tokens].mean(0)  # gradients do not depend on the weight here
            at += tokens
            times += [at] if freq.step(tokens) else []
        assert times == [30, 60]
        ends[name] = weights["level"].detach()
    first, second = gradients[:30].mean(0), gradients[30:].mean(0)
    expected = numbers(1, 3, 4) - 0.1 * first - 0.1 * (0.9 * first + second)
    for end in ends.values():
        torch.testing.assert_close(end, expected, rtol=0, atol=1e-12)


def test_a_level_with_every_call_due_is_its_optimizer_bit_for_bit():
    weights, freq = levels(fast=4, whole=7)
    plain = nn.Parameter(numbers(1, 3, 4))
    bare = torch.optim.AdamW([plain], lr=0.01, weight_decay=0.1)
    for seed in range(9):
        give(weights, seed)
        plain.grad = numbers(seed, 3, 4)
        freq.step(7)  # no power of two: a detour over sums would round
        bare.step()
        assert weights["fast"].equal(plain)
        assert weights["whole"].equal(plain)


def test_several_backward_passes_before_a_step_count_as_the_one_mean_they_make():
    model, twin = nn.Linear(4, 1), nn.Linear(4, 1)
    twin.load_state_dict(model.state_dict())
    x = numbers(3, 6, 4).float()
    one, two = [Frequencies([LevelGroup("all", net.parameters(), 12, RuleOptimizer(net.parameters(), Sgd(0.1)))]) for net in (model, twin)]
    for _ in range(2):
        model(x).square().mean().backward()
        one.step(6)
    for _ in range(2):
        for part in (x[:3], x[3:]):
            (twin(part).square().mean() / 2).backward()
        two.step(6)
    torch.testing.assert_close(model.weight, twin.weight)
    assert one.report()["all"].updates == two.report()["all"].updates == 1


def test_t35_a_static_level_never_changes_and_holds_no_gradients():
    weight = nn.Parameter(numbers(1, 3, 4))
    freq = Frequencies([LevelGroup("static", [weight], None)])
    for seed in range(5):
        weight.grad = numbers(seed, 3, 4)
        assert freq.step(1_000_000) == ()
    assert weight.equal(numbers(1, 3, 4))
    assert freq.state_dict()["levels"]["static"]["sums"] == [None]
    assert freq.report()["static"].waiting_tokens == 0


@pytest.mark.parametrize("rule", [AdamW(0.01), M3(0.01, period=2), Momentum(0.01)], ids=["adamw", "m3", "momentum"])
def test_t53_saved_between_updates_and_restored_equals_uninterrupted(rule):
    def build():
        return levels(lambda p: RuleOptimizer(p, rule))

    whole, clock = build()
    first, stopped = build()
    for seed in range(40):
        give(whole, seed)
        clock.step(7)
    for seed in range(21):
        give(first, seed)
        stopped.step(7)
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    second, resumed = build()
    for name in second:
        second[name].data = first[name].detach().clone()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.report() == stopped.report()
    for seed in range(21, 40):
        give(second, seed)
        resumed.step(7)
    assert all(second[name].equal(whole[name]) for name in whole)
    assert resumed.report() == clock.report()


def test_the_report_tells_updates_their_length_and_what_waits():
    weights, freq = levels(lambda p: torch.optim.SGD(p, lr=0.5), fast=1, slow=10)
    for seed in range(6):
        give(weights, seed)
        freq.step(2)
    report = freq.report()
    assert (report["fast"].updates, report["slow"].updates) == (6, 1)
    assert (report["fast"].waiting_tokens, report["slow"].waiting_tokens) == (0, 2)
    assert report["fast"].last_norm == pytest.approx(0.5 * float(numbers(5, 3, 4).norm()), rel=1e-12)
    assert report["slow"].last_norm == pytest.approx(0.5 * float(sum(numbers(s, 3, 4) for s in range(5)).norm() / 5), rel=1e-12)


def test_clip_bounds_the_mean_gradient_of_an_update():
    weight = nn.Parameter(numbers(1, 3, 4))
    freq = Frequencies([LevelGroup("level", [weight], 4, torch.optim.SGD([weight], lr=1.0), clip=0.5)])
    for seed in range(2):
        weight.grad = 100 * numbers(seed, 3, 4)
        freq.step(2)
    assert freq.report()["level"].last_norm == pytest.approx(0.5)


def test_t41_a_gradient_that_is_not_finite_spoils_neither_the_wait_nor_other_levels():
    weights, freq = levels(lambda p: torch.optim.SGD(p, lr=1.0), fast=1, slow=6)
    for seed in range(3):
        give(weights, seed)
        if seed == 1:
            weights["slow"].grad[0, 0] = float("nan")
        freq.step(2)
    report = freq.report()
    assert (report["fast"].refused, report["slow"].refused) == (0, 1)
    torch.testing.assert_close(weights["slow"].detach(), numbers(1, 3, 4) - (numbers(0, 3, 4) + numbers(2, 3, 4)) / 2)
    give(weights, 0, float("inf"))
    before = weights["fast"].detach().clone()
    assert freq.step(1) == ()
    assert weights["fast"].equal(before)
    assert freq.tokens == 7


def test_bfloat16_gradients_are_summed_in_float32():
    weight = nn.Parameter(torch.zeros(1, 1, dtype=torch.bfloat16))
    freq = Frequencies([LevelGroup("level", [weight], 1024, torch.optim.SGD([weight], lr=1.0))])
    for call in range(1024):
        weight.grad = torch.full((1, 1), 1.0 if call == 0 else 2.0**-9, dtype=torch.bfloat16)
        freq.step(1)
    assert -weight.item() == pytest.approx((1 + 1023 * 2.0**-9) / 1024, rel=2**-8)  # a bfloat16 sum would have stayed at 1


def test_zero_grad_drops_the_present_gradients_and_keeps_the_waiting_ones():
    weights, freq = levels(lambda p: torch.optim.SGD(p, lr=1.0), slow=2)
    give(weights, 3)
    freq.step(1)
    give(weights, 4)
    freq.zero_grad()
    give(weights, 5)
    freq.step(1)
    torch.testing.assert_close(weights["slow"].detach(), numbers(1, 3, 4) - (numbers(3, 3, 4) + numbers(5, 3, 4)) / 2)


def test_levels_that_do_not_fit_together_are_refused_by_name():
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([a], lr=0.1)
    for groups, message in [
        ([], "at least one LevelGroup"),
        ([LevelGroup("x", [], 1, sgd)], "level 'x' has no parameters"),
        ([LevelGroup("x", [a], 0, sgd)], "period_tokens of level 'x'"),
        ([LevelGroup("x", [a], 1)], "needs an optimizer"),
        ([LevelGroup("x", [a, b], 1, sgd)], "exactly the level's parameters"),
        ([LevelGroup("x", [a], 1, sgd), LevelGroup("y", [a], None)], "in level 'x' and again in 'y'"),
        ([LevelGroup("x", [a], 1, sgd), LevelGroup("x", [b], None)], "names must differ"),
        ([LevelGroup("x", [a], 1, sgd, clip=0.0)], "clip of level 'x'"),
    ]:
        with pytest.raises(ValueError, match=message):
            Frequencies(groups)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state["levels"].pop("static"), "has the levels fast, middle, slow, not"),
        (lambda state: state["levels"]["slow"].update(period_tokens=65), "'slow' was saved with the period 65, not 64"),
        (lambda state: state["levels"]["slow"].update(sums=[torch.ones(2)]), "'slow': a waiting gradient does not have"),
        (lambda state: state["levels"]["slow"].update(sums=[]), "saved with 0 parameters"),
        (lambda state: state["levels"]["slow"].update(optimizer=None), "only one side has an optimizer"),
        (lambda state: state["levels"]["slow"]["optimizer"].update(param_groups=[]), "other parameter groups"),
    ],
)
def test_a_saved_clock_of_other_levels_is_refused_and_nothing_changes(spoil, message):
    weights, freq = levels()
    give(weights, 1)
    freq.step(3)
    state, before = copy.deepcopy(freq.state_dict()), freq.report()
    spoil(state)
    state["tokens"] = 99
    with pytest.raises(ValueError, match=message):
        freq.load_state_dict(state)
    with pytest.raises(ValueError, match="tokens is the number"):
        freq.step(0)
    assert (freq.tokens, freq.report()) == (3, before)

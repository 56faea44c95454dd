"""The loop: the same curve for the same seed, a resumed run bit for bit, divergence that harms nothing."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook
from train_little import llama, same, settings, weights, windows

from model.train.batches import IGNORED, Batch
from model.train.checkpointing import Checkpoints
from model.train.history import Evaluated, Saved, Stepped
from model.train.loop import Diverged, train


class Levelled(type(llama())):
    """A model whose feed-forward block is a slow level and whose norms never change."""

    def level_groups(self):
        (layer,) = self.model.layers
        return [("slow", list(layer.mlp.parameters()), 48), ("static", [self.model.norm.weight], None)]


def levelled(seed=0):
    model = llama(seed)
    model.__class__ = Levelled
    return model


def losses(history):
    return [step.loss for step in history.steps]


def stop_after(count):
    left = [count]

    def stop():
        left[0] -= 1
        return left[0] < 0

    return stop


def test_loss_falls_and_the_clock_counts_tokens():
    history = train(llama(), windows(), settings(60))
    assert [step.tokens for step in history.steps[:3]] == [16, 32, 48]
    assert history.finished
    assert sum(losses(history)[-10:]) < 0.8 * sum(losses(history)[:10])
    assert history.tokens_per_s > 0


def test_same_seed_gives_the_same_curve_and_weights_another_does_not():
    models = [llama(dropout=0.2) for _ in range(3)]
    curves = [losses(train(model, windows(), settings(4, seed=seed))) for model, seed in zip(models, (1, 1, 2), strict=True)]
    assert curves[0] == curves[1] != curves[2]
    assert same(weights(models[0]), weights(models[1]))


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (llama, {}),
        (llama, {"optimizer": "muon"}),
        (llama, {"optimizer": "m3"}),
        (llama, {"accumulate": 2, "precision": "bf16", "tokens": 192}),
        (lambda: llama(dropout=0.3), {}),
        (levelled, {}),
        (levelled, {"optimizer": "muon"}),
    ],
    ids=["adamw", "muon", "m3", "accumulated-bf16", "dropout", "levels", "levels-muon"],
)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(make, changes, tmp_path):
    """T53 in the outer loop."""
    unbroken, first, second = make(), make(), make()
    whole = train(unbroken, windows(), settings(6, **changes))
    checkpoints = Checkpoints(tmp_path)
    begun = train(first, windows(), settings(6, **changes), checkpoints=checkpoints, stop=stop_after(2))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(7.0)  # nothing of the fresh model matters
    ended = train(second, windows(), settings(6, **changes), checkpoints=checkpoints, resume=True)
    assert not begun.finished
    assert losses(begun) + losses(ended) == losses(whole)
    assert same(weights(second), weights(unbroken))


def test_levels_of_a_model_change_at_their_period_of_training_tokens():
    """T30, T35 in the outer loop."""
    model, seen = levelled(), []
    start = weights(model)

    def look(event):
        if isinstance(event, Stepped):
            seen.append((event.tokens, weights(model)))

    train(model, windows(), settings(7), look)
    before = start
    for tokens, now in seen:
        changed = {name for name in now if not torch.equal(now[name], before[name])}
        assert any("mlp" in name for name in changed) == (tokens % 48 == 0), tokens
        assert any("self_attn" in name for name in changed)
        before = now
    assert torch.equal(before["model.norm.weight"], start["model.norm.weight"])


def test_accumulated_batches_equal_one_large_batch_also_where_targets_are_ignored():
    def masked(index):
        batch = windows()(index)
        targets = batch.targets.clone()
        targets[0, : 5 + index % 2] = IGNORED
        return Batch(batch.inputs, targets)

    def joined(index):
        parts = [masked(2 * index), masked(2 * index + 1)]
        return Batch(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))

    small, large = llama().double(), llama().double()
    pieces = train(small, masked, settings(3, tokens=96, accumulate=2))
    whole = train(large, joined, settings(3, tokens=96))
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(small.parameters(), large.parameters(), strict=True))


def test_loss_of_a_step_is_the_mean_over_targets_before_the_step():
    model, batch = llama(), windows()(0)
    expected = cross_entropy(model(input_ids=batch.inputs).logits.flatten(0, 1), batch.targets.flatten()).detach()
    assert losses(train(model, windows(), settings(1)))[0] == pytest.approx(float(expected), rel=1e-6)


def test_gradient_flows_through_the_carried_state_only_on_demand():
    models = [llama() for _ in range(3)]
    whole = train(models[0], windows(), settings(1, clip=None))
    through = train(models[1], windows(), settings(1, clip=None, windows=2, bptt=True))
    cut = train(models[2], windows(), settings(1, clip=None, windows=2))
    assert losses(through) == pytest.approx(losses(whole), rel=1e-5)
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-5)  # the state is carried all the same
    assert through.steps[0].norm == pytest.approx(whole.steps[0].norm, rel=1e-4)
    assert cut.steps[0].norm != pytest.approx(whole.steps[0].norm, rel=1e-4)


def test_clip_bounds_the_gradient_that_the_optimizer_sees_and_tells_the_norm_before():
    seen = []

    def look(optimizer, args, kwargs):
        gradients = [parameter.grad.flatten() for group in optimizer.param_groups for parameter in group["params"]]
        seen.append(float(torch.cat(gradients).norm()))

    hook = register_optimizer_step_pre_hook(look)
    try:
        told = [train(llama(), windows(), settings(1, clip=clip)).steps[0].norm for clip in (0.01, None)]
    finally:
        hook.remove()
    assert seen == pytest.approx([0.01, told[1]], rel=1e-3)
    assert told[0] == told[1] > 0.01


def test_inner_rate_is_warmed_up_on_the_token_clock_and_left_at_one():
    model, scales = llama(), []
    model.set_inner_scale = scales.append
    train(model, windows(), settings(20, inner_warmup=0.2))
    assert scales[:5] == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0])
    assert scales[-1] == 1.0


def test_bf16_trains_float32_weights_close_to_float32():
    exact, half = llama(), llama()
    left, right = losses(train(exact, windows(), settings(10))), losses(train(half, windows(), settings(10, precision="bf16")))
    assert left != right
    assert right == pytest.approx(left, rel=2e-2)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}


def test_loss_that_is_no_number_stops_before_the_weights_are_touched(tmp_path):
    model = llama()
    poisoned = model.forward
    calls = []

    def forward(*args, **kwargs):
        out = poisoned(*args, **kwargs)
        calls.append(None)
        if len(calls) == 4:
            out.logits = out.logits * math.nan
        return out

    model.forward = forward
    with pytest.raises(Diverged, match=r"the loss is nan at step 4, token 48: .*the last good checkpoint is .*tokens-0+32"):
        train(model, windows(), settings(6, checkpoint_every=32), checkpoints=Checkpoints(tmp_path))
    three = llama()
    train(three, windows(), settings(6), stop=stop_after(3))
    assert same(weights(model), weights(three))
    assert [place.name[-3:] for place in Checkpoints(tmp_path).all()] == ["032"]


def test_events_come_at_their_tokens(tmp_path):
    events = []
    train(
        llama(), windows(), settings(5, evaluate_every=32, checkpoint_every=48), events.append,
        evaluate=lambda model: {"loss": 1.0}, checkpoints=Checkpoints(tmp_path),
    )  # fmt: skip
    assert [event.tokens for event in events if isinstance(event, Stepped)] == [16, 32, 48, 64, 80]
    assert [event.tokens for event in events if isinstance(event, Evaluated)] == [32, 64, 80]
    assert [event.tokens for event in events if isinstance(event, Saved)] == [48, 80]


def test_random_state_and_mode_of_the_caller_are_left_alone():
    model = llama(dropout=0.2).eval()
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    train(model, windows(), settings(2))
    assert torch.equal(torch.rand(3), expected)
    assert not model.training


def test_batches_that_cannot_be_used_are_refused():
    nothing = Batch(torch.zeros(1, 4, dtype=torch.int64), torch.full((1, 4), IGNORED))
    with pytest.raises(ValueError, match="step 0 have no target"):
        train(llama(), lambda index: nothing, settings(1))
    with pytest.raises(ValueError, match="8 tokens cannot be read in 9 windows"):
        train(llama(), windows(), settings(1, windows=9))
    frozen = llama().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model needs a gradient"):
        train(frozen, windows(), settings(1))
    with pytest.raises(ValueError, match="resume needs checkpoints"):
        train(llama(), windows(), settings(1), resume=True)

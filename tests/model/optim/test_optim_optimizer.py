"""Rules as torch optimizers: training, schedulers, closures, groups, and saved state (T53)."""

import io

import pytest
import torch
from optim_reference import MATRIX_ONLY, RULES, numbers
from torch import nn
from torch.optim import lr_scheduler
from transformers import LlamaConfig, LlamaForCausalLM

from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.optim import DGD, M3, AdamW, Momentum, Muon, RuleOptimizer, Sgd, split_matrices

each_rule = pytest.mark.parametrize("name", RULES)


class Regression(nn.Module):
    """Two layers and 64 examples of a fixed linear map."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2)).to(dtype)
        for seed, parameter in enumerate(self.net.parameters()):
            parameter.data = (0.3 * numbers(seed, *parameter.shape)).to(dtype)
        self.x = numbers(40, 64, 6).to(dtype)
        self.y = self.x @ (0.3 * numbers(41, 6, 2)).to(dtype)

    def loss(self) -> torch.Tensor:
        return (self.net(self.x) - self.y).square().mean()


def optimizer_for(name: str, model: nn.Module, **options: float) -> RuleOptimizer:
    """The rule for what it can step, SGD for the rest: one optimizer, two groups."""
    if name not in MATRIX_ONLY:
        return RuleOptimizer([{"params": list(model.parameters()), **options}], RULES[name])
    split = split_matrices(model)
    return RuleOptimizer([{"params": split.matrices, **options}, {"params": split.others, "rule": Sgd(0.05)}], RULES[name])


def train(model: Regression, optimizer: torch.optim.Optimizer, steps: int) -> float:
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss()
        loss.backward()
        optimizer.step()
    return float(model.loss().detach())


@each_rule
def test_training_lowers_the_loss(name):
    model = Regression()
    start = float(model.loss().detach())
    # a division by √V ties the rate to the size of the gradients, so those two need their own
    rates = {"m3-post": 1e-4, "m3-literal": 2e-3}
    options = {"lr": rates[name]} if name in rates else {}
    assert train(model, optimizer_for(name, model, **options), 150) < 0.5 * start


def test_training_lowers_the_loss_with_delta_gradient_descent():
    model = Regression()
    start = float(model.loss().detach())
    with DGD(model, 0.1, erase=0.1) as optimizer:
        assert train(model, optimizer, 200) < 0.5 * start
    with DGD(model, 0.1) as optimizer:
        assert train(model, optimizer, 50) < start


@each_rule
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
def test_t53_saved_and_restored_equals_uninterrupted(name, dtype):
    whole, first, second = Regression(dtype), Regression(dtype), Regression(dtype)
    train(whole, optimizer_for(name, whole), 11)
    stopped = optimizer_for(name, first)
    train(first, stopped, 5)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": stopped.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second.load_state_dict(saved["model"])
    resumed = optimizer_for(name, second, lr=0.123)
    resumed.load_state_dict(saved["optimizer"])
    train(second, resumed, 6)
    assert all(a.equal(b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    assert resumed.param_groups[0]["lr"] == RULES[name].rate
    kinds = {key: slot.dtype for state in resumed.state.values() for key, slot in state.items()}
    exact = torch.promote_types(dtype, torch.float32)
    assert kinds == {key: torch.int64 if key == "count" else exact for key in kinds}


def test_loaded_slots_are_not_shared_with_the_saved_state():
    model = Regression()
    optimizer = RuleOptimizer(model.parameters(), Momentum(0.01))
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    for slots in optimizer.state.values():
        slots["momentum"].zero_()
    assert all(slots["momentum"].any() for slots in saved["state"].values())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda saved: saved["param_groups"].append(saved["param_groups"][0]), "2 parameter groups, not 1"),
        (lambda saved: saved["param_groups"][0].update(rule="Muon"), "saved by the rule Muon, not AdamW"),
        (lambda saved: saved["param_groups"][0].pop("rule"), "saved by the rule of another optimizer, not AdamW"),
        (lambda saved: saved["param_groups"][0]["params"].pop(), "saved with 3 parameters"),
        (lambda saved: saved["state"][0].pop("second"), "lacks the slot 'second'"),
        (lambda saved: saved["state"][0].update(third=torch.ones(1)), "a slot 'third'"),
        (lambda saved: saved["state"][1].update(first=torch.ones(3)), "the slot 'first' was saved with the shape"),
    ],
)
def test_a_saved_state_that_does_not_fit_is_refused_and_nothing_changes(spoil, message):
    model = Regression()
    optimizer = RuleOptimizer(model.parameters(), AdamW(0.01))
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    saved["state"] = {key: dict(slots) for key, slots in saved["state"].items()}
    spoil(saved)
    before = {key: {name: slot.clone() for name, slot in slots.items()} for key, slots in optimizer.state.items()}
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)
    assert all(optimizer.state[key][name].equal(slot) for key, slots in before.items() for name, slot in slots.items())


@each_rule
def test_schedulers_of_torch_set_the_rate(name):
    model = Regression()
    optimizer = optimizer_for(name, model)
    schedule = lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.0 if epoch >= 3 else 1.0)
    moved = []
    for _ in range(5):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        train(model, optimizer, 1)
        schedule.step()
        moved.append(not all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True)))
    inside = name in {"momentum", "preconditioned", "higher-order", "delta", "delta-erase"}  # their memory holds steps, and still moves
    assert moved == [True, True, True, inside, inside]


@pytest.mark.parametrize(
    "build",
    [
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 4),
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6, cycle_momentum=False),
        lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 4),
    ],
    ids=["cosine", "one-cycle", "warm-up"],
)
def test_a_scheduled_rate_follows_torch_sgd(build):
    ours, theirs = Regression(), Regression()
    a, b = RuleOptimizer(ours.parameters(), Sgd(0.05)), torch.optim.SGD(theirs.parameters(), lr=0.05)
    schedules = build(a), build(b)
    for _ in range(5):
        train(ours, a, 1)
        train(theirs, b, 1)
        for schedule in schedules:
            schedule.step()
    assert all(torch.allclose(x, y, rtol=0, atol=1e-12) for x, y in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("build", [lambda m: RuleOptimizer(m.parameters(), AdamW(0.01)), lambda m: DGD(m, 0.05)], ids=["rule", "dgd"])
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(build):
    plain, closed = Regression(), Regression()
    one, other = build(plain), build(closed)

    def closure() -> torch.Tensor:
        other.zero_grad()
        loss = closed.loss()
        loss.backward()
        return loss

    for _ in range(3):
        before = float(closed.loss().detach())
        train(plain, one, 1)
        with torch.no_grad():
            assert float(other.step(closure).detach()) == before
    assert all(a.equal(b) for a, b in zip(plain.parameters(), closed.parameters(), strict=True))
    assert one.step() is None


def test_groups_may_differ_in_any_option_and_in_their_rule():
    first, second, third = [nn.Parameter(torch.ones(2, 2)) for _ in range(3)]
    optimizer = RuleOptimizer(
        [{"params": [first], "decay": 0.5}, {"params": [second], "lr": 1.0}, {"params": [third], "rule": Muon(0.5)}], Momentum(0.1, 0.0)
    )
    for _ in range(2):
        for parameter in (first, second, third):
            parameter.grad = torch.ones(2, 2)
        optimizer.step()
    torch.testing.assert_close(first.detach(), torch.full((2, 2), 1 - 0.1 - 0.15))
    torch.testing.assert_close(second.detach(), torch.full((2, 2), -1.0))
    assert 0.2 < third[0, 0] < 0.7  # two steps of 0.5 · NS, whose entries are near 0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: RuleOptimizer([{"params": [p], "momentum": 0.9}], Momentum()), "Momentum has no option 'momentum'"),
        (lambda p: RuleOptimizer([{"params": [p], "lr": -1.0}], Momentum()), "rate is a step size"),
        (lambda p: RuleOptimizer([nn.Parameter(torch.ones(3))], M3()), r"M3 steps matrices \(out, in\) only.*split_matrices"),
        (lambda p: RuleOptimizer([nn.Parameter(torch.ones(3, 3, 2))], Muon()), r"shape \(3, 3, 2\)"),
        (lambda p: RuleOptimizer([nn.Parameter(torch.ones(2), requires_grad=False).long()], Sgd()), "not of floating point"),
        (lambda p: RuleOptimizer([p], torch), "dataclass with a field `rate`"),
    ],
)
def test_what_a_rule_cannot_step_is_refused_when_the_optimizer_is_made(build, message):
    with pytest.raises(ValueError, match=message):
        build(nn.Parameter(torch.ones(2, 2)))


def test_a_refused_group_is_not_kept_and_a_sparse_gradient_changes_nothing():
    weight, table = nn.Parameter(torch.ones(2, 2)), nn.Embedding(4, 2, sparse=True)
    optimizer = RuleOptimizer([weight], Muon())
    with pytest.raises(ValueError, match="matrices"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
    assert len(optimizer.param_groups) == 1
    optimizer = RuleOptimizer([weight, table.weight], Sgd(0.1))
    (weight.sum() + table(torch.tensor([1])).sum()).backward()
    with pytest.raises(ValueError, match="sparse=False"):
        optimizer.step()
    assert weight.equal(torch.ones(2, 2))


def test_split_sends_hidden_matrices_to_m3_and_everything_else_to_adamw():
    config = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=20)
    for tied in (False, True):
        config.tie_word_embeddings = tied
        model = LlamaForCausalLM(config)
        split = split_matrices(model)
        others = {name for name, _ in split.others}
        assert {name for name in others if "norm" not in name} == {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
        assert len(split.matrices) == 2 * 7
        names = [name for name, _ in (*split.matrices, *split.others)]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        optimizer = RuleOptimizer([{"params": split.matrices}, {"params": split.others, "rule": AdamW(1e-2)}], M3(1e-2))
        tokens = torch.arange(16)[None] % 5
        losses = []
        for _ in range(8):
            optimizer.zero_grad()
            losses.append(loss := model(input_ids=tokens, labels=tokens).loss)
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.8 * losses[0]


def test_split_keeps_vectors_that_are_stacked_into_two_dimensions_apart():
    """Rates and retentions of fast memories: one vector a head, which Muon would make orthogonal to each other."""
    split = split_matrices(HopeLM(HopeConfig(num_hidden_layers=1)))
    assert [name.removeprefix("layers.0.") for name, _ in split.matrices] == [
        "mixer.enter.weight",
        "mixer.leave.weight",
        *(f"memory.levels.{level}.{name}.weight" for level in range(3) for name in ("gate_proj", "up_proj", "down_proj")),
    ]
    assert {"layers.0.mixer.rate.weight", "layers.0.mixer.retention.weight"} <= {name for name, _ in split.others}


def test_split_keeps_convolutions_heads_and_frozen_weights_apart():
    model = nn.ModuleDict({"body": nn.Linear(4, 4), "conv": nn.Conv1d(4, 4, 3), "head": nn.Linear(4, 2), "frozen": nn.Linear(4, 4)})
    model["frozen"].requires_grad_(False)
    split = split_matrices(model)
    assert [name for name, _ in split.matrices] == ["body.weight"]
    assert [name for name, _ in split.others] == ["body.bias", "conv.weight", "conv.bias", "head.weight", "head.bias"]
    assert [name for name, _ in split_matrices(model, heads=()).matrices] == ["body.weight", "head.weight"]
    with pytest.raises(ValueError, match="no parameter of the model needs a gradient"):
        split_matrices(model["frozen"])

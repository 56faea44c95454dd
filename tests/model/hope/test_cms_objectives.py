"""The three readings of a level's gradient (hope.md §3.2): they agree where they must, and none sees the future (T33, T34)."""

import pytest
import torch

from model.hope.cms import ContinuumMemory
from model.hope.cms_objectives import leaves, regrouped
from model.hope.level import LevelConfig
from model.hope.state import difference

WIDTH, WORDS, HIDDEN = 6, 7, 8


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(6)


def memory_of(*periods, variant="sequential", objective="ntp", adapt="all", kind="gelu", rate=0.5):
    levels = [LevelConfig(f"level{n}", period, HIDDEN, rate, adapt=adapt, kind=kind) for n, period in enumerate(periods)]
    memory = ContinuumMemory(WIDTH, levels, variant, objective).double()
    for level in memory.levels:
        torch.nn.init.normal_(level.down_proj.weight, std=0.3)
    return memory


def moved(memory, rows):
    """States as after some learning."""
    return tuple(
        None
        if state is None
        else state.map(lambda tensor: tensor + 0.2 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor)
        for state in memory.initial(rows, torch.float64)
    )


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
@pytest.mark.parametrize("kind", ["gelu", "swiglu"])
@pytest.mark.parametrize("adapt", ["all", "down"])
def test_local_pairs_give_the_gradients_of_the_whole_network(variant, kind, adapt):
    """T33: local_delta equals ntp, static levels in between."""
    memory = memory_of(2, None, 4, variant=variant, kind=kind, adapt=adapt)
    states, x, labels = moved(memory, 2), torch.randn(2, 5, WIDTH, dtype=torch.float64), torch.randint(0, WORDS, (2, 5))
    head = torch.randn(WORDS, WIDTH, dtype=torch.float64)

    def loss_of(known, trace=None):
        return torch.nn.functional.cross_entropy((memory(x, known, trace) @ head.T).flatten(0, 1), labels.flatten(), reduction="sum")

    live, flat = leaves(states)
    through = regrouped(states, torch.autograd.grad(loss_of(live), flat))
    trace = []
    errors = torch.autograd.grad(loss_of(states, trace), [output for _, output in trace])
    with torch.no_grad():
        local = memory.local_gradients(states, trace, errors)
    assert [each is None for each in local] == [False, True, False]
    for one, other in zip(through, local, strict=True):
        for name in one or {}:
            torch.testing.assert_close(one[name], other[name], atol=1e-11, rtol=1e-11)


def test_a_loss_that_does_not_reach_a_level_gives_zeros():
    states = memory_of(2, 4).initial(1, torch.float64)
    live, flat = leaves(states)
    given = torch.autograd.grad(sum(tensor.sum() for tensor in flat[:2]), flat, allow_unused=True)
    gradients = regrouped(live, given)
    assert not any(gradient.any() for gradient in gradients[1].values())
    assert all((gradient == 1).all() for gradient in gradients[0].values())


def associated(memory, x, cuts):
    """The stream x in calls of `cuts`, cut again at the fastest period; learns by "assoc"."""
    states, clock, at, outputs = memory.initial(len(x), torch.float64), torch.zeros(len(x), dtype=torch.int64), 0, []
    for cut in cuts:
        stop = at + cut
        while at < stop:
            size = min(stop - at, memory.periods[0] - int(clock[0]) % memory.periods[0])
            trace = []
            outputs.append(memory(x[:, at : at + size], states, trace).detach())
            states, gradients, pairs = memory.associate(states, trace)
            states = memory.advance(memory.accumulate(states, gradients, pairs), clock, clock + size)
            clock, at = clock + size, at + size
    return torch.cat(outputs, 1), states


def test_association_is_regression_of_the_output_on_the_next_input():
    """Against autograd of the written-out loss, target fixed: pairs (t, t + 1) of one period, none made up for the last token."""
    memory = memory_of(8, objective="assoc", adapt="down")
    torch.nn.init.normal_(memory.targets["level0"].weight)
    x, states, level = torch.randn(2, 5, WIDTH, dtype=torch.float64), moved(memory, 2), memory.levels[0]
    states[0].pending["present"].zero_()
    trace = []
    memory(x, states, trace)
    _, gradients, pairs = memory.associate(states, trace)
    delta = states[0].delta["down_proj"].clone().requires_grad_()
    target = memory.targets["level0"](level.norm(x[:, 1:])).detach()
    loss = 0.5 * (level(x[:, :-1], {"down_proj": delta}) - target).square().sum()
    torch.testing.assert_close(gradients[0]["down_proj"], torch.autograd.grad(loss, delta)[0], atol=1e-12, rtol=1e-12)
    assert pairs.tolist() == [4, 4]


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
def test_association_gives_the_same_however_the_stream_is_cut_and_needs_no_graph(variant):
    """T18 at this level; token by token in inference mode. Every pair counts once: 19 tokens, 18 pairs."""
    memory, x = memory_of(4, None, 8, variant=variant, objective="assoc", adapt="down"), torch.randn(2, 19, WIDTH, dtype=torch.float64)
    y, states = associated(memory, x, [19])
    with torch.inference_mode():
        again, end = associated(memory, x, [1] * 19)
    third, other = associated(memory, x, [3, 7, 9])
    torch.testing.assert_close(again, y, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(third, y, atol=1e-12, rtol=1e-12)
    for one, two, three in zip(states, end, other, strict=True):
        if one is not None:
            assert max(difference(one, two).values(), default=0.0) < 1e-12
            assert max(difference(one, three).values(), default=0.0) < 1e-12
    assert states[0].tokens.tolist() == [3, 3]
    assert states[2].tokens.tolist() == [3, 3]


def test_an_update_by_association_uses_no_token_after_its_boundary_and_the_last_pair_waits():
    """T34: the pair of a boundary's token counts in the next period, exactly once."""
    memory, x = memory_of(4, objective="assoc", adapt="down"), torch.randn(1, 8, WIDTH, dtype=torch.float64)
    changed = x.clone()
    changed[:, 4] += 1.0
    _, four = associated(memory, x[:, :4], [4])
    assert four[0].delta["down_proj"].any()
    assert four[0].pending["present"].tolist() == [1]
    y, _ = associated(memory, x, [8])
    z, _ = associated(memory, changed, [8])
    assert torch.equal(y[:, :4], z[:, :4])
    _, five = associated(memory, x[:, :5], [5])
    _, other = associated(memory, changed[:, :5], [5])
    assert torch.equal(five[0].delta["down_proj"], four[0].delta["down_proj"])
    assert five[0].tokens.tolist() == [1]
    assert not torch.equal(five[0].gradient["down_proj"], other[0].gradient["down_proj"])


def test_association_learns_a_repeating_stream():
    memory = memory_of(6, objective="assoc", adapt="down", rate=0.5)
    x = torch.randn(1, 3, WIDTH, dtype=torch.float64).repeat(1, 100, 1)
    _, states = associated(memory, x, [300])
    level = memory.levels[0]
    target = level.norm(x[:, 1:4])
    start, end = (float((level(x[:, :3], delta) - target).detach().square().mean()) for delta in (None, states[0].delta))
    assert end < 0.2 * start


def test_the_target_projection_is_learned_by_gradients_through_the_update():
    memory, x = memory_of(4, objective="assoc", adapt="down"), torch.randn(1, 8, WIDTH, dtype=torch.float64)
    clocks = torch.tensor([0]), torch.tensor([4])

    def later(differentiable):
        trace = []
        states = memory.initial(1, torch.float64)
        memory(x[:, :4], states, trace)
        states, gradients, pairs = memory.associate(states, trace, differentiable)
        states = memory.advance(memory.accumulate(states, gradients, pairs), *clocks)
        return memory(x[:, 4:], states).square().sum()

    target = memory.targets["level0"].weight
    assert torch.autograd.grad(later(False), target, allow_unused=True)[0] is None
    slope = torch.autograd.grad(later(True), target)[0]
    with torch.no_grad():
        step = torch.zeros_like(target)
        step[1, 2] = 1e-6
        target += step
        up = later(False)
        target -= 2 * step
        down = later(False)
    assert float((up - down) / 2e-6) == pytest.approx(float(slope[1, 2]), rel=1e-5)


def test_a_memory_made_for_another_objective_does_not_associate():
    memory = memory_of(4)
    with pytest.raises(ValueError, match="objective is 'ntp'"):
        memory.associate(memory.initial(1, torch.float64), [])

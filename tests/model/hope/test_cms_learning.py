"""What a level's update is worth, nested starts, and what is refused (hope.md §10, T33, T37, T41)."""

from dataclasses import replace

import pytest
import torch
from cms_reference import Reference, stream

from model.hope.cms import ContinuumMemory
from model.hope.cms_learning import RULES, rule_of
from model.hope.cms_telemetry import guards, learned_norms, similarity, update_norms, without
from model.hope.level import LevelConfig

WIDTH, WORDS, HIDDEN = 6, 7, 8


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(4)


def memory_of(*levels, variant="sequential", **fields):
    memory = ContinuumMemory(WIDTH, levels, variant, **fields).double()
    for level in memory.levels:
        torch.nn.init.normal_(level.down_proj.weight, std=0.3)
        torch.nn.init.uniform_(level.norm.weight, 0.5, 1.5)
    if variant == "independent":
        torch.nn.init.normal_(memory.mix)
    return memory


def level(name, period, rate=0.5, **fields):
    return LevelConfig(name, period, HIDDEN, rate, **fields)


def text(rows, tokens):
    return torch.randn(rows, tokens, WIDTH, dtype=torch.float64), torch.randint(0, WORDS, (rows, tokens))


def zeros(rows):
    return torch.zeros(rows, dtype=torch.int64)


def gradients_of(states, value):
    return tuple(None if s is None else {name: torch.full_like(delta, value) for name, delta in s.delta.items()} for s in states)


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ({}, "fast_first"),
        ({"kind": "swiglu", "reduction": "sum"}, "fast_first"),
        ({"clip": 0.05}, "slow_first"),
        ({"adapt": "down"}, "fast_first"),
    ],
    ids=["plain", "swiglu sum", "clipped slow first", "down"],
)
def test_an_update_is_the_sum_of_per_token_gradients_at_the_weights_that_were_live(variant, fields, order):
    """T33: outputs, weights and clip counts against the token loop, over three periods of the slowest level."""
    levels = [
        level("a", 2, 0.5, **fields),
        level("b", 4, 0.3, **fields),
        level("c", 12, 0.7, **fields),
        level("d", None, 0.0, kind=fields.get("kind", "gelu")),
    ]
    memory, head, (x, labels) = (
        memory_of(*levels, variant=variant, order=order),
        torch.randn(WORDS, WIDTH, dtype=torch.float64),
        text(2, 37),
    )
    y, states, _ = stream(memory, head, memory.initial(2, torch.float64), x, labels, zeros(2), [5, 32])
    for row in range(2):
        reference = Reference(memory, head)
        expected = torch.stack([reference.read(token, int(label)) for token, label in zip(x[row], labels[row], strict=True)])
        torch.testing.assert_close(y[row], expected, atol=1e-10, rtol=1e-10)
        for place, state in enumerate(states[:3]):
            for name, base in memory.levels[place].adapted().items():
                torch.testing.assert_close(base + state.delta[name][row], reference.weights(place)[name], atol=1e-10, rtol=1e-10)
            assert int(state.clipped[row]) == reference.clipped[place]
            assert int(state.refused[row]) == 0
    if "clip" in fields:
        assert int(states[0].clipped.min()) > 0


def test_faster_levels_return_to_their_learned_start_at_slow_boundaries_and_only_then():
    """T37: at every slow boundary the fast weights are the anchor that the slow level has just moved, their rule is fresh; nowhere else."""
    memory, (x, labels) = memory_of(level("a", 2, rule="momentum"), level("b", 6), level("c", 12), variant="nested"), text(1, 30)
    returned, moved = [], []

    def seen(clock, before, after):
        for name, delta in after[0].delta.items():
            anchor = after[1].anchor[f"a.{name}"]
            if name == "up_proj" and torch.equal(delta, anchor):
                returned.append(int(clock))
                assert not after[0].slots[name]["momentum"].any()
            if name == "up_proj" and not torch.equal(before[1].anchor[f"a.{name}"], anchor):
                moved.append(int(clock))
            if int(clock) == 12:
                assert torch.equal(anchor, after[2].anchor[f"a.{name}"])
                assert torch.equal(after[1].delta[name], after[2].anchor[f"b.{name}"])

    _, states, _ = stream(
        memory, torch.randn(WORDS, WIDTH, dtype=torch.float64), memory.initial(1, torch.float64), x, labels, zeros(1), [30], seen
    )
    assert returned == moved == [6, 12, 18, 24, 30]
    assert sorted(states[2].anchor) == ["a.down_proj", "a.up_proj", "b.down_proj", "b.up_proj"]
    sequential = memory_of(level("a", 2), level("b", 6))
    assert sequential.initial(1)[1].anchor == {}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_steps_rows_at_different_times_as_if_alone(rule):
    """Rows cross boundaries one after the other; counters and memories of each row are its own."""
    memory, head, (x, labels) = memory_of(level("a", 2, 0.01, rule=rule)), torch.randn(WORDS, WIDTH, dtype=torch.float64), text(2, 9)
    clocks = torch.tensor([0, 1])
    _, states, _ = stream(memory, head, memory.initial(2, torch.float64), x, labels, clocks, [9])
    for row in range(2):
        at = slice(row, row + 1)
        _, alone, _ = stream(memory, head, memory.initial(1, torch.float64), x[at], labels[at], clocks[at], [9])
        for (name, tensor), (_, own) in zip(states[0].rows(torch.tensor([row])).named(), alone[0].named(), strict=True):
            torch.testing.assert_close(tensor, own, atol=1e-10, rtol=1e-8, msg=name)
        assert float(alone[0].delta["up_proj"].abs().max()) > 0


def test_an_exploding_gradient_is_clipped_to_the_bound_and_counted():
    """T41, in float32, where its square does not exist."""
    memory = memory_of(level("a", 2, clip=0.5), level("b", 4, clip=0.5)).float()
    states = memory.accumulate(memory.initial(2), gradients_of(memory.initial(2), 1e30), torch.tensor([2, 2]))
    states = memory.advance(states, zeros(2), torch.tensor([2, 1]))
    assert learned_norms(memory.configs, states)["a"].tolist() == pytest.approx([0.5, 0.0])
    assert guards(memory.configs, states)["a"][0].tolist() == [1, 0]
    assert guards(memory.configs, states)["b"][0].tolist() == [0, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_is_refused_for_its_row_and_level_only(bad):
    """T41: counted; the sums keep what was good, so the period's other tokens are still learned; other levels and rows go on."""
    memory = memory_of(level("a", 2), level("b", 4))
    clean = gradients_of(memory.initial(2, torch.float64), 0.1)
    dirty = ({name: g.clone() for name, g in clean[0].items()}, clean[1])
    dirty[0]["up_proj"][1, 0, 0] = bad
    states = memory.accumulate(memory.initial(2, torch.float64), clean, torch.tensor([1, 1]))
    good = memory.accumulate(states, clean, torch.tensor([1, 1]))
    states = memory.accumulate(states, dirty, torch.tensor([1, 1]))
    assert states[0].refused.tolist() == [0, 1]
    assert states[0].tokens.tolist() == [2, 1]
    assert all(torch.isfinite(tensor).all() for state in states for _, tensor in state.named() if tensor.is_floating_point())
    assert torch.equal(states[0].gradient["up_proj"][0], good[0].gradient["up_proj"][0])
    assert torch.equal(states[0].gradient["down_proj"][1], clean[0]["down_proj"][1])
    assert torch.equal(states[1].gradient["up_proj"], good[1].gradient["up_proj"])
    assert states[1].refused.tolist() == [0, 0]


def test_an_update_that_is_not_finite_is_refused_and_the_level_stays():
    """T41: a damaged accumulator or slot cannot reach the weights; slots stay; the accumulator starts again."""
    memory = memory_of(level("a", 2, rule="momentum"), level("b", 2 * 2))
    states = memory.accumulate(memory.initial(2, torch.float64), gradients_of(memory.initial(2, torch.float64), 0.1), torch.tensor([4, 4]))
    states[0].gradient["up_proj"][0, 1, 1] = float("nan")
    after = memory.advance(states, zeros(2), torch.tensor([2, 2]))
    assert after[0].refused.tolist() == [1, 0]
    assert not after[0].delta["up_proj"][0].any()
    assert not after[0].slots["up_proj"]["momentum"][0].any()
    assert after[0].delta["up_proj"][1].any()
    assert not after[0].gradient["up_proj"].any()
    assert after[1] is states[1]


def test_a_boundary_without_gradients_changes_nothing():
    """A read-only stretch must not let momentum coast."""
    memory = memory_of(level("a", 2, rule="momentum"))
    states = memory.accumulate(memory.initial(1, torch.float64), gradients_of(memory.initial(1, torch.float64), 0.1), torch.tensor([2]))
    moved = memory.advance(states, zeros(1), torch.tensor([2]))
    still = memory.advance(moved, torch.tensor([2]), torch.tensor([4]))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(moved[0].named(), still[0].named(), strict=True))


def test_the_ramp_scales_steps():
    memory = memory_of(level("a", 2, 0.1))
    states = memory.accumulate(memory.initial(1, torch.float64), gradients_of(memory.initial(1, torch.float64), 0.1), torch.tensor([2]))
    full, tenth = (memory.advance(states, zeros(1), torch.tensor([2]), ramp)[0].delta["up_proj"] for ramp in (1.0, 0.1))
    torch.testing.assert_close(tenth, 0.1 * full)


def test_wrong_clocks_and_gradients_are_refused():
    memory = memory_of(level("a", 4), level("b", 8))
    states = memory.initial(2, torch.float64)
    clean = gradients_of(states, 0.1)
    with pytest.raises(ValueError, match="row 1 passed 2 boundaries of level 'a' at once; cut calls at multiples of 4"):
        memory.advance(states, zeros(2), torch.tensor([4, 8]))
    with pytest.raises(ValueError, match="run forward"):
        memory.advance(states, torch.tensor([4, 4]), torch.tensor([5, 3]))
    with pytest.raises(ValueError, match="2 levels need 2 states and gradients"):
        memory.accumulate(states, clean[:1], torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"level 'b' needs a gradient \(2, 8, 6\) for up_proj, got none"):
        memory.accumulate(states, (clean[0], {"down_proj": clean[1]["down_proj"]}), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"got \(1, 8, 6\)"):
        memory.accumulate(states, tuple({n: g[:1] for n, g in each.items()} for each in clean), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="rule is 'magic'"):
        rule_of(replace(level("a", 4), rule="magic"))


def test_telemetry_shows_dead_and_redundant_levels():
    memory, (x, labels) = memory_of(level("a", 2), level("b", 8), level("c", None)), text(1, 6)
    memory.levels[2].load_state_dict(memory.levels[0].state_dict())
    start = memory.initial(1, torch.float64)
    _, states, _ = stream(memory, torch.randn(WORDS, WIDTH, dtype=torch.float64), start, x, labels, zeros(1), [6])
    norms = update_norms(memory.configs, start, states)
    assert float(norms["a"]) > 0
    assert float(norms["b"]) == 0
    assert list(norms) == ["a", "b"]
    trace = []
    memory(x, states, trace)
    matrix = similarity(trace)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(3))
    assert torch.equal(memory(x, without(states, 0)), memory(x))
    copies = memory_of(level("a", 2), level("b", 8), variant="independent")
    copies.levels[1].load_state_dict(copies.levels[0].state_dict())
    trace = []
    copies(x, None, trace)
    torch.testing.assert_close(similarity(trace), torch.ones(2, 2))


@pytest.mark.parametrize("variant", ["sequential", "nested"])
@pytest.mark.parametrize("after", [[4, 4], [4, 3]], ids=["all rows", "one row"])
def test_an_update_never_waits_for_a_number_on_the_device(variant, after):
    """The meta device has shapes and no numbers: reading one, as a GPU would have to be waited for, raises there."""
    memory = memory_of(level("fast", 2, rule="momentum"), level("slow", 4, rule="adamw"), variant=variant).to("meta")
    states = memory.initial(2)
    given = gradients_of(states, 1.0)
    states = memory.accumulate(states, given, torch.full((2,), 2, device="meta"))
    new = memory.advance(states, torch.tensor([2, 2]), torch.tensor(after))
    assert {tensor.device.type for state in new for _, tensor in state.named()} == {"meta"}

"""When a continuum memory changes, that it always runs, and what it is when it does not learn (hope.md §10, T30–T32, T35, T36, T40)."""

import hashlib

import pytest
import torch
from cms_reference import Reference, stream
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from model.hope.cms import PERIODS, ContinuumMemory, ladder
from model.hope.level import LevelConfig

WIDTH, WORDS = 6, 7
VARIANTS = pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def levels_of(*periods, rate=0.5, **fields):
    return [LevelConfig(f"level{n}", period, 8, rate, **fields) for n, period in enumerate(periods)]


def memory_of(levels, variant="sequential", **fields):
    memory = ContinuumMemory(WIDTH, levels, variant, **fields).double()
    for level in memory.levels:
        torch.nn.init.normal_(level.down_proj.weight, std=0.3)
        torch.nn.init.uniform_(level.norm.weight, 0.5, 1.5)
    if variant == "independent":
        torch.nn.init.normal_(memory.mix)
    return memory


def text(rows, tokens):
    return torch.randn(rows, tokens, WIDTH, dtype=torch.float64), torch.randint(0, WORDS, (rows, tokens))


def head_of():
    return torch.randn(WORDS, WIDTH, dtype=torch.float64)


def digest(state):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in state.delta.values())).hexdigest()


@VARIANTS
@settings(max_examples=8, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, 11), min_size=1, max_size=6), start=st.integers(0, 12))
def test_levels_change_exactly_at_multiples_of_their_period_however_calls_are_cut(variant, cuts, start):
    """T30. Nested levels also change where a slower one re-initialises them, which is a multiple of their own period."""
    torch.manual_seed(1)
    memory, (x, labels) = memory_of(levels_of(3, 6, None, 12), variant), text(1, sum(cuts))
    changed = {0: [], 1: [], 3: []}

    def seen(clock, before, after):
        for place, times in changed.items():
            if digest(before[place]) != digest(after[place]):
                times.append(int(clock))
        assert after[2] is None

    stream(memory, head_of(), memory.initial(1, torch.float64), x, labels, torch.tensor([start]), cuts, seen)
    for place, period in ((0, 3), (1, 6), (3, 12)):
        assert changed[place] == [time for time in range(start + 1, start + sum(cuts) + 1) if time % period == 0]


def test_time_is_tokens_not_calls_or_optimizer_steps():
    """T31: one call, 7 calls, a call a token; and with an outer optimizer stepping after every call the updates come at the same times."""
    x, labels = text(2, 28)
    head, levels = head_of(), levels_of(4, 8)
    ends, times = [], []
    for cuts in ([28], [4] * 7, [1] * 28):
        torch.manual_seed(2)
        memory = memory_of(levels)
        ends.append(stream(memory, head, memory.initial(2, torch.float64), x, labels, torch.tensor([0, 3]), cuts))
    for y, states, _ in ends[1:]:
        torch.testing.assert_close(y, ends[0][0], atol=1e-12, rtol=1e-12)
        for state, expected in zip(states, ends[0][1], strict=True):
            for (name, tensor), (_, other) in zip(state.named(), expected.named(), strict=True):
                torch.testing.assert_close(tensor, other, atol=1e-12, rtol=1e-12, msg=name)
    for steps in (False, True):
        memory, seen = memory_of(levels), []
        outer = torch.optim.SGD(memory.parameters(), 0.01)

        def step(memory=memory, outer=outer):
            outer.zero_grad()
            memory(x).square().mean().backward()
            outer.step()

        def note(clock, before, after, seen=seen):
            seen.append([int(clock[0]), *(digest(a) != digest(b) for a, b in zip(before, after, strict=True))])

        stream(memory, head, memory.initial(2, torch.float64), x, labels, torch.tensor([0, 0]), [2] * 14, note, step if steps else None)
        times.append(seen)
    assert times[0] == times[1]
    assert [time for time, fast, _ in times[1] if fast] == [4, 8, 12, 16, 20, 24, 28]


@VARIANTS
@pytest.mark.parametrize("order", ["fast_first", "slow_first"])
def test_outputs_are_the_equation_and_every_level_contributes_to_every_token(variant, order):
    """T32, against the token loop; with any one level silenced the output of every token differs, boundaries or not."""
    memory, (x, _) = memory_of(levels_of(2, 4, 8, None), variant, order=order), text(1, 9)
    y = memory(x, memory.initial(1, torch.float64)).detach()
    reference = Reference(memory, None)
    expected = torch.stack([reference.output(token, [reference.weights(place) for place in range(4)]) for token in x[0]])
    torch.testing.assert_close(y[0], expected, atol=1e-12, rtol=1e-12)
    for level in memory.levels:
        kept = level.down_proj.weight.detach().clone()
        torch.nn.init.zeros_(level.down_proj.weight)
        assert ((memory(x).detach() - y).abs().amax(-1) > 1e-6).all()
        level.down_proj.weight.data = kept


def test_a_static_level_never_changes_and_has_no_state():
    """T35: period None, and rate 0 as well."""
    memory, (x, labels) = memory_of([*levels_of(2), LevelConfig("still", 4, 8, 0.0), LevelConfig("static", None, 8, 0.5)]), text(1, 16)
    base = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    _, states, _ = stream(memory, head_of(), memory.initial(1, torch.float64), x, labels, torch.tensor([0]), [16])
    assert states[0] is not None
    assert states[1:] == (None, None)
    assert memory.periods == (2,)
    assert all(torch.equal(tensor, base[name]) for name, tensor in memory.state_dict().items())


def test_one_level_without_a_rate_is_the_feed_forward_half_of_a_transformer_block():
    """T36, bit for bit against Hugging Face's own layer (its attention contributes nothing here: zero output projection)."""
    layer = LlamaDecoderLayer(LlamaConfig(hidden_size=16, intermediate_size=24, num_attention_heads=2, rms_norm_eps=1e-6), 0)
    torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    torch.nn.init.normal_(layer.post_attention_layernorm.weight)
    memory = ContinuumMemory(16, [LevelConfig("only", 512, 24, 0.0, kind="swiglu")])
    memory.levels[0].load_state_dict({**layer.mlp.state_dict(), "norm.weight": layer.post_attention_layernorm.weight})
    x = torch.randn(2, 5, 16)
    turns = (torch.ones(1, 5, 8), torch.zeros(1, 5, 8))
    expected = layer(x, position_embeddings=turns)
    assert torch.equal(memory(x, memory.initial(2)), expected)


@VARIANTS
def test_tenants_in_one_batch_learn_as_if_alone(variant):
    """T40, T17: rows at other clocks; base weights untouched; and a tenant without a boundary keeps its bytes while another updates."""
    memory, head, (x, labels) = memory_of(levels_of(4, 8, rule="momentum"), variant), head_of(), text(3, 18)
    base = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    starts = torch.tensor([0, 3, 6])
    lonely = []

    def seen(clock, before, after):
        for row, time in enumerate(clock.tolist()):
            for place, period in ((0, 4), (1, 8)):
                same = all(torch.equal(before[place].delta[name][row], delta[row]) for name, delta in after[place].delta.items())
                assert same == (time % period != 0)

    y, states, _ = stream(memory, head, memory.initial(3, torch.float64), x, labels, starts, [18], seen)
    for row in range(3):
        index = slice(row, row + 1)
        lonely.append(stream(memory, head, memory.initial(1, torch.float64), x[index], labels[index], starts[index], [18]))
        torch.testing.assert_close(y[index], lonely[row][0], atol=1e-12, rtol=1e-12)
        for state, own in zip(states, lonely[row][1], strict=True):
            for (name, tensor), (_, alone) in zip(state.rows(torch.tensor([row])).named(), own.named(), strict=True):
                torch.testing.assert_close(tensor, alone, atol=1e-12, rtol=1e-12, msg=name)
    assert all(torch.equal(tensor, base[name]) for name, tensor in memory.state_dict().items())


def test_presets_are_ladders_that_fit():
    for preset, periods in PERIODS.items():
        memory = ContinuumMemory(8, ladder(preset, 4, 0.1, rule="momentum"), "nested")
        assert memory.periods == tuple(period for period in periods if period is not None)
    assert [config.name for config in ladder("seed", 4, 0.1)] == ["every_16", "every_1000000", "static"]
    with pytest.raises(ValueError, match="no preset 'slow'"):
        ladder("slow", 4, 0.1)


@pytest.mark.parametrize(
    ("levels", "fields", "message"),
    [
        ([], {}, "levels is empty"),
        (levels_of(8, 4), {}, "period_tokens of level 'level1' is 4, it must be above 8"),
        (levels_of(4, 4), {}, "list fast levels first"),
        (levels_of(4, 6), {}, "must be a multiple of 4"),
        (levels_of(2, 4, 6), {"variant": "nested"}, "must be a multiple of 4"),
        ([*levels_of(4), *levels_of(8)], {}, "two levels are called 'level0'"),
        (levels_of(4, rule="magic"), {}, "rule is 'magic', it must be one of sgd"),
        (levels_of(4), {"variant": "headwise"}, "variant is 'headwise'"),
        (levels_of(4), {"objective": "none"}, "objective is 'none'"),
        (levels_of(4), {"order": "up"}, "order is 'up'"),
        (levels_of(4), {"objective": "assoc"}, "must have adapt='down'"),
    ],
)
def test_levels_that_do_not_fit_are_refused(levels, fields, message):
    with pytest.raises(ValueError, match=message):
        ContinuumMemory(WIDTH, levels, **fields)


def test_wrong_calls_are_refused():
    memory = memory_of(levels_of(4, None))
    states, x = memory.initial(2, torch.float64), torch.randn(2, 3, WIDTH, dtype=torch.float64)
    for wrong, known, message in (
        (x[0], None, "x is"),
        (x[..., :4], None, r"must be \(rows, tokens, 6\)"),
        (x[:1], states, "has 2 rows, x has 1"),
        (x, states[:1], "states has 1 entries"),
        (x, (None, None), "level 'level0' is online"),
    ):
        with pytest.raises(ValueError, match=message):
            memory(wrong, known)
    with pytest.raises(ValueError, match=r"float32 or float64, not torch\.bfloat16"):
        memory.initial(1, torch.bfloat16)

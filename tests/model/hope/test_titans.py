"""Self-modifying Titans against an independent loop, and what it promises about time, rows, cuts and gradients (hope.md §10, T1–T24)."""

import mixer_reference as reference
import pytest
import torch

from model.hope.config import paper_literal, service
from model.hope.state import difference, stack, unstack
from model.hope.titans import SelfModifyingTitans

WIDTH = 8
PRESETS = {"service": service, "paper_literal": paper_literal}


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(5)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def mixer(preset="service", **changes):
    settings = {"head_width": 4, "chunk_projections": 4, "chunk_memory": 4, "weight_cap": None, "read": "boundary"} | changes
    built = SelfModifyingTitans(PRESETS[preset](WIDTH, **settings))
    with torch.no_grad():  # gates that differ from token to token, memories that say something
        built.rate.weight.normal_()
        built.retention.weight.normal_()
        built.retention.bias.fill_(-2.0)
        if built.decay is not None:
            built.decay.bias.fill_(-1.0)
    return built


def effective(module, state):
    return module._whole(state.running)


CASES = [
    {},
    {"read": "token"},
    {"momentum": True},
    {"momentum": True, "read": "token"},
    {"dgd": False},
    {"dgd": False, "momentum": True, "read": "token"},
    {"objective": "dot"},
    {"targets": "shared"},
    {"retention": False},
    {"hidden_multiple": 0, "read": "token"},
    {"hidden_multiple": 2},
    {"adaptive": ("k", "v", "eta", "alpha", "q", "mem"), "read": "token"},
    {"adaptive": ("mem",)},
    {"adaptive": ("v", "alpha", "mem"), "read": "token"},
]
IDS = ["-".join(f"{name}={value}" for name, value in case.items()) or "default" for case in CASES]


CHUNKS = [(1, 1), (4, 8), (8, 4), (3, 5), (16, 16)]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("case", "chunks"),
    [*((case, (3, 5)) for case in CASES), *((case, chunks) for case in (CASES[0], CASES[3]) for chunks in CHUNKS)],
    ids=[*IDS, *(f"{name}-{chunks}" for name in ("default", "rich") for chunks in CHUNKS)],
)
def test_the_mixer_equals_the_token_loop(preset, chunks, case):
    """T1 (chunks of 1), T2 (parallel = sequential), T3 (mixed periods, ragged length)."""
    module = mixer(preset, chunk_projections=chunks[0], chunk_memory=chunks[1], **case)
    x = torch.randn(1, 11, WIDTH) * 0.7
    with torch.no_grad():
        y, state = module(x)
        expected, heads = reference.mixed(module, x[0])
    torch.testing.assert_close(y[0], expected, atol=1e-10, rtol=1e-9)
    for name, weight in effective(module, state).items():
        for position, role in enumerate(module.config.learners):
            for head in heads:
                torch.testing.assert_close(weight[0, position, head.head], head.running[role][name], atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("read", ["boundary", "token"])
def test_outer_gradients_of_the_parallel_form_are_those_of_the_loop(read):
    """T14: every parameter, the starts of all roles included; the loop knows nothing of the chunk form."""
    module = mixer(read=read, momentum=True)
    x = torch.randn(1, 13, WIDTH)
    weights = torch.randn(13, WIDTH)
    (module(x)[0][0] * weights).sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    module.zero_grad()
    (reference.mixed(module, x[0])[0] * weights).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-9, rtol=1e-7, msg=name)
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("preset", PRESETS)
def test_outer_gradients_are_those_of_central_differences(preset):
    """T14, against finite differences: three numbers of every parameter tensor."""
    module = mixer(preset, read="token")
    x, weights = torch.randn(2, 9, WIDTH), torch.randn(2, 9, WIDTH)

    def loss():
        return (module(x)[0] * weights).sum()

    loss().backward()
    for name, parameter in module.named_parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for index in torch.linspace(0, len(flat) - 1, 3).long().tolist():
            kept, step = flat[index].item(), 1e-5
            with torch.no_grad():
                flat[index] = kept + step
                above = loss().item()
                flat[index] = kept - step
                below = loss().item()
                flat[index] = kept
            assert gradient[index].item() == pytest.approx((above - below) / (2 * step), abs=2e-6, rel=2e-5), (name, index)


@pytest.mark.parametrize("preset", PRESETS)
def test_memories_that_make_keys_and_rates_are_trained_only_by_what_comes_after_their_chunk(preset):
    """T15: a sequence no longer than a chunk leaves k, v, η, α without gradient; one token more reaches k, v, η; a third chunk α."""
    reached = {}
    for length in (4, 5, 9, 13):
        module = mixer(preset)
        module(torch.randn(1, length, WIDTH))[0].square().sum().backward()
        start = {name: torch.zeros(1) if w.grad is None else w.grad for name, w in module.start.items()}
        reached[length] = {
            role: max(float(w[index].abs().max()) if w.dim() > 1 else 0.0 for w in start.values())
            for index, role in enumerate(module.config.learners)
        }
    assert all(reached[4][role] == 0 for role in ("k", "v", "eta", "alpha"))
    assert reached[4]["mem"] > 0
    assert all(reached[5][role] > 0 for role in ("k", "v", "eta"))
    assert all(reached[13][role] > 0 for role in ("k", "v", "eta", "alpha", "mem"))


@pytest.mark.parametrize("read", ["boundary", "token"])
@pytest.mark.parametrize("preset", PRESETS)
def test_no_output_depends_on_a_later_token(preset, read):
    """T4: outputs before the changed token are the same bits, the first that changes is its own."""
    module = mixer(preset, read=read)
    x = torch.randn(1, 14, WIDTH)
    other = x.clone()
    other[0, 6] += 1.0
    y, z = module(x)[0], module(other)[0]
    assert torch.equal(y[0, :6], z[0, :6])
    assert not torch.equal(y[0, 6], z[0, 6])


def test_with_boundary_reads_a_token_reaches_its_own_chunk_only_through_convolution_and_query():
    """T5: with convolutions of one tap nothing else of the chunk changes; the memory's effect starts in the next chunk."""
    module = mixer(conv_width=1, chunk_projections=5, chunk_memory=5)
    x = torch.randn(1, 12, WIDTH)
    other = x.clone()
    other[0, 1] += 1.0
    y, z = module(x)[0], module(other)[0]
    assert torch.equal(y[0, 2:5], z[0, 2:5])
    assert not torch.equal(y[0, 5], z[0, 5])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "case", [{}, {"read": "token", "momentum": True}, {"chunk_projections": 3, "chunk_memory": 5}], ids=["plain", "rich", "mixed"]
)
def test_any_cut_of_a_stream_gives_the_same_outputs_and_state(preset, case):
    """T18, T22: single tokens, cuts inside chunks and convolutions."""
    module = mixer(preset, **case)
    x = torch.randn(2, 21, WIDTH) * 0.7
    whole, end = module(x)
    state, at, outputs = None, 0, []
    for size in (1, 1, 3, 1, 7, 2, 6):
        y, state = module(x[:, at : at + size], state, [at, at])
        outputs.append(y)
        at += size
    torch.testing.assert_close(torch.cat(outputs, 1), whole, atol=1e-12, rtol=1e-9)
    assert max(difference(state.detach(), end.detach()).values(), default=0.0) < 1e-12


def test_a_row_does_not_depend_on_who_shares_its_batch():
    """T17: rows of a batch equal the rows alone, permuting rows permutes everything."""
    module = mixer(read="token", momentum=True)
    x = torch.randn(3, 10, WIDTH)
    y, state = module(x)
    for row in range(3):
        alone, own = module(x[row : row + 1])
        torch.testing.assert_close(y[row], alone[0], atol=1e-12, rtol=1e-10)
        assert max(difference(state.rows(torch.tensor([row])).detach(), own.detach()).values(), default=0.0) < 1e-12
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(module(x[order])[0], y[order], atol=1e-12, rtol=1e-10)


def test_owners_at_different_places_of_their_chunks_share_a_batch():
    module = mixer(read="token", chunk_projections=3, chunk_memory=5)
    before = [module(torch.randn(1, seen, WIDTH))[1].detach() for seen in (2, 4, 9)]
    x = torch.randn(3, 12, WIDTH)
    y, state = module(x, stack(before), [2, 4, 9])
    for row, (own, seen) in enumerate(zip(before, (2, 4, 9), strict=True)):
        alone, after = module(x[row : row + 1], own, [seen])
        torch.testing.assert_close(y[row], alone[0], atol=1e-12, rtol=1e-10)
        assert max(difference(unstack(state.detach())[row], after.detach()).values(), default=0.0) < 1e-12


def test_training_evaluation_and_inference_mode_give_the_same_numbers():
    """T20."""
    module = mixer(momentum=True, read="token")
    x = torch.randn(1, 9, WIDTH)
    expected = module.train()(x)[0]
    with torch.no_grad():
        assert torch.equal(module.eval()(x)[0], expected)
    with torch.inference_mode():
        assert torch.equal(module(x)[0], expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_state_is_no_view_of_a_parameter(preset):
    module = mixer(preset)
    with torch.no_grad():
        state = module(torch.randn(1, 3, WIDTH))[1]  # inside the first chunk: its start is still the initial one
        kept = state.clone()
        for parameter in module.parameters():
            parameter.mul_(2.0)
    assert difference(state, kept) == {}


def test_reading_leaves_the_given_state_untouched():
    """T21: states are values."""
    module = mixer()
    _, state = module(torch.randn(1, 6, WIDTH))
    kept = state.clone()
    module(torch.randn(1, 9, WIDTH), state, [6])
    assert difference(state.detach(), kept) == {}


def test_zero_rate_and_full_retention_never_change_the_memory():
    """T11: the block is then a static residual MLP of the query."""
    module = mixer(retention=False)
    module.inner_scale = 0.0
    x = torch.randn(1, 13, WIDTH)
    _, state = module(x)
    assert all(not w.any() for w in state.running.values())
    assert all(not w.any() for w in state.boundary.values())


@pytest.mark.parametrize(("preset", "kept"), [("service", 1.0), ("paper_literal", None)])
def test_retention_decays_what_was_learned_or_the_whole_memory(preset, kept):
    """T12: η = 0, α = a: anchored memories keep their start, literal ones shrink to aᵗ of it."""
    module = mixer(preset)
    module.inner_scale = 0.0
    with torch.no_grad():
        module.retention.weight.zero_()
        module.retention.bias.fill_(float(torch.log(torch.expm1(torch.tensor(0.1)))))  # α = exp(−0.1)
    _, state = module(torch.randn(1, 12, WIDTH))
    share = kept if kept is not None else float(torch.exp(torch.tensor(-1.2)))
    for name, weight in effective(module, state).items():
        torch.testing.assert_close(weight[0], module.start[name] * share, atol=1e-12, rtol=1e-10)


def test_each_memory_makes_its_own_target():
    """T13: another M_η changes the first chunk's write of η only, not what η scales."""
    module = mixer(targets="self", dgd=False, retention=False)
    with torch.no_grad():
        module.rate.weight.zero_()  # the rate no longer depends on M_η
    x = torch.randn(1, 4, WIDTH)
    before = module(x)[1].running
    with torch.no_grad():
        module.start["down"][module.config.learners.index("eta")] += 0.3
    after = module(x)[1].running
    for index, role in enumerate(module.config.learners):
        changed = any(not torch.equal(before[name][:, index], after[name][:, index]) for name in before)
        assert changed == (role == "eta"), role


def test_half_precision_states_are_refused_and_half_precision_models_stay_close():
    """T24: bfloat16 activations over a float32 state stay within 2e-2."""
    torch.set_default_dtype(torch.float32)
    module = mixer(read="token", head_width=8)
    x = torch.randn(2, 24, WIDTH)
    expected, state = module(x)
    with pytest.raises(ValueError, match=r"conv is torch.bfloat16: fast weights need float32"):
        module(x, state.map(lambda t: t.bfloat16() if t.is_floating_point() else t), [24, 24])
    with torch.autocast("cpu", torch.bfloat16):
        half, carried = module(x)
    half, expected = half.detach().float(), expected.detach()
    assert all(w.dtype == torch.float32 for w in carried.running.values())
    assert float((half - expected).abs().max()) < 2e-2 * float(expected.abs().max())


def test_a_model_in_half_precision_norms_in_single_precision_without_a_warning():
    module = mixer().bfloat16()
    torch.set_warn_always(True)  # else a warning that was given once is not given here
    try:
        y, state = module(torch.randn(1, 5, WIDTH, dtype=torch.bfloat16))
    finally:
        torch.set_warn_always(False)
    assert y.dtype == torch.bfloat16
    assert all(w.dtype == torch.float32 for w in state.running.values())


def test_a_state_without_its_positions_is_refused():
    module = mixer()
    _, state = module(torch.randn(1, 6, WIDTH))
    with pytest.raises(ValueError, match="a state needs the positions it stands at"):
        module(torch.randn(1, 2, WIDTH), state)


def test_no_tokens_and_one_token_are_fine():
    module = mixer()
    y, state = module(torch.randn(2, 0, WIDTH))
    assert y.shape == (2, 0, WIDTH)
    y, _ = module(torch.randn(2, 1, WIDTH), state, [0, 0])
    assert y.shape == (2, 1, WIDTH)

"""A HOPE language model learns its continuum memory while it reads: when, from what, whoever shares the batch (hope.md §10, T17–T40)."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.hope.state import difference, stack, unstack

VOCABULARY = 11


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(3)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def level(name, period, rate=0.5, **fields):
    return {"name": name, "period_tokens": period, "hidden": 6, "rate": rate, **fields}


LEVELS = [level("middle", 4), level("slow", 8, 0.3), level("static", None, 0.0)]


def model_of(levels=LEVELS, layers=2, **fields):
    titans = {"head_width": 4, "chunk_projections": 4, "chunk_memory": 4, "read": "token"} | fields.pop("titans", {})
    config = HopeConfig(VOCABULARY, 8, layers, titans=titans, levels=levels, initializer_range=0.5, **fields)
    return HopeLM(config).double().eval()


def tokens(rows, length, seed=0):
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def streamed(model, ids, sizes, state=None):
    outputs, at = [], 0
    for size in sizes:
        out = model(ids[:, at : at + size], state=state, use_cache=True)
        state, at = out.state, at + size
        outputs.append(out.logits)
    assert at == ids.shape[1]
    return torch.cat(outputs, 1), state


def level_bytes(state, layer, place):
    return b"".join(t.contiguous().numpy().tobytes() for t in state.levels[layer][place].delta.values())


@pytest.mark.parametrize("objective", ["ntp", "local_delta"])
@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
def test_an_update_is_the_gradient_of_its_window_taken_by_ordinary_training(variant, objective):
    """T33: the levels' change after the first window, by backward() on the parameters of a copy; clip and mean as configured."""
    model = model_of(variant=variant, objective=objective)
    ids = tokens(1, 5)
    with torch.no_grad():
        state = model(ids, use_cache=True).state
    plain = copy.deepcopy(model)
    logits = plain(ids[:, :4]).logits
    torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="sum").backward()
    for layer, states in zip(plain.layers, state.levels, strict=True):
        gradients = {name: parameter.weight.grad / 4 for name, parameter in layer.memory.levels[0].matrices()}
        length = torch.stack([0.5 * g.norm() for g in gradients.values()]).norm()
        for name, gradient in gradients.items():
            expected = -0.5 * gradient * (1.0 / length).clamp(max=1.0)
            torch.testing.assert_close(states[0].delta[name][0], expected, atol=1e-12, rtol=1e-9)
        assert not any(delta.any() for delta in states[1].delta.values())  # period 8: not yet


def test_levels_change_exactly_at_multiples_of_their_period():
    """T30: byte digests of every level after every token; the change shows with the token after the multiple, which brings the label."""
    model = model_of()
    ids, state, changed = tokens(1, 34), None, {0: [], 1: []}
    for at in range(34):
        before = state
        state = model(ids[:, at : at + 1], state=state, use_cache=True).state
        for place in (0, 1):
            if before is not None and level_bytes(before, 0, place) != level_bytes(state, 0, place):
                changed[place].append(at)
        assert state.levels[0][2] is None
    assert changed == {0: [4, 8, 12, 16, 20, 24, 28, 32], 1: [8, 16, 24, 32]}


@pytest.mark.parametrize("objective", ["ntp", "local_delta", "assoc"])
@given(cuts=st.lists(st.integers(1, 7), min_size=1, max_size=5))
@settings(max_examples=6, deadline=None)
def test_any_cut_of_a_stream_gives_the_same_outputs_and_state(objective, cuts):
    """T18, T31: single tokens, cuts in windows, several windows in a call."""
    levels = LEVELS if objective != "assoc" else [{**each, "adapt": "down"} for each in LEVELS]
    torch.manual_seed(3)
    model = model_of(levels, objective=objective, layers=1)
    ids = tokens(2, sum(cuts))
    with torch.no_grad():
        expected, end = streamed(model, ids, [ids.shape[1]])
        outputs, state = streamed(model, ids, cuts)
    torch.testing.assert_close(outputs, expected, atol=1e-10, rtol=1e-9)
    assert max(difference(state, end).values(), default=0.0) < 1e-10


def test_an_update_uses_no_later_token_and_the_last_label_stays_pending():
    """T34: with token i + 2 changed the update of boundary i is the same; before token i + 1 nothing has moved."""
    model = model_of()
    ids = tokens(1, 6)
    other = ids.clone()
    other[0, 5] = (other[0, 5] + 1) % VOCABULARY
    waiting = model(ids[:, :4], use_cache=True).state
    assert not any(delta.any() for delta in waiting.levels[0][0].delta.values())
    one, two = model(ids, use_cache=True).state, model(other, use_cache=True).state
    assert level_bytes(one, 0, 0) == level_bytes(two, 0, 0)
    third = ids.clone()
    third[0, 4] = (third[0, 4] + 1) % VOCABULARY
    assert level_bytes(one, 0, 0) != level_bytes(model(third, use_cache=True).state, 0, 0)


def test_what_was_learned_changes_what_is_said_and_logits_before_a_token_do_not_depend_on_it():
    """T4 for the whole model, T32."""
    model = model_of()
    ids = tokens(1, 24)
    logits = model(ids, use_cache=True).logits.detach()
    still = model(ids).logits.detach()  # no levels learn without a state
    torch.testing.assert_close(logits[:, :4], still[:, :4])
    assert float((logits[:, 4:] - still[:, 4:]).abs().max()) > 1e-4
    other = ids.clone()
    other[0, 13] = (other[0, 13] + 1) % VOCABULARY
    changed = model(other, use_cache=True).logits.detach()
    torch.testing.assert_close(changed[:, :13], logits[:, :13], atol=1e-12, rtol=0)
    assert not torch.equal(changed[:, 13], logits[:, 13])


def test_owners_at_different_places_share_a_batch_without_meeting():
    """T17, T40: rows at other clocks, stacked, one call, unstacked: the same as alone; base weights untouched."""
    model = model_of()
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    alone = [model(tokens(1, seen, seed=seen), use_cache=True).state for seen in (3, 4, 9)]
    ids = tokens(3, 7, seed=99)
    out = model(ids, state=stack(alone))
    for row, (own, state) in enumerate(zip(alone, unstack(out.state), strict=True)):
        single = model(ids[row : row + 1], state=own)
        torch.testing.assert_close(out.logits[row], single.logits[0], atol=1e-10, rtol=1e-9)
        assert max(difference(state, single.state).values(), default=0.0) < 1e-10
    assert all(torch.equal(tensor, base[name]) for name, tensor in model.state_dict().items())


def test_modes_and_grad_modes_give_the_same_numbers():
    """T20: train, eval, no_grad and inference mode, with updates inside the call and across calls."""
    model = model_of()
    ids = tokens(1, 19)
    expected, end = streamed(model.train(), ids, [6, 13])
    with torch.no_grad():
        again, state = streamed(model.eval(), ids, [6, 13])
    assert torch.equal(again, expected.detach())
    assert difference(state, end.detach()) == {}
    with torch.inference_mode():
        inferred, state = streamed(model, ids, [6, 13])
    assert torch.equal(inferred, expected.detach())
    assert difference(state, end.detach()) == {}


def test_a_state_made_in_inference_mode_goes_on_under_gradients():
    model = model_of()
    ids = tokens(1, 12)
    with torch.inference_mode():
        state = model(ids[:, :6], use_cache=True).state
    out = model(ids[:, 6:], state=state, labels=ids[:, 6:])
    out.loss.backward()
    assert float(model.embed_tokens.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("objective", ["ntp", "local_delta", "assoc"])
def test_frozen_parameters_learn_online_what_free_ones_do(objective):
    levels = [level("middle", 4, adapt="down"), level("static", None, 0.0)]
    ids, free = tokens(2, 13), model_of(levels, objective=objective)
    frozen = copy.deepcopy(free).requires_grad_(False)
    with torch.no_grad():
        expected = free(ids, use_cache=True)
        out = frozen(ids, use_cache=True)
    assert torch.equal(out.logits, expected.logits)
    assert difference(out.state, expected.state) == {}


@pytest.mark.parametrize("objective", ["ntp", "local_delta", "assoc"])
def test_under_autocast_levels_learn_nearly_the_same_and_gradients_are_summed_in_float32(objective):
    torch.set_default_dtype(torch.float32)
    levels = [level("middle", 16, 0.05, adapt="down"), level("slow", 64, 0.05, adapt="down")]
    model = HopeLM(HopeConfig(VOCABULARY, 16, 1, titans={"head_width": 8}, levels=levels, objective=objective)).eval()
    ids = tokens(2, 40)
    with torch.no_grad():
        exact = model(ids, use_cache=True).state
        with torch.autocast("cpu", dtype=torch.bfloat16):  # the fused pass of the mixers goes back inside it
            rounded = model(ids, use_cache=True).state
    for name in ("delta", "gradient"):
        for one, other in zip(rounded.levels[0], exact.levels[0], strict=True):
            given, wanted = getattr(one, name)["down_proj"], getattr(other, name)["down_proj"]
            assert torch.linalg.vector_norm(given - wanted) <= 0.05 * torch.linalg.vector_norm(wanted)
    if objective != "ntp":  # there the pass itself gives rounded gradients of the weights
        total = rounded.levels[0][1].gradient["down_proj"]
        assert (total != total.bfloat16()).float().mean() > 0.9


def test_reading_without_writing_returns_the_state_it_was_given():
    """T21."""
    model = model_of()
    state = model(tokens(1, 9), use_cache=True).state
    kept = state.clone()
    out = model(tokens(1, 9, seed=4), state=state, write=False)
    assert out.state is state
    assert difference(state, kept) == {}


def test_outer_gradients_flow_through_the_pass_that_learns():
    """The base of an online level and the mixers' starts are trained while levels learn inside the window (first order through updates)."""
    model = model_of()
    ids = tokens(2, 18)
    model(ids, labels=ids, use_cache=True).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_a_layer_with_periods_that_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="period of 6 tokens is no multiple of the fastest one, 4"):
        model_of(layer_levels=[[level("middle", 4)], [level("middle", 6)]])


def test_the_order_of_the_levels_is_the_models():
    """A9: the same weights, slow level first, are another function: the loop over levels written out."""
    model = model_of(order="slow_first", layers=1)
    x = torch.randn(1, 5, 8)
    fast, slow, static = model.layers[0].memory.levels
    expected = x + static(x)
    expected = expected + slow(expected)
    expected = expected + fast(expected)
    torch.testing.assert_close(model.layers[0].memory(x), expected)
    assert model.config.digest != model_of(layers=1).config.digest


@pytest.mark.parametrize("objective", ["ntp", "assoc"])
def test_the_inner_scale_of_a_warm_up_multiplies_the_steps_of_levels(objective):
    model = model_of([level("middle", 4, 0.01, adapt="down")], layers=1, objective=objective)  # steps too short for the clip
    learned = []
    for scale in (1.0, 0.25, 0.0):
        model.set_inner_scale(scale)
        model.layers[0].mixer.inner_scale = 1.0  # the mixer's own warm-up would change what the level sees
        learned.append(model(tokens(1, 5), use_cache=True).state.levels[0][0].delta["down_proj"].detach())
    assert float(learned[0].abs().max()) > 1e-4
    torch.testing.assert_close(learned[1], 0.25 * learned[0])
    assert not learned[2].any()


@pytest.mark.parametrize("period", [1, 4])
def test_projections_of_targets_are_trained_through_the_updates(period):
    """Objective "assoc": the outer gradient of P is the slope of the later loss (finite differences); P is read by updates alone."""
    model = model_of([level("middle", period, 0.3, adapt="down"), level("static", None, 0.0)], layers=1, objective="assoc")
    ids = tokens(2, 11)
    model(ids, labels=ids, use_cache=True).loss.backward()
    weight = model.layers[0].memory.targets["middle"].weight
    for place in ((0, 0), (3, 5), (7, 2)):
        losses = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[place] += step
                losses.append(float(model(ids, labels=ids, use_cache=True).loss))
                weight[place] -= step
        slope = (losses[0] - losses[1]) / 2e-5
        assert abs(slope) > 1e-7
        assert float(weight.grad[place]) == pytest.approx(slope, rel=1e-4, abs=1e-9)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)

"""The kinds that are compared: each is causal, streams as it reads, and is as large as the others."""

from dataclasses import asdict

import pytest
import torch

from bench.language import trials
from bench.language.ablations import VARIANTS, changed
from bench.language.retnet import Retention, retain
from bench.language.rivals import KINDS, Shape, build, made, parameters, register
from bench.language.sizes import SIZES, TOLERANCE, NoFit, Size, fit, table
from bench.language.stream import advance, bits_per_token
from bench.language.trials import Trial, fitted, idle
from bench.language.widths import RIVAL, contestants

ALL = list(KINDS)
LEARNS_ONLINE = {"hope", "hope-attention"}  # their levels move between pieces of a stream, and only there


def small(kind, *, layers=2, seed=0, context=32):
    return build(kind, vocab=61, width=32, layers=layers, context=context, seed=seed).eval()


def ids(rows, tokens, seed=0):
    return torch.randint(61, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits


def test_retention_in_chunks_is_the_recurrence():
    generator = torch.Generator().manual_seed(1)
    draw = {
        name: torch.randn(2, 3, 37, width, dtype=torch.float64, generator=generator) for name, width in zip("qkv", (4, 4, 6), strict=True)
    }
    decay = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    memory = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=generator)
    expected = torch.empty(2, 3, 37, 6, dtype=torch.float64)
    last = memory.clone()
    for row in range(2):
        for head in range(3):
            for token in range(37):
                last[row, head] = decay[head] * last[row, head] + torch.outer(draw["k"][row, head, token], draw["v"][row, head, token])
                expected[row, head, token] = draw["q"][row, head, token] @ last[row, head]
    for chunk in (1, 5, 16, 64):
        read, after = retain(draw["q"], draw["k"], draw["v"], decay, memory, chunk)
        torch.testing.assert_close(read, expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(after, last, rtol=1e-11, atol=1e-11)


def test_retention_decays_as_published():
    assert Retention(64, 4).decay.tolist() == [1 - 1 / 32, 1 - 1 / 64, 1 - 1 / 128, 1 - 1 / 256]


@pytest.mark.parametrize("kind", ALL)
def test_no_kind_sees_what_comes_later(kind):
    model, tokens = small(kind), ids(2, 40)
    changed = tokens.clone()
    changed[:, 23] = (tokens[:, 23] + 1) % 61
    before, after = logits(model, tokens), logits(model, changed)
    torch.testing.assert_close(before[:, :23], after[:, :23], rtol=0, atol=1e-6)
    assert bool((before[:, 23] != after[:, 23]).any(-1).all())
    assert bool((before[:, 24:] != after[:, 24:]).any(-1).any())


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in LEARNS_ONLINE])
def test_stream_in_pieces_gives_what_the_whole_gives(kind):
    model, tokens, state, parts = small(kind), ids(2, 41), None, []
    for start, end in ((0, 7), (7, 8), (8, 30), (30, 31), (31, 41)):
        part, state = advance(model, tokens[:, start:end], state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), logits(model, tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_loss_of_the_call_is_the_loss_that_is_reported(kind):
    model, tokens = small(kind), ids(1, 32)
    with torch.no_grad():
        loss = float(model(input_ids=tokens, labels=tokens, use_cache=False).loss)
    assert bits_per_token(model, tokens[0], context=31) * 0.6931471805599453 == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone(kind):
    before = torch.random.get_rng_state()
    one, same, other = small(kind, seed=3), small(kind, seed=3), small(kind, seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    weights = [torch.cat([weight.detach().flatten() for weight in model.parameters()]) for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("kind", ALL)
def test_every_weight_of_every_kind_is_trained(kind):
    model, tokens = small(kind), ids(2, 64)
    model.train()(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    still = [name for name, weight in model.named_parameters() if weight.grad is None or not bool(weight.grad.abs().any())]
    assert still == []


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "medium"])
def test_all_kinds_are_equally_large(size):
    fits = [fit(kind, SIZES[size], 256, 256) for kind in ALL]
    for found in fits:
        shape = found.shape
        model = build(found.kind, shape.vocab, shape.width, shape.layers, shape.context, 0, knob=found.knob)
        assert parameters(model) == (found.total, found.apart)
        assert abs(found.off(SIZES[size].target)) <= TOLERANCE, found
        assert shape.width == SIZES[size].width
    assert max(found.total for found in fits) <= (1 + TOLERANCE) * min(found.total for found in fits)
    printed = table(fits, SIZES[size].target)
    assert all(f"{found.total:,}" in printed for found in fits)


def test_size_that_a_kind_cannot_have_is_refused():
    with pytest.raises(NoFit, match="deltanet at width 64 and 2 blocks comes to"):
        fit("deltanet", Size("odd", 64, 2, 20_000), 256, 64)


def test_unknown_kinds_and_impossible_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match="there is no kind 'lstm'; there are transformer"):
        build("lstm", 61, 32, 2, 32, 0)
    with pytest.raises(ValueError, match="width=40"):
        build("retnet", 61, 40, 2, 32, 0)
    with pytest.raises(ValueError, match="there is a kind 'retnet' already"):
        register("retnet", KINDS["retnet"].make)


def test_every_task_and_size_can_be_asked_for_in_the_command():
    from bench.lm import SIZES as OFFERED
    from bench.lm import TASKS

    assert tuple(SIZES) == OFFERED
    assert (*trials.TASKS, "speed", "widths") == TASKS


# --- HOPE with one part changed


def variant(name, size="tiny", vocab=61):
    return Trial("ablations", size, name, 0, 0, 1.0), vocab


def test_variants_are_no_kinds_of_the_other_tasks():
    assert set(VARIANTS) & set(KINDS) == {"hope"}
    assert next(iter(VARIANTS)) == "hope"


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", ["tiny", "mini", "small", "medium"])
def test_variants_are_as_large_as_hope_by_the_same_knob(name, size):
    model, found = fitted(*variant(name, size))
    assert abs(found.off(SIZES[size].target)) <= TOLERANCE, found
    assert parameters(model)[0] == found.total + idle(*variant(name, size))
    assert (found.turned, found.shape.width, found.shape.layers) == ("level width", SIZES[size].width, SIZES[size].layers)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_of_every_variant_is_trained_but_for_those_not_counted(name):
    shape = Shape(4, 32, 2, 48)
    model, tokens = made(VARIANTS[name].kind, shape, 0, 8), ids(4, 48) % 4
    model.train()(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    still = sum(int((weight.grad == 0).sum()) if weight.grad is not None else weight.numel() for weight in model.parameters())
    assert still == VARIANTS[name].idle(shape)


def test_variants_change_what_their_names_say_and_nothing_else():
    switches = {name: asdict(fitted(*variant(name))[0].blocks[0].mixer.config) for name in VARIANTS}
    usual = switches["hope"]
    differing = {name: {field: value for field, value in each.items() if value != usual[field]} for name, each in switches.items()}
    assert (usual["momentum"], usual["adaptive"]) == (False, ("k", "v", "eta", "alpha", "mem"))
    assert differing == {
        "hope": {},
        "w/o DGD": {"dgd": False},
        "with momentum": {"momentum": True},
        "w/o weight decay": {"retention": False},
        "w/o CMS": {},
        "w/o inner projection k": {"adaptive": ("v", "eta", "alpha", "mem")},
        "w/o inner projection v": {"adaptive": ("k", "eta", "alpha", "mem")},
        "with inner projection q": {"adaptive": ("k", "v", "eta", "alpha", "q", "mem")},
        "w/o self-modification": {"adaptive": ("mem",), "targets": "shared"},
    }
    levels = {name: [level["name"] for level in fitted(*variant(name))[0].config.levels] for name in VARIANTS}
    assert {name for name, names in levels.items() if names != ["middle", "slow", "static"]} == {"w/o CMS"}
    assert levels["w/o CMS"] == ["ffn"]


def test_variant_hope_is_the_kind_hope_to_the_last_bit():
    shape = Shape(61, 32, 2, 32)
    one, same = made(VARIANTS["hope"].kind, shape, 3, 8), build("hope", 61, 32, 2, 32, 3, knob=8)
    assert one.config.to_dict() == same.config.to_dict() == changed(shape, 8).config.to_dict()
    assert all(torch.equal(mine, its) for mine, its in zip(one.parameters(), same.parameters(), strict=True))


def test_llama_and_hope_of_a_width_are_equally_large_with_heads_of_every_width():
    models = contestants(128, (16, 64))
    counts = {name: parameters(model)[0] for name, model in models.items()}
    assert list(counts) == [RIVAL, "head 16", "head 64"]
    assert all(abs(count / counts[RIVAL] - 1) <= TOLERANCE for count in counts.values())
    assert [models[name].config.titans["head_width"] for name in ("head 16", "head 64")] == [16, 64]

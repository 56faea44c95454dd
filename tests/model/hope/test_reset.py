"""Parts of a state are forgotten each alone (hope.md §9, rule 5)."""

import pytest
import torch

from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.hope.reset import without_levels, without_mixers
from model.hope.state import difference


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(8)
    levels = [{"name": name, "period_tokens": period, "hidden": 6, "rate": 0.5} for name, period in (("middle", 4), ("slow", 8))]
    return HopeLM(HopeConfig(12, 8, 2, titans={"head_width": 4, "chunk_projections": 4, "chunk_memory": 4}, levels=levels)).eval()


def ids(length, seed=0):
    return torch.randint(0, 12, (1, length), generator=torch.Generator().manual_seed(seed))


def seen(model, length):
    with torch.no_grad():
        return model(ids(length), use_cache=True).state


def names_of(model, one, other):
    return set(difference(one, other))


def test_a_new_session_forgets_the_mixers_and_keeps_the_levels(model):
    state = seen(model, 18)
    cleared = without_mixers(model, state)
    fresh = model.initial_state(1)
    assert all(difference(mine.mixer, start.mixer) == {} for mine, start in zip(cleared.blocks, fresh.blocks, strict=True))
    assert all(names.startswith(("blocks.0.mixer", "blocks.1.mixer", "window.whole")) for names in names_of(model, cleared, state))
    assert cleared.position.tolist() == [18]


def test_one_level_is_forgotten_and_no_other(model):
    state = seen(model, 18)
    cleared = without_levels(model, state, {"middle"})
    changed = names_of(model, cleared, state)
    assert any(name.startswith("blocks.1.levels.0.delta") for name in changed)
    assert all(name.startswith(("blocks.0.levels.0.", "blocks.1.levels.0.", "window.whole")) for name in changed)
    assert not any(delta.any() for block in cleared.blocks for delta in block.levels[0].delta.values())


def test_a_window_that_was_broken_teaches_nothing_and_the_next_one_does(model):
    with torch.no_grad():
        broken = without_mixers(model, seen(model, 6))
        at_boundary = model(ids(3, seed=1), state=broken).state  # the window 4..8 ended, its label came
        assert difference(at_boundary.blocks[0].levels[0], broken.blocks[0].levels[0]) == {}
        later = model(ids(4, seed=2), state=at_boundary).state
    assert difference(later.blocks[0].levels[0], at_boundary.blocks[0].levels[0]) != {}


def test_a_complete_window_is_still_learned_after_a_new_session(model):
    with torch.no_grad():
        state = without_mixers(model, seen(model, 8))
        after = model(ids(1, seed=1), state=state).state
    assert difference(after.blocks[0].levels[0], state.blocks[0].levels[0]) != {}


def test_a_level_that_others_hold_the_start_of_is_forgotten_there_too():
    torch.manual_seed(8)
    levels = [{"name": name, "period_tokens": period, "hidden": 6, "rate": 0.5} for name, period in (("middle", 4), ("slow", 8))]
    nested = HopeLM(HopeConfig(12, 8, 1, titans={"head_width": 4}, levels=levels, variant="nested")).eval()
    state = seen(nested, 18)
    cleared = without_levels(nested, state, {"middle"}).blocks[0].levels[1]
    held = state.blocks[0].levels[1]
    assert any(start.any() for start in held.anchor.values())
    assert not any(start.any() for start in cleared.anchor.values())
    assert not any(cleared.gradient[name].any() for name in cleared.anchor)
    assert all(torch.equal(cleared.delta[name], held.delta[name]) for name in held.delta)


def test_an_unknown_level_is_refused_by_name(model):
    with pytest.raises(ValueError, match="no online level is called 'fast'; there are middle, slow"):
        without_levels(model, model.initial_state(1), {"fast"})

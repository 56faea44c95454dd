"""The products of many banks by one kernel: the numbers of the products one by one; host and device kept apart; and CUDA where there is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from memory_reference import MINUTE, TINY, bits_of, book_of, policies, stream, unit_keys
from torch.overrides import TorchFunctionMode

from model import Asked, Lesson, Recall, RecallConfig, Slots, State, checkpoint
from model.stacked import LANES, Stacked

FICKLE = replace(MINUTE, neighbours=12, own_words=1.0, code_width=64)
ODD = replace(MINUTE, window=41, key_width=23, code_width=24, middle_period=2, neighbours=7, frequencies=19)
TOLERANCE = 2e-5  # of float32 sums in another order, over a few hundred lessons; a read-out is of length 1 or so
BANKS = LANES + 3


def lessons_of(config: RecallConfig, length: int, bank: int) -> list[Lesson]:
    """Each bank's own, some longer than others."""
    return policies(config, length - bank, bank) if bank % 2 else stream(config, length - bank, 300 + bank, answers=7)


def learned(recall: Recall, slots: Slots, length: int) -> list[State]:
    """Banks in slots that learned together."""
    streams = [lessons_of(recall.config, length, bank) for bank in range(BANKS)]
    views = [slots.view(slots.take()) for _ in streams]
    for place in range(length):
        still = [bank for bank in range(BANKS) if place < len(streams[bank])]
        recall.apply_many_([views[bank] for bank in still], [streams[bank][place] for bank in still])
    return views


def check_against(recall: Recall, views: Iterable[State], other: Recall, states: Iterable[State]) -> None:
    """Equal decisions, and numbers within the tolerance."""
    keys, book = unit_keys(25, 4, recall.config.key_width), book_of(7, recall.config)
    for view, state in zip(views, states, strict=True):
        for name in ("marks", "last", "codes", "kin", "answers", "rates"):
            assert torch.equal(view.levels["fast"][name], state.levels["fast"][name]), name
        assert float((view.levels["fast"]["evidence"] - state.levels["fast"]["evidence"]).abs().max()) < 10 * TOLERANCE
        for key in keys:
            assert np.abs(recall.read(view, key) - other.read(state, key)).max() < TOLERANCE
        for one, two in zip(recall.answer(view, keys, book, top_k=3), other.answer(state, keys, book, top_k=3), strict=True):
            assert [c.score for c in one] == pytest.approx([c.score for c in two], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("config", "length"), [(MINUTE, 60), (FICKLE, 60), (ODD, 60), (TINY, 100)], ids=["minute", "fickle", "odd", "tiny"]
)
def test_the_numbers_are_those_of_the_products_one_by_one(config: RecallConfig, length: int) -> None:
    recall, plain = Recall(config, stacked=True), Recall(config)
    views, states = learned(recall, Slots(config, BANKS), length), learned(plain, Slots(config, BANKS), length)
    assert any(int(view.levels["fast"]["marks"][0, 1]) > 0 for view in views), "some have filled their windows"
    check_against(recall, views, plain, states)
    if config == FICKLE:
        assert any((view.levels["fast"]["kin"][:, 1] >= 0).any() for view in views), "answers were replaced"


def test_what_lies_beyond_the_used_rows_counts_nothing() -> None:
    recall, [key] = Recall(MINUTE, stacked=True), unit_keys(1, 5, MINUTE.key_width)
    state = recall.fold(recall.initial(), stream(MINUTE, 8, 6))
    dirty = state.clone()
    used = int(state.levels["fast"]["marks"][0, 0])
    for name in ("keys", "errors"):
        dirty.levels["fast"][name][used:] = 7.0
    assert recall.read(dirty, key).tobytes() == recall.read(state, key).tobytes()


def test_shapes_depend_on_the_bank_alone() -> None:
    products, default = Stacked(MINUTE, torch.device("cpu")), Stacked(RecallConfig("e" * 64), torch.device("cpu"))
    state = Recall(RecallConfig("e" * 64)).initial()
    for used, rows in ((0, 256), (256, 256), (257, 1_024), (1_024, 1_024), (1_025, 2_048), (2_048, 2_048), (9_000, 2_048)):
        state.levels["fast"]["marks"][0, 0] = used
        assert default._step(state) == (rows, False, 0)
    assert products._step(Recall(MINUTE).initial()) == (MINUTE.window, False, 0)
    assert (products._width, default._width) == (8, 16)


def test_reduced_precision_is_refused() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ValueError, match="full precision"):
            Recall(MINUTE, "meta")
    finally:
        torch.set_float32_matmul_precision("highest")
    Recall(MINUTE, "meta")


def test_one_by_one_is_for_the_host_only() -> None:
    with pytest.raises(ValueError, match="a way of the host, not of meta"):
        Recall(MINUTE, "meta", stacked=False)


# --- host and device kept apart


class Far(torch.Tensor):
    """A tensor that pretends to lie on a device."""


class Pretended(TorchFunctionMode):
    """Runs what is meant for the device "meta" on the host, and refuses what a real device would: tensors of both places in one kernel.

    `waits` counts how often the host had to wait for a result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named, name = dict(kwargs or {}), func.__name__
        with torch._C.DisableTorchFunctionSubclass():
            if name == "__get__" and func.__self__ is torch.Tensor.device:  # type: ignore[attr-defined]
                return torch.device("meta" if isinstance(args[0], Far) else "cpu")
            if name in ("to", "cpu"):
                return self.moved(args, named, name)
            far = False
            if named.get("device") is not None:
                far, named["device"] = torch.device(named["device"]).type == "meta", "cpu"
            places = [isinstance(each, Far) for each in tensors_in((args, named)) if each.dim()]
            crossing = name == "copy_" or (name == "__setitem__" and not tensors_in(args[1]))  # copies go both ways
            assert all(places) or not any(places) or crossing, f"{name} of tensors in both places"
            assert not (any(places) and name in ("numpy", "tolist", "item", "__bool__", "__float__", "__int__")), f"{name} on the device"
            found = func(*args, **named)
        return placed(found, far or any(places))

    def moved(self, args: tuple[Any, ...], named: dict[str, Any], name: str) -> Any:
        there = next((each for each in args[1:] if isinstance(each, (str, torch.device))), "cpu" if name == "cpu" else args[0].device)
        far = torch.device(there).type == "meta"
        self.waits += isinstance(args[0], Far) and not far
        return placed(args[0].as_subclass(torch.Tensor).clone(), far)


def tensors_in(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    return [tensor for each in tree for tensor in tensors_in(each)] if isinstance(tree, (list, tuple)) else []


def placed(tree: Any, far: bool) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.as_subclass(Far if far else torch.Tensor)
    if isinstance(tree, (list, tuple)) and any(isinstance(each, torch.Tensor) for each in tree):
        return [placed(each, far) for each in tree]
    return tree


@pytest.mark.parametrize("config", [FICKLE, ODD], ids=["fickle", "odd"])
def test_no_kernel_mixes_host_and_device_and_the_host_waits_a_few_times_in_a_batch(config: RecallConfig) -> None:
    plain = Recall(config, stacked=True)
    expected = learned(plain, Slots(config, BANKS), 50)
    with Pretended() as pretended:
        recall, slots = Recall(config, "meta"), Slots(config, BANKS, "meta")
        views = learned(recall, slots, 50)
        heavy = {name for named in views[0].levels.values() for name, tensor in named.items() if tensor.device.type == "meta"}
        assert heavy == {"keys", "errors", "weights", "scales", "sizes"}
        assert 50 < pretended.waits < 50 * 3 * 2, "three groups of banks that share kernels, each asked once, seldom twice"
        keys, book = unit_keys(9, 5, config.key_width), book_of(7, config)
        answers = recall.answer_many([Asked(view, keys, book, 3) for view in views])
        saved = [slots.save(slot) for slot in range(BANKS)]
        parcel = slots.pack(0)
        slots.load(1, parcel)
        slots.load(2, saved[0])
        loaded = [slots.save(1), slots.save(2), slots.view(0).to("cpu")]
        blobs = checkpoint.encode(slots.view(0))
        digests = [slots.view(0).digest(), slots.view(0).clone().digest()]
        loose = recall.fold(saved[3].to("meta"), stream(config, 5, 7, first=10_000)).to("cpu")
    assert [bits_of(state) for state in saved] == [bits_of(state) for state in expected]
    assert [bits_of(state) for state in loaded] == [bits_of(expected[0])] * 3
    assert blobs == checkpoint.encode(expected[0])
    assert digests == [expected[0].digest()] * 2
    assert bits_of(loose) == bits_of(plain.fold(expected[3], stream(config, 5, 7, first=10_000)))
    assert answers == plain.answer_many([Asked(view, keys, book, 3) for view in expected])


# --- on a real one

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: nothing here says how banks learn on one")


@CUDA
@pytest.mark.parametrize(("config", "length"), [(FICKLE, 60), (TINY, 140)], ids=["fickle", "tiny"])
def test_cuda_has_the_numbers_of_the_host(config: RecallConfig, length: int) -> None:
    recall, plain = Recall(config, "cuda"), Recall(config)
    slots = Slots(config, BANKS, "cuda")
    views, states = learned(recall, slots, length), learned(plain, Slots(config, BANKS), length)
    check_against(recall, views, plain, states)
    assert slots.pack(0).levels["fast"]["keys"].is_pinned()
    assert bits_of(slots.pack(0).state(config)) == bits_of(slots.save(0))


@CUDA
@pytest.mark.parametrize(("config", "length"), [(FICKLE, 60), (TINY, 140), (RecallConfig("e" * 64), 40)], ids=["fickle", "tiny", "default"])
def test_cuda_gives_a_bank_the_same_bits_whoever_learns_beside_it(config: RecallConfig, length: int) -> None:
    recall, slots = Recall(config, "cuda"), Slots(config, BANKS, "cuda")
    learned(recall, slots, length)
    for slot in range(BANKS):
        alone = recall.fold(recall.initial(), lessons_of(config, length, slot))
        assert alone.digest() == slots.view(slot).digest()

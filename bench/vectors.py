"""Every distinct text of the benchmark as a vector, computed once and shared by all that are compared.

The vector of a text is a function of the text alone, bit for bit (`model.encoder`, E1), so a memory that is given it from here learns
and answers exactly as if it had encoded the text itself. Only the time of the encoder is left out; `python -m bench latency` has it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.encoder import Encoded, Encoder, find_weights, tokenizer_in
from model.wording import Words

BATCH = 32

Keys = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors and token counts of texts, under the encoder with this digest."""

    places: dict[str, int]
    keys: Keys  # (texts, width)
    tokens: list[int]
    digest: str

    def __getitem__(self, text: str) -> Keys:
        """(width,) the vector of a text."""
        return np.asarray(self.keys[self.places[text]])

    def only(self, texts: Sequence[str]) -> "Vectors":
        """Those of `texts`, which are distinct."""
        at = [self.places[text] for text in texts]
        return Vectors({text: place for place, text in enumerate(texts)}, self.keys[at], [self.tokens[place] for place in at], self.digest)


class RememberedEncoder(Encoder):
    """An encoder that knows the texts it was made for, and no others."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self.digest, self.width = vectors.digest, vectors.keys.shape[1]
        self.words = Words(tokenizer_in(find_weights(os.environ.get("PALIMPSEST_ENCODER") or None)))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The vectors and token counts of `texts`.

        Raises:
            KeyError: a text that was not encoded before.
        """
        at = [self._vectors.places[text] for text in texts]
        return Encoded(np.ascontiguousarray(self._vectors.keys[at]), [self._vectors.tokens[place] for place in at])


def encode_all(encoder: Encoder, texts: Sequence[str], progress: Callable[[int], object]) -> Vectors:
    """The vectors of all distinct `texts`. `progress` is told how many more are done."""
    distinct = list(dict.fromkeys(texts))
    keys = np.empty((len(distinct), encoder.width), np.float32)
    tokens: list[int] = []
    for begin in range(0, len(distinct), BATCH):
        encoded = encoder.encode(distinct[begin : begin + BATCH])
        keys[begin : begin + BATCH] = encoded.vectors
        tokens += encoded.tokens
        progress(len(encoded.tokens))
    return Vectors({text: place for place, text in enumerate(distinct)}, keys, tokens, encoder.digest)

"""Texts to keys, for the whole process: one encoder in its own thread, concurrent requests in micro-batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.encoder import Encoder
from service import tracing
from service.store.rows import EventRow, SupportRow
from service.tracing import Stage
from workers.batch import Batcher
from workers.threads import OwnThread

BATCH = 32  # texts in one call of the encoder; more gives no throughput on a CPU and makes the first of them wait
SLICE = 1_024  # texts of one request that wait at once: the largest batch with paraphrases has more than the queue takes
MOST_WORDS = 512  # characters of an answer that are read: what it is about is said at its beginning
WAITING = 4_096  # queued texts, some seconds of work

Key = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as the memory sees it: unit vector (384,) and its length in encoder tokens, beside the text itself."""

    key: Key
    tokens: int
    text: str


def text_of(row: EventRow | SupportRow) -> EncodedText:
    """The input of a correction that has its key and its words still."""
    return EncodedText(np.frombuffer(row.embedding or b"", np.float32), 0, row.input or "")


def own_words(response: str) -> str | None:
    """The words of an answer as the encoder should read them: an identifier is made of words, too. None if there are none to be read."""
    words = response[:MOST_WORDS].replace("_", " ")
    return words if any(character.isalnum() for character in words) else None


class Encoding:
    """The encoder behind a queue."""

    def __init__(self, encoder: Encoder, stage: Stage, waited: Callable[[float], None] | None = None) -> None:
        self.digest, self.words = encoder.digest, encoder.words
        self._encoder, self._stage = encoder, stage
        self._thread = OwnThread("encoder")
        self._batches: Batcher[str, EncodedText] = Batcher(
            self._encode, self._thread, size=BATCH, waiting=WAITING, waited=waited, eager=True
        )

    async def encode(self, texts: Sequence[str], tenant: str = "") -> list[EncodedText]:
        """The keys of `texts`, in order; the same text always gives the same bytes.

        Raises:
            Capacity: too many texts are waiting.
        """
        encoded: list[EncodedText] = []
        with tracing.span("encode"):  # of this request, its wait for others with it; what is measured is a batch's
            for start in range(0, len(texts), SLICE):
                encoded += await self._batches.submit(texts[start : start + SLICE], tenant)
        return encoded

    def close(self) -> None:
        """Finish the batch in progress and stop the thread."""
        self._thread.close()

    def _encode(self, texts: Sequence[str]) -> list[EncodedText]:
        with self._stage("encode"):
            encoded = self._encoder.encode(texts)
        return [EncodedText(*one) for one in zip(encoded.vectors, encoded.tokens, texts, strict=True)]

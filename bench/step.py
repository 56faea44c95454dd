"""The model's bare step: what a recall and a correction cost before anyone can reach them over a network or keep them.

A recall is one call of the encoder and one reading of the memory. A correction is one call of the encoder, for the text and for the words
of an answer that is new, and what the memory does for it in one go: it is read, taught and read again, for the receipt. Both are the
service's own calls of its model, on a memory of its own that is taught the same.

Not in it, though a model does it, is what a receipt asks at the corrections beside the lesson, before and after (`locality`), and the
comparison of texts by which an answer's confidence is judged: some 1.5 ms of a correction's computing, 0.2 of a recall's. A memory could be
taught and asked without either, so here they are overhead of the service.
"""

import time
from dataclasses import dataclass

import numpy as np

from model import Lesson, Recall, RecallConfig
from model.encoder import Encoder
from workers.encoding import own_words
from workers.learning import Taking, learn_together
from workers.reading import asked
from workers.view import NO_KEYS, View


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of one step."""

    encoder_ms: float
    whole_ms: float


class BareStep:
    """An encoder and a memory in this process. For one thread."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._recall = encoder, Recall(RecallConfig(encoder_digest=encoder.digest))
        self._view = View("bare", 0, self._recall.initial(), (), self._recall.book(), np.zeros(64, np.int32))

    def ask(self, text: str) -> Took:
        """Encode and read."""
        begin = time.perf_counter()
        encoded = self._encoder.encode([text])
        between = time.perf_counter()
        self._recall.answer_many([asked(self._view, encoded.vectors, 1)])
        return _took(begin, between)

    def teach(self, text: str, right: str) -> Took:
        """Encode, read, learn and read."""
        begin = time.perf_counter()
        place = self._view.book.place(right)
        words = own_words(right) if place is None else None
        encoded = self._encoder.encode([text] if words is None else [text, words])
        between = time.perf_counter()
        own = None if words is None else encoded.vectors[1]
        lesson = Lesson(encoded.vectors[0], right, encoded.tokens[0], self._view.seq + 1, own)
        response = len(self._view.book) if place is None else place
        (learned,) = learn_together(self._recall, [Taking(self._view, lesson, response, NO_KEYS)])
        if isinstance(learned, Exception):
            raise learned
        return _took(begin, between)


def _took(begin: float, between: float) -> Took:
    return Took(1e3 * (between - begin), 1e3 * (time.perf_counter() - begin))

"""Mistakes that were corrected before: the memory had been told, in words as near as any it was ever told, and was wrong again.

A mistake is *repeated* when the nearest correction that the memory was told so far has the answer that is wanted now; *again* when that
correction was in the very same words. A memory that answers with its nearest correction repeats none; what it makes wrong lies nearer to
the correction of another answer. Of equally near corrections the newest counts.
"""

from dataclasses import dataclass, field

import numpy as np

from bench.vectors import Keys, Vectors

TIE = 1e-6  # cosines so close are of the same text


@dataclass(slots=True)
class Repeats:
    """Follows the corrections of one memory on one stream."""

    vectors: Vectors
    repeated: int = 0
    again: int = 0
    _keys: Keys = field(init=False)
    _told: list[tuple[str, str]] = field(default_factory=list)  # text, right answer

    def __post_init__(self) -> None:
        self._keys = np.empty((64, self.vectors.keys.shape[1]), np.float32)

    def wrong(self, text: str, right: str) -> None:
        """A mistake at `text`, which is corrected now."""
        key, size = self.vectors[text], len(self._told)
        if size:
            near = self._keys[:size] @ key
            nearest = size - 1 - int((near >= near.max() - TIE)[::-1].argmax())
            words, answer = self._told[nearest]
            self.repeated += answer == right
            self.again += (words, answer) == (text, right)
        if size == len(self._keys):
            self._keys = np.concatenate([self._keys, np.empty_like(self._keys)])
        self._keys[size] = key
        self._told.append((text, right))

    @property
    def live(self) -> dict[str, str]:
        """The corrections that still hold: for each text its newest answer."""
        return dict(self._told)

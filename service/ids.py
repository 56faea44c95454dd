"""Identifiers: a type prefix and 26 Crockford base-32 characters (a ULID), so that ids sort by the time they were made."""

import secrets
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26  # 48 bits of milliseconds + 80 random bits, five bits a character
_STEP_BITS = 64  # from an id to the next of the same millisecond: too far to be guessed


class _Numbers:
    """Numbers that only rise, also within a millisecond and when the clock is put back."""

    def __init__(self) -> None:
        self._lock, self._last = threading.Lock(), 0

    def next(self) -> int:
        number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
        with self._lock:
            if number <= self._last:
                number = self._last + 1 + secrets.randbits(_STEP_BITS)
            self._last = number
        return number


_numbers = _Numbers()


def new_id(prefix: str) -> str:
    """A fresh id such as `cor_01J…`; it sorts after all that this process made before, and to the millisecond after those of others."""
    number = _numbers.next()
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))

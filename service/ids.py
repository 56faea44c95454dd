"""Identifiers: a type prefix and 26 Crockford base-32 characters (a ULID), so that ids sort by the time they were made."""

import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26  # 48 bits of milliseconds + 80 random bits, five bits a character


def new_id(prefix: str) -> str:
    """A fresh id such as `cor_01J…`; later ids sort after earlier ones to the millisecond."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))

"""Confirm tokens: a preview gives one for just the corrections, mode and bank that it told of, and the deed takes it back.

A token is its end in seconds and an HMAC with the pepper, so nothing has to be kept, and nobody else can make one.
"""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from service.errors import Conflict

GOOD_FOR = timedelta(minutes=10)


def token(pepper: bytes, what: Sequence[object], until: datetime) -> str:
    """The token for `what`, good until a second."""
    end = int(until.timestamp())
    signed = hmac.digest(pepper, b"confirm\n" + msgspec.json.encode([end, *what]), hashlib.sha256)
    return f"{end}.{signed.hex()}"


def check(pepper: bytes, given: str, what: Sequence[object], now: datetime) -> None:
    """Refuse a token that is not for this.

    Raises:
        Conflict: it is for something else, or it is too old.
    """
    end = given.partition(".")[0]
    until = datetime.fromtimestamp(int(end), UTC) if end.isascii() and end.isdigit() and len(end) < 12 else now
    good = hmac.compare_digest(token(pepper, what, until).encode(), given.encode("utf-8", "surrogatepass"))
    if not good or until <= now:
        raise Conflict("confirm_token is too old, or for other corrections, another mode or bank than these; preview again with dry_run")

"""API keys: how they are made, and the one form in which they are stored.

A key is `pal_<8 characters>_<32 random bytes in base 62>`. The database holds only `HMAC-SHA256(pepper, key)`: the secret has 256
random bits, so a fast hash cannot be searched, and without the pepper (a file or a setting, never the database) a copy of the database
opens nothing. Any other text of at least 32 characters works as a key too when an operator chose it as the bootstrap key.
"""

import hashlib
import hmac
import os
import secrets
import string
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from service.settings import Settings

_BASE62 = string.digits + string.ascii_letters
_ID_LENGTH = 8
_SECRET_BYTES = 32
_SECRET_LENGTH = 43  # 62^43 > 2^256
_PEPPER_BYTES = 32
PREFIX_LENGTH = len("pal_") + _ID_LENGTH


class PepperRefused(ValueError):
    """The pepper cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key; it exists in clear only here."""

    key: str
    prefix: str


def mint() -> Minted:
    """A new key with 256 random bits."""
    name = "".join(secrets.choice(_BASE62) for _ in range(_ID_LENGTH))
    key = f"pal_{name}_{_base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES)))}"
    return Minted(key, visible_prefix(key))


def visible_prefix(key: str) -> str:
    """What may be shown of a key so that people tell keys apart: nothing secret of a minted one, four characters of a chosen one."""
    return key[:PREFIX_LENGTH] if key.startswith("pal_") else f"{key[:4]}…"


def lookup_hash(pepper: bytes, presented: str) -> bytes:
    """The 32 bytes under which the presented key is found in the database."""
    return hmac.digest(pepper, presented.encode("utf-8", "surrogatepass"), hashlib.sha256)


def load_pepper(settings: Settings) -> bytes:
    """The pepper from the settings, else from the file `key-pepper`, which is made (mode 0600, whole or not at all) if it is missing.

    Raises:
        PepperRefused: the file is too short to be one that this function wrote.
    """
    if settings.key_pepper:
        return settings.key_pepper.encode()
    path = settings.var_dir / "key-pepper"
    if not path.exists():
        _create(path, secrets.token_hex(_PEPPER_BYTES))
    pepper = bytes.fromhex(path.read_text().strip()) if path.stat().st_size else b""
    if len(pepper) < _PEPPER_BYTES:
        raise PepperRefused(f"{path} is damaged; restore it from a backup, or delete it and mint every key again")
    return pepper


def kept_key(path: Path) -> str:
    """The key in a file, which is minted (mode 0600, whole or not at all) if there is none: for a program of the directory's owner."""
    if not path.exists():
        _create(path, mint().key)
    return path.read_text().strip()


def _create(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secret.encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    try:
        os.link(draft, path)  # unlike rename it never replaces what a process wrote that was quicker
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _base62(number: int) -> str:
    digits = []
    for _ in range(_SECRET_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))

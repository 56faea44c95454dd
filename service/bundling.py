"""Bundles: a snapshot as one signed file that leaves the service and may come back.

A tar archive of plain files, in this order:

    signature              HMAC-SHA256 of manifest.json, hex, with a key derived from the key pepper
    manifest.json          what it is, and the digest and size of every file below
    levels/NAME.safetensors    the weights, by level
    probes.jsonl           what the snapshot says to its own corrections
    ledger.jsonl           optional: the corrections up to it, with their place in the hash chain

- The api signs and checks, since it alone has the pepper; whoever makes or takes in the rest has no secret.
- There is one form: what is read has to be, byte for byte, what would be written of its parts. So nothing is added, cut off or hidden.
- Nothing is ever unpacked to a disk, and nothing in it is code: safetensors and JSON alone.
"""

import hashlib
import hmac
import re
import tarfile
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from service.errors import BundleRefused
from service.store.lineage import normal

BUNDLE_MAX = 64 << 20  # bytes of a bundle
SIGNATURE, MANIFEST, PROBES, LEDGER = "signature", "manifest.json", "probes.jsonl", "ledger.jsonl"
LEVEL = "levels/{}.safetensors"
_LEVEL = re.compile(r"levels/([a-z]{1,32})\.safetensors")
FILES_MAX = 16
FORMAT: Literal["palimpsest-bundle-1"] = "palimpsest-bundle-1"
BLOCK = 512  # of a tar archive
END = bytes(2 * BLOCK)
PURPOSE = b"palimpsest bundle signature 1"  # so that the pepper's other use and this one say nothing about each other

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, lt=2**31)]


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a bundle."""

    sha256: Digest
    bytes: Count


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle holds: the snapshot `snapshot` of `bank`; `chain` is the ledger's hash at `seq`.

    `held`: events that belong to it, and that it was folded without because they were in quarantine.
    """

    format: Literal["palimpsest-bundle-1"] = FORMAT
    bank: str
    snapshot: str
    seq: Count
    spans: tuple[tuple[Count, Count], ...]
    held: tuple[tuple[Count, Count], ...]
    digest: Digest
    config_hash: Digest
    encoder_digest: str
    chain: Digest
    clock: dict[str, int]
    members: dict[str, Member]
    made_at: datetime


class Probe(Struct, frozen=True, forbid_unknown_fields=True):
    """What the snapshot says to the input of a correction."""

    correction: str
    input: str
    value: str | None
    confidence: float


class Bundle(Struct, frozen=True):
    """A bundle whose digests hold; `members` are the files that the manifest names."""

    manifest: Manifest
    members: dict[str, bytes]


def member_of(data: bytes) -> Member:
    """What a manifest says of a file."""
    return Member(hashlib.sha256(data).hexdigest(), len(data))


def packed(members: Mapping[str, bytes]) -> bytes:
    """The files as a tar archive, in their order, without its end."""
    parts = []
    for name, data in members.items():
        head = tarfile.TarInfo(name)
        head.size = len(data)
        parts += [head.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % BLOCK)]
    return b"".join(parts)


def signature(pepper: bytes, manifest: bytes) -> bytes:
    """The file `signature` of a manifest."""
    key = hmac.digest(pepper, PURPOSE, hashlib.sha256)
    return hmac.digest(key, manifest, hashlib.sha256).hex().encode()


def opened(data: bytes, pepper: bytes | None) -> Bundle:
    """What is in a bundle. Without a `pepper` the signature is not looked at: whoever kept the bundle has done so.

    Raises:
        BundleRefused: too large, cut off, changed, of another signer, or not a bundle at all; the message says which.
    """
    if len(data) > BUNDLE_MAX:
        raise BundleRefused(f"the bundle has {len(data):,} bytes; {BUNDLE_MAX:,} are the most")
    members = _unpacked(data)
    if list(members)[:2] != [SIGNATURE, MANIFEST]:
        raise BundleRefused(f"a bundle begins with the files {SIGNATURE} and {MANIFEST}; this is none")
    sign, raw = members.pop(SIGNATURE), members.pop(MANIFEST)
    if pepper is not None and not hmac.compare_digest(sign, signature(pepper, raw)):
        raise BundleRefused("the signature is not that of this service: the manifest was changed, or another service has made the bundle")
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BundleRefused(f"the manifest is of another version: {error}") from None
    _check_members(manifest, members)
    return Bundle(manifest, members)


def levels_of(bundle: Bundle) -> dict[str, bytes]:
    """The weights by level."""
    return {match[1]: data for name, data in bundle.members.items() if (match := _LEVEL.fullmatch(name))}


def _check_members(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    odd = [name for name in members if name not in (PROBES, LEDGER) and not _LEVEL.fullmatch(name)]
    if odd or PROBES not in members:
        raise BundleRefused(f"a bundle has no file {_shown(odd[0])}" if odd else f"{PROBES} is missing")
    if manifest.members.keys() != members.keys():
        apart = sorted(manifest.members.keys() ^ members.keys())
        raise BundleRefused(f"the files are not those of the manifest: {', '.join(map(_shown, apart[:5]))}")
    for name, content in members.items():
        if manifest.members[name] != member_of(content):
            raise BundleRefused(f"{name} was changed: it does not have the digest that the manifest names")
    for spans in (manifest.spans, manifest.held):
        if normal(spans) == spans and (not spans or spans[-1][1] <= manifest.seq):
            continue
        raise BundleRefused("the manifest names events out of order, or after its own position")


def _unpacked(data: bytes) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    at = 0
    while data[at : at + BLOCK].strip(b"\0"):
        try:
            head = tarfile.TarInfo.frombuf(data[at : at + BLOCK], "ascii", "strict")
        except (tarfile.HeaderError, UnicodeError, ValueError):
            raise BundleRefused("not a bundle, or one that was cut off or changed: a file's header cannot be read") from None
        at += BLOCK
        if not 0 <= head.size <= len(data) - at:
            raise BundleRefused(f"{_shown(head.name)} is cut off")
        if head.name in members or len(members) == FILES_MAX:
            raise BundleRefused(f"{_shown(head.name)} is there twice, or one file too many")
        members[head.name] = data[at : at + head.size]
        at += head.size + -head.size % BLOCK
    try:
        whole = packed(members) + END
    except ValueError:  # a name that we would not write
        whole = b""
    if whole != data:
        raise BundleRefused("the bundle was cut off or changed: it is not the archive that its files would make")
    return members


def _shown(name: str) -> str:
    return ascii(name[:64])

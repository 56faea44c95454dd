"""Blobs: immutable bytes under their own SHA-256. This file: the port, and the adapter for a local directory.

A put that returned survives a power cut: the bytes are written beside their place, fsynced, linked in, and the directory is fsynced; so
does a deletion. A get never returns bytes that do not have the digest they are asked by.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from service.errors import Capacity, ChecksumMismatch, StorageFull
from service.settings import SettingsRefused

FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}
TENANT = re.compile(r"ten_[0-9A-Z]{26}")
DIGEST = re.compile(r"[0-9a-f]{64}")
ROUNDS = 3  # looks for what is left of a tenant


class Blobs(Protocol):
    """Where snapshots' bytes are kept."""

    async def put(self, tenant: str, data: bytes) -> str:
        """Keep the bytes durably; their digest. Bytes that are there already are a success."""

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes with this digest, or `ChecksumMismatch` naming it when they are damaged or missing."""

    async def delete(self, tenant: str, sha256: str) -> None:
        """Delete the bytes; what is gone already is a success."""

    async def list(self, tenant: str) -> list[str]:
        """The digests kept for the tenant."""

    async def drop_tenant(self, tenant: str) -> int:
        """Delete everything that is kept for the tenant, and look again; how much it was.

        Raises:
            Capacity: something goes on writing for the tenant; it has to be stopped first.
        """

    async def drop_half_written(self, older_than_s: float, tenant: str | None = None) -> int:
        """Delete what processes that died while they wrote (for the tenant) have left, if it is older than that; how much it was."""


class LocalBlobs:
    """Blobs in a directory: `root/tenant/aa/aabb…`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, tenant: str, data: bytes) -> str:
        """See `Blobs.put`. Raises `StorageFull` when the disk takes no more; nothing is left behind then."""
        return await asyncio.to_thread(self._put, tenant, data)

    async def get(self, tenant: str, sha256: str) -> bytes:
        """See `Blobs.get`."""
        return await asyncio.to_thread(self._get, tenant, sha256)

    async def delete(self, tenant: str, sha256: str) -> None:
        """See `Blobs.delete`."""
        await asyncio.to_thread(self._delete, self._path(tenant, sha256))

    async def list(self, tenant: str) -> list[str]:
        """See `Blobs.list`."""
        folder = self._path(tenant, "0" * 64).parent.parent
        names = await asyncio.to_thread(lambda: [path.name for path in folder.glob("??/*")])
        return sorted(name for name in names if DIGEST.fullmatch(name))

    async def drop_tenant(self, tenant: str) -> int:
        """See `Blobs.drop_tenant`."""
        return await asyncio.to_thread(self._drop, self._path(tenant, "0" * 64).parent.parent, tenant)

    async def drop_half_written(self, older_than_s: float, tenant: str | None = None) -> int:
        """See `Blobs.drop_half_written`."""
        return await asyncio.to_thread(self._drop_half_written, time.time() - older_than_s, tenant or "ten_*")

    def _drop_half_written(self, before: float, tenants: str) -> int:
        dropped = 0
        for path in self._root.glob(f"{tenants}/??/.*"):
            with contextlib.suppress(FileNotFoundError):  # whoever wrote it has just ended
                if path.stat().st_mtime <= before:
                    self._delete(path)
                    dropped += 1
        return dropped

    def _path(self, tenant: str, sha256: str) -> Path:
        return self._root / place(tenant, sha256)

    def _put(self, tenant: str, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(tenant, sha256)
        try:
            if not self._whole(tenant, sha256):  # a damaged one is written anew
                _make_folder(path.parent)
                self._write(path, data)
            for folder in path.parents[:3]:  # also for one that was there: who wrote it may not have come this far
                _sync_folder(folder)
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull() from error
            raise
        return sha256

    def _write(self, path: Path, data: bytes) -> None:
        beside = path.parent / f".{path.name[:16]}.{secrets.token_hex(8)}"
        try:
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _sync_folder(path.parent)  # or a power cut would bring back what was erased

    def _drop(self, folder: Path, tenant: str) -> int:
        dropped = 0
        for _ in range(ROUNDS):
            if not folder.is_dir():
                return dropped
            dropped += sum(path.is_file() for path in folder.rglob("*"))
            shutil.rmtree(folder, ignore_errors=True)  # what could not be removed is seen at the next look
            _sync_folder(self._root)
        raise still_written(tenant)

    def _whole(self, tenant: str, sha256: str) -> bool:
        try:
            self._get(tenant, sha256)
        except ChecksumMismatch:
            return False
        return True

    def _get(self, tenant: str, sha256: str) -> bytes:
        try:
            data = self._path(tenant, sha256).read_bytes()
        except FileNotFoundError:
            raise ChecksumMismatch(f"blob {sha256} is missing") from None
        return checked(data, sha256)


def place(tenant: str, sha256: str) -> str:
    """Where a blob is, relative to its store; places are made of ids and digests alone."""
    if not TENANT.fullmatch(tenant) or not DIGEST.fullmatch(sha256):
        raise ValueError(f"not a tenant id and a digest: {tenant!r}, {sha256!r}")
    return f"{tenant}/{sha256[:2]}/{sha256}"


def checked(data: bytes, sha256: str) -> bytes:
    """The bytes if they are those of the digest, else `ChecksumMismatch`."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ChecksumMismatch(f"blob {sha256} is damaged: its bytes have digest {found}")
    return data


def still_written(tenant: str) -> Capacity:
    """What `drop_tenant` raises when it finds something at each look."""
    return Capacity(f"something still writes blobs for tenant {tenant}; stop it and try again", retry_after_s=60)


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, so that none of the new names is lost in a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)  # weights tell what was taught
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_blobs(url: str) -> Blobs:
    """The blob store that a URL names: `file:///folder` or `s3://bucket/prefix`.

    Raises:
        SettingsRefused: it names neither, or the package for the second is not installed.
    """
    parts = urlsplit(url)
    if parts.query or parts.fragment or (parts.scheme, bool(parts.netloc)) not in (("file", False), ("s3", True)):
        raise SettingsRefused(f"PALIMPSEST_BLOBS must be a file:///folder or s3://bucket/prefix URL, not {url!r}")
    if parts.scheme == "file":
        return LocalBlobs(Path(unquote(parts.path)))
    try:
        from service.store.object_blobs import ObjectBlobs
    except ModuleNotFoundError as missing:
        if missing.name != "obstore":
            raise
        raise SettingsRefused("PALIMPSEST_BLOBS names a bucket, which needs the package obstore: pip install 'palimpsest[s3]'") from None
    return ObjectBlobs(parts.netloc, unquote(parts.path).strip("/"))

"""Blobs in a bucket of S3, or of a store that speaks its protocol.

Credentials, region and endpoint are those of the standard variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
`AWS_ENDPOINT_URL` and their like. Keys are `prefix/tenant/aa/aabb…`, as the files of a directory are named, so that one can be copied to
the other. What is deleted is gone only from a bucket that keeps no versions of its objects.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from service.errors import Capacity, ChecksumMismatch
from service.settings import SettingsRefused
from service.store.blobs import DIGEST, ROUNDS, checked, place, still_written

CONNECT, REQUEST = timedelta(seconds=3), timedelta(seconds=60)  # for a connection; for a whole request, of a large blob on a slow line
RETRIES, RETRY = 3, timedelta(seconds=10)  # how often what failed is tried again, and until when another try is begun
AGAIN_S = 5  # when a client may try again
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class ObjectBlobs:
    """Blobs in a bucket, below a prefix. Whatever goes wrong with the store is told as `Capacity`, after a few retries."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        try:
            self._store = S3Store(
                bucket,
                prefix=prefix or None,
                client_options={"connect_timeout": CONNECT, "timeout": REQUEST, "allow_http": _allow_http()},
                retry_config={"max_retries": RETRIES, "retry_timeout": RETRY},
            )
        except (BaseError, ValueError) as error:
            raise SettingsRefused(f"PALIMPSEST_BLOBS and the AWS_ variables do not name a store: {str(error).splitlines()[0]}") from None

    async def put(self, tenant: str, data: bytes) -> str:
        """See `Blobs.put`: the store has acknowledged the bytes, or has them already and they are whole."""
        sha256 = await asyncio.to_thread(_digest, data)
        with _told():
            try:
                await obstore.put_async(self._store, place(tenant, sha256), data, mode="create", use_multipart=False)
            except obstore.exceptions.AlreadyExistsError:
                if not await self._whole(tenant, sha256, len(data)):  # a damaged one is written anew
                    await obstore.put_async(self._store, place(tenant, sha256), data, mode="overwrite", use_multipart=False)
        return sha256

    async def get(self, tenant: str, sha256: str) -> bytes:
        """See `Blobs.get`."""
        with _told():
            try:
                found = await obstore.get_async(self._store, place(tenant, sha256))
                data = (await found.bytes_async()).to_bytes()
            except FileNotFoundError as error:
                if _no_bucket(error):
                    raise
                raise ChecksumMismatch(f"blob {sha256} is missing") from None
        return await asyncio.to_thread(checked, data, sha256)

    async def delete(self, tenant: str, sha256: str) -> None:
        """See `Blobs.delete`."""
        with _told():
            await self._delete([place(tenant, sha256)])

    async def list(self, tenant: str) -> list[str]:
        """See `Blobs.list`."""
        names = [path.rpartition("/")[2] for path in await self._paths(tenant)]
        return sorted(name for name in names if DIGEST.fullmatch(name))

    async def drop_tenant(self, tenant: str) -> int:
        """See `Blobs.drop_tenant`."""
        dropped = 0
        for _ in range(ROUNDS):
            paths = await self._paths(tenant)
            if not paths:
                return dropped
            with _told():
                await self._delete(paths)
            dropped += len(paths)
        raise still_written(tenant)

    async def drop_half_written(self, older_than_s: float, tenant: str | None = None) -> int:
        """See `Blobs.drop_half_written`: an object is there whole or not at all."""
        return 0

    async def _whole(self, tenant: str, sha256: str, size: int) -> bool:
        try:
            if (await obstore.head_async(self._store, place(tenant, sha256)))["size"] != size:
                return False
            await self.get(tenant, sha256)
        except (ChecksumMismatch, FileNotFoundError):
            return False
        return True

    async def _paths(self, tenant: str) -> Sequence[str]:
        folder = place(tenant, "0" * 64).split("/")[0]
        with _told():
            return [found["path"] async for batch in obstore.list(self._store, prefix=folder) for found in batch]

    async def _delete(self, paths: Sequence[str]) -> None:
        try:
            await obstore.delete_async(self._store, paths)
        except FileNotFoundError as error:  # some stores say so of a key that is gone
            if _no_bucket(error):
                raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _allow_http() -> bool:
    """Whether the environment names an endpoint without TLS, or says that one may be used."""
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    return endpoint.startswith("http://") or os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")


def _no_bucket(error: Exception) -> bool:
    return "NoSuchBucket" in str(error)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turns the store's errors into ours; the client's own have the endpoint and the keys' names in them."""
    try:
        yield
    except (BaseError, OSError) as error:
        why = "its bucket is not there" if _no_bucket(error) else type(error).__name__
        detail = f"the blob store cannot be reached ({why}); see that it runs and that the AWS_ variables are those of its bucket"
        raise Capacity(detail, retry_after_s=AGAIN_S) from error

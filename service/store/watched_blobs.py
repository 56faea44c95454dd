"""Blobs whose puts and gets are stages: measured, and spans of the trace that they belong to."""

from service.store.blobs import Blobs
from service.tracing import Stage


class WatchedBlobs:
    """`service.store.blobs.Blobs` around another one."""

    def __init__(self, blobs: Blobs, stage: Stage) -> None:
        self._blobs, self._stage = blobs, stage

    async def put(self, tenant: str, data: bytes) -> str:
        """See `Blobs.put`."""
        with self._stage("blob_put", "client", {"palimpsest.bytes": len(data)}):
            return await self._blobs.put(tenant, data)

    async def get(self, tenant: str, sha256: str) -> bytes:
        """See `Blobs.get`."""
        with self._stage("blob_get", "client"):
            return await self._blobs.get(tenant, sha256)

    async def delete(self, tenant: str, sha256: str) -> None:
        """See `Blobs.delete`."""
        with self._stage("blob_delete", "client"):
            await self._blobs.delete(tenant, sha256)

    async def list(self, tenant: str) -> list[str]:
        """See `Blobs.list`."""
        return await self._blobs.list(tenant)

    async def drop_tenant(self, tenant: str) -> int:
        """See `Blobs.drop_tenant`."""
        return await self._blobs.drop_tenant(tenant)

    async def drop_half_written(self, older_than_s: float, tenant: str | None = None) -> int:
        """See `Blobs.drop_half_written`."""
        return await self._blobs.drop_half_written(older_than_s, tenant)

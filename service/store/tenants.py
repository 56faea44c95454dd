"""Tenants and their keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, NotFound
from service.ids import new_id
from service.store.db import Database
from service.store.rows import KeyRow
from service.store.tables import api_key, trail
from service.store.tables import tenant as tenants


async def ensure_tenant(database: Database, name: str, now: datetime) -> str:
    """The id of the tenant of this name, which is made if there is none."""
    async with database.sweep() as conn:
        found = await find_tenant(conn, name)
    if found is not None:
        return found
    tenant_id = new_id("ten")
    try:
        async with database.write(tenant_id) as conn:
            await create_tenant(conn, tenant_id, name, now)
    except Conflict:  # another process was quicker
        return await ensure_tenant(database, name, now)
    return tenant_id


async def create_tenant(conn: AsyncConnection, tenant: str, name: str, now: datetime) -> None:
    """A new tenant under an id made by `new_id("ten")`; the transaction is its own.

    Raises:
        Conflict: there is a tenant of this name.
    """
    try:
        async with conn.begin_nested():
            await conn.execute(insert(tenants).values(id=tenant, name=name, created_at=now))
            await conn.execute(insert(trail).values(tenant=tenant, audit_seq=0, audit_hash="", changes=0))
    except IntegrityError:
        raise Conflict(f"there is a tenant named {name!r} already") from None


async def find_tenant(conn: AsyncConnection, name: str) -> str | None:
    """The id of the tenant of this name; the transaction is a sweep, since nobody knows yet whose it is."""
    found: str | None = (await conn.execute(select(tenants.c.id).where(tenants.c.name == name))).scalar()
    return found


async def all_ids(conn: AsyncConnection) -> list[str]:
    """The ids of all tenants; the transaction is a sweep."""
    return list((await conn.execute(select(tenants.c.id).order_by(tenants.c.id))).scalars())


async def add_key(
    conn: AsyncConnection,
    tenant: str,
    *,
    id: str,
    name: str,
    prefix: str,
    lookup_hash: bytes,
    scopes: Sequence[str],
    banks: Sequence[str] | None,
    expires_at: datetime | None,
    now: datetime,
    rate: float | None = None,
) -> KeyRow:
    """Keep a key's hash and rights; the secret is never stored."""
    values = {
        "tenant": tenant,
        "id": id,
        "name": name,
        "prefix": prefix,
        "lookup_hash": lookup_hash,
        "scopes": list(scopes),
        "banks": None if banks is None else list(banks),
        "created_at": now,
        "expires_at": expires_at,
        "rate": rate,
    }
    await conn.execute(insert(api_key).values(values))
    return await get_key(conn, tenant, id)


async def find_key(conn: AsyncConnection, lookup_hash: bytes) -> KeyRow | None:
    """The key with this hash, whatever its state: the caller checks expiry and revocation."""
    row = (await conn.execute(select(api_key).where(api_key.c.lookup_hash == lookup_hash))).first()
    return None if row is None else _key(row)


async def get_key(conn: AsyncConnection, tenant: str, key_id: str) -> KeyRow:
    """One of the tenant's keys, or `NotFound`."""
    row = (await conn.execute(select(api_key).where(api_key.c.tenant == tenant, api_key.c.id == key_id))).first()
    if row is None:
        raise NotFound(f"no key {key_id}")
    return _key(row)


async def list_keys(conn: AsyncConnection, tenant: str, after: str | None, limit: int) -> list[KeyRow]:
    """A page of the tenant's keys by id."""
    query = select(api_key).where(api_key.c.tenant == tenant, api_key.c.id > (after or "")).order_by(api_key.c.id).limit(limit)
    return [_key(row) for row in await conn.execute(query)]


async def revoke_key(conn: AsyncConnection, tenant: str, key_id: str, now: datetime) -> KeyRow:
    """Revoke a key for good; a revoked one keeps its first time. `NotFound` for a foreign one."""
    mine = (api_key.c.tenant == tenant) & (api_key.c.id == key_id)
    await conn.execute(update(api_key).where(mine, api_key.c.revoked_at.is_(None)).values(revoked_at=now))
    return await get_key(conn, tenant, key_id)


async def expire_key(conn: AsyncConnection, tenant: str, key_id: str, at: datetime) -> KeyRow:
    """Let a key end at `at`, unless it ends before. `NotFound` for a foreign one."""
    mine = (api_key.c.tenant == tenant) & (api_key.c.id == key_id)
    later = api_key.c.expires_at.is_(None) | (api_key.c.expires_at > at)
    await conn.execute(update(api_key).where(mine, later).values(expires_at=at))
    return await get_key(conn, tenant, key_id)


async def touch_key(conn: AsyncConnection, tenant: str, key_id: str, now: datetime) -> None:
    """Note when a key was last used."""
    await conn.execute(update(api_key).where(api_key.c.tenant == tenant, api_key.c.id == key_id).values(last_used_at=now))


async def any_key(conn: AsyncConnection, tenant: str) -> bool:
    """Whether any key of the tenant was ever made."""
    return (await conn.execute(select(api_key.c.id).where(api_key.c.tenant == tenant).limit(1))).first() is not None


def _key(row: Row[Any]) -> KeyRow:
    fields = row._mapping
    return KeyRow(
        id=fields["id"],
        tenant=fields["tenant"],
        name=fields["name"],
        prefix=fields["prefix"],
        scopes=tuple(fields["scopes"]),
        banks=None if fields["banks"] is None else tuple(fields["banks"]),
        created_at=fields["created_at"],
        expires_at=fields["expires_at"],
        revoked_at=fields["revoked_at"],
        last_used_at=fields["last_used_at"],
        rate=fields["rate"],
    )

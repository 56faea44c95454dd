"""Sign-ins to the console: a cookie's hash, the key that it stands for, and until when."""

from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.store.failures import refers_to_nothing
from service.store.rows import SignInRow
from service.store.tables import sign_in


async def add_sign_in(
    conn: AsyncConnection, tenant: str, *, id: str, key: str, lookup_hash: bytes, now: datetime, expires_at: datetime
) -> None:
    """Keep a sign-in; those of the tenant that have expired go with it, so that nobody has to sweep them.

    Raises:
        NotFound: the tenant has no such key (any more).
    """
    await conn.execute(delete(sign_in).where(sign_in.c.tenant == tenant, sign_in.c.expires_at <= now))
    values = {"id": id, "key": key, "lookup_hash": lookup_hash, "created_at": now, "expires_at": expires_at}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(sign_in).values(tenant=tenant, **values))
    except IntegrityError as error:
        if not refers_to_nothing(error):
            raise
        raise NotFound(f"no key {key}") from None


async def find_sign_in(conn: AsyncConnection, lookup_hash: bytes) -> SignInRow | None:
    """The sign-in with this hash, expired or not; the transaction is one that reads by a hash."""
    columns = sign_in.c.id, sign_in.c.tenant, sign_in.c.key, sign_in.c.expires_at
    row = (await conn.execute(select(*columns).where(sign_in.c.lookup_hash == lookup_hash))).first()
    return None if row is None else SignInRow(**row._mapping)


async def end_sign_in(conn: AsyncConnection, tenant: str, sign_in_id: str) -> bool:
    """Sign out; False if it was over already."""
    ended = await conn.execute(delete(sign_in).where(sign_in.c.tenant == tenant, sign_in.c.id == sign_in_id))
    return bool(ended.rowcount)

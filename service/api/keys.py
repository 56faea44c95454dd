"""API keys: mint, list, rotate, revoke, and who am I. Every change is in the audit; a secret is shown once and never stored."""

from datetime import UTC, datetime, timedelta

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from service import keys, wire
from service.api import replies
from service.api.auth import Principal, needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.deps import Connection
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, LIMIT_MAX, Cursor, Limit, Pager
from service.api.texts import known_form
from service.errors import Conflict, Forbidden, Invalid
from service.ids import new_id
from service.store import banks, tenants
from service.store.rows import KeyRow

TAGS = ["keys"]


@post(
    "/v1/keys",
    operation_id="mint_key",
    summary="Mint a key; its secret is shown once",
    tags=TAGS,
    opt=needs("admin"),
    dto=Strict[wire.NewKey],
    status_code=201,
)
async def mint_key(caller: NamedDependency[Caller], data: JSONBody[wire.NewKey]) -> Response[wire.MintedKey]:
    """`key` is null when the reply is repeated for an Idempotency-Key: the secret is nowhere to be repeated from."""
    caller.refuse_pinned("mint keys")
    _refuse_wider(caller.principal, data)
    if data.expires_at is not None and (message := _unusable(data.expires_at, caller.deps.now())):
        raise Invalid(f"expires_at {message}", errors=[{"field": "expires_at", "message": message}])

    async def work(_: str | None) -> wire.MintedKey:
        return await _mint(caller, data)

    return await once(caller, work, status=201, stored=lambda minted: msgspec.structs.replace(minted, key=None))


@get("/v1/keys", operation_id="list_keys", summary="Keys without their secrets", tags=TAGS, opt=needs("admin"))
async def list_keys(caller: NamedDependency[Caller], limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None) -> Response[wire.Page[wire.Key]]:
    """Revoked and expired ones too."""
    caller.refuse_pinned("list keys")
    pager = Pager("keys", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda after, number: tenants.list_keys(conn, caller.tenant, after, number), _id, _shown)
    return replies.send(page)


@delete("/v1/keys/{key_id:str}", operation_id="revoke_key", summary="Revoke a key, now", tags=TAGS, opt=needs("admin"), status_code=200)
async def revoke_key(caller: NamedDependency[Caller], key_id: FromPath[str]) -> Response[wire.Key]:
    """Refused for the last admin key of the tenant: nobody could mint another."""
    caller.refuse_pinned("revoke keys")
    now = caller.deps.now()
    async with caller.deps.database.write(caller.tenant) as conn:
        row = await tenants.get_key(conn, caller.tenant, known_form(key_id))
        if row.revoked_at is None:
            if _is_usable_admin(row, now) and not await _another_admin(conn, caller, row.id):
                raise Conflict("this is the last usable admin key; mint another one first")
            row = await tenants.revoke_key(conn, caller.tenant, row.id, now)
            await caller.note(conn, "key.revoke", row.id, {"name": row.name})
    caller.keyring.forget(row.id)
    return replies.send(_shown(row))


@post(
    "/v1/keys/{key_id:str}/rotate",
    operation_id="rotate_key",
    summary="Give a key a successor; its secret is shown once",
    tags=TAGS,
    opt=needs("admin"),
    dto=Strict[wire.RotateKey],
    status_code=201,
)
async def rotate_key(caller: NamedDependency[Caller], key_id: FromPath[str], data: JSONBody[wire.RotateKey]) -> Response[wire.RotatedKey]:
    """The successor has the same name, scopes, banks, rate and end. Both work for `overlap_s` seconds, then the old one has ended."""
    caller.refuse_pinned("rotate keys")

    async def work(_: str | None) -> wire.RotatedKey:
        return await _rotate(caller, known_form(key_id), data.overlap_s)

    return await once(caller, work, status=201, stored=lambda made: msgspec.structs.replace(made, key=None))


@get("/v1/whoami", operation_id="whoami", summary="The tenant and the rights of this key", tags=TAGS)
async def whoami(caller: NamedDependency[Caller]) -> Response[wire.WhoAmI]:
    """Any key may ask."""
    return replies.send(whoami_of(caller.principal))


def whoami_of(principal: Principal) -> wire.WhoAmI:
    """The principal as it is told to itself."""
    return wire.WhoAmI(
        tenant=principal.tenant,
        key_id=principal.key_id,
        scopes=sorted(principal.scopes),
        banks=None if principal.banks is None else sorted(principal.banks),
    )


async def _mint(caller: Caller, data: wire.NewKey) -> wire.MintedKey:
    minted, now = keys.mint(), caller.deps.now()
    async with caller.deps.database.write(caller.tenant) as conn:
        pinned = None
        if data.banks is not None:
            pinned = tuple(dict.fromkeys([(await banks.find_bank(conn, caller.tenant, name)).id for name in data.banks]))
        row = await tenants.add_key(
            conn,
            caller.tenant,
            id=new_id("key"),
            name=data.name,
            prefix=minted.prefix,
            lookup_hash=keys.lookup_hash(caller.deps.pepper, minted.key),
            scopes=tuple(dict.fromkeys(data.scopes)),
            banks=pinned,
            expires_at=data.expires_at,
            now=now,
            rate=data.rate,
        )
        await caller.note(conn, "key.mint", row.id, {"name": row.name, "scopes": list(row.scopes), "banks": data.banks})
    return wire.MintedKey(
        id=row.id,
        key=minted.key,
        prefix=row.prefix,
        scopes=list(row.scopes),
        banks=None if row.banks is None else list(row.banks),
        expires_at=row.expires_at,
        rate=row.rate,
    )


async def _rotate(caller: Caller, key_id: str, overlap_s: int) -> wire.RotatedKey:
    minted, now = keys.mint(), caller.deps.now()
    async with caller.deps.database.write(caller.tenant) as conn:
        old = await tenants.get_key(conn, caller.tenant, key_id)
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise Conflict("this key has ended; mint a new one instead")
        row = await tenants.add_key(
            conn,
            caller.tenant,
            id=new_id("key"),
            name=old.name,
            prefix=minted.prefix,
            lookup_hash=keys.lookup_hash(caller.deps.pepper, minted.key),
            scopes=old.scopes,
            banks=old.banks,
            expires_at=old.expires_at,
            now=now,
            rate=old.rate,
        )
        ending = await tenants.expire_key(conn, caller.tenant, old.id, now + timedelta(seconds=overlap_s))
        until = ending.expires_at or now
        change = {"before": {"expires_at": _told(old.expires_at)}, "after": {"expires_at": _told(until)}, "successor": row.id}
        await caller.note(conn, "key.rotate", old.id, change)
    caller.keyring.forget(old.id)
    return wire.RotatedKey(
        id=row.id,
        key=minted.key,
        prefix=row.prefix,
        scopes=list(row.scopes),
        banks=None if row.banks is None else list(row.banks),
        rate=row.rate,
        expires_at=row.expires_at,
        replaces=old.id,
        replaced_until=until,
    )


def _told(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _unusable(expires_at: datetime, now: datetime) -> str:
    if expires_at <= now:
        return "is in the past"
    try:
        expires_at.astimezone(UTC)
    except OverflowError:  # the last hours of the year 9999, in a zone that is behind
        return "is after the year 9999 in UTC"
    return ""


def _refuse_wider(principal: Principal, data: wire.NewKey) -> None:
    if not all(principal.allows(scope) for scope in data.scopes):
        raise Forbidden("a key cannot mint one with more rights than its own")


async def _another_admin(conn: Connection, caller: Caller, but: str) -> bool:
    now, after = caller.deps.now(), None
    while rows := await tenants.list_keys(conn, caller.tenant, after, LIMIT_MAX):
        if any(row.id != but and _is_usable_admin(row, now) for row in rows):
            return True
        after = rows[-1].id
    return False


def _is_usable_admin(row: KeyRow, now: datetime) -> bool:
    """Whether the key can mint others, now and for as long as it is not revoked."""
    return "admin" in row.scopes and row.banks is None and row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


def _id(row: KeyRow) -> str:
    return row.id


def _shown(row: KeyRow) -> wire.Key:
    return wire.Key(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=list(row.scopes),
        banks=None if row.banks is None else list(row.banks),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        rate=row.rate,
    )

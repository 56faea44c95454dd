"""A tenant for a test, and what every refusal looks like."""

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import httpx
from fixtures_service import client_of

from service import keys
from service.api.app import Deps, build_app
from service.api.docs_page import error_codes
from service.cluster.coord import MemoryCoord
from service.cluster.engine import Actor
from service.embedded import Embedded
from service.ids import new_id
from service.store import tenants
from service.telemetry import Metrics

JSON = {"content-type": "application/json"}
SCOPES = ("recall:read", "corrections:write", "memory:inspect", "snapshots:read", "snapshots:write", "rollback", "forget", "erase", "admin")
CODES = error_codes()
CHAT = ("/v1/chat/completions", "/v1/models")
BESIDE = {
    "last_used_at",
    "said_before",
    "surprise",
    "position",
    "changes",
}  # of a key, and of the feed: noted beside the request, as are deliveries
FIELDS = ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"]


class Tenant:
    """A tenant of a running service with an empty bank `default`; `client` has an admin key."""

    client: httpx.AsyncClient

    def __init__(self, service: Embedded, id: str, stack: contextlib.AsyncExitStack) -> None:
        self.service, self.id, self._stack = service, id, stack

    async def key(self, *scopes: str, **more) -> str:
        """A key made in the database itself, so that it may be expired or foreign."""
        minted = keys.mint()
        rights = {"name": "test", "banks": None, "expires_at": None, "now": datetime.now(UTC), **more}
        digest = keys.lookup_hash(keys.load_pepper(self.service.settings), minted.key)
        async with self.service.database.write(self.id) as conn:
            await tenants.add_key(conn, self.id, id=new_id("key"), prefix=minted.prefix, lookup_hash=digest, scopes=scopes, **rights)
        return minted.key

    async def client_with(self, *scopes: str, **more) -> httpx.AsyncClient:
        """A client with a key of its own."""
        return await self._stack.enter_async_context(client_of(self.service, await self.key(*scopes, **more)))


@contextlib.asynccontextmanager
async def renting(service: Embedded) -> AsyncIterator[Tenant]:
    """A new tenant of the service."""
    async with contextlib.AsyncExitStack() as stack:
        id = await tenants.ensure_tenant(service.database, f"tenant {uuid4().hex}", datetime.now(UTC))
        await service.engine.create_bank(id, "default", actor=Actor(key_id="test", request_id="test"))
        tenant = Tenant(service, id, stack)
        tenant.client = await tenant.client_with("admin")
        yield tenant


def refused(response: httpx.Response, status: int, code: str, field: str | None = None) -> dict:
    """Fail unless it is this problem, in full form; the body."""
    assert response.status_code == status, response.text
    if response.request.url.path in CHAT:
        return refused_as_openai_does(response, code, field)
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert list(said) == FIELDS
    assert (said["code"], said["status"], said["type"]) == (code, status, f"/docs#{code}")
    assert CODES[code][0] == status
    assert said["detail"]
    assert said["title"]
    assert said["request_id"] == response.headers["x-request-id"]
    assert said["instance"] == response.request.url.path
    assert all(set(fault) == {"field", "message"} and fault["message"] for fault in said["errors"])
    if field is not None:
        assert said["errors"][0]["field"] == field, said
        assert said["detail"].startswith(field)
    return said


def refused_as_openai_does(response: httpx.Response, code: str, field: str | None = None) -> dict:
    """Fail unless it is this error in the form of OpenAI's API; what it says, with a problem's `detail`."""
    assert response.headers["content-type"] == "application/json"
    said = response.json()
    assert list(said) == ["error"]
    error = said["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == code
    assert error["message"]
    assert error["type"]
    assert field is None or error["param"] == field
    return {**error, "detail": error["message"]}


def kept(tenant: Tenant) -> dict:
    """Every row of the service's database, of all its tenants, and the digests of its warm weights: what no refused request may change."""
    path = tenant.service.settings.var_dir / "palimpsest.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        rows = {table: database.execute(f"SELECT {_columns(database, table)} FROM {table}").fetchall() for table in tables}
        banks = [bank for (bank,) in database.execute("SELECT id FROM bank")]
    warm = {bank: found.view.state.digest() for bank in banks if (found := tenant.service.engine.banks.peek(bank))}
    return {"rows": rows, "warm": warm}


def changed(before: dict, after: dict) -> dict:
    """What is only in one of two answers of `kept`, by table or bank."""
    rows = {table: {*map(str, after["rows"][table])} ^ {*map(str, kept)} for table, kept in before["rows"].items()}
    return {name: differs for name, differs in rows.items() if differs} | dict({*after["warm"].items()} ^ {*before["warm"].items()})


def _columns(database: sqlite3.Connection, table: str) -> str:
    names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    return ", ".join(name for name in names if name not in BESIDE and (table != "delivery" or name in ("tenant", "id", "webhook")))


def deps_of(service: Embedded, **changes) -> Deps:
    """What the service's api was made from, with parts of it changed: for another application over the same database."""
    parts = {
        "settings": service.settings,
        "database": service.database,
        "engine": service.engine,
        "pepper": keys.load_pepper(service.settings),
        "coord": MemoryCoord(time.monotonic),
        "metrics": Metrics(),
        "ring": lambda job_id: None,
        "now": lambda: datetime.now(UTC),
        "ready": lambda: True,
    }
    return Deps(**{**parts, **changes})


@contextlib.asynccontextmanager
async def client_over(deps: Deps, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another application over these parts."""
    transport = httpx.ASGITransport(build_app(deps), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://palimpsest", headers={"Authorization": f"Bearer {key}"}) as client:
        yield client

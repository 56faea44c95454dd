"""Coordination through Redis, for several processes: `service.cluster.coord.Coord` on a server of version 6.2 or later.

Every step that looks and then changes is one Lua script, so that processes cannot come in between. Times are the server's. Keys of one
call share a hash tag, so that a Redis Cluster finds them in one place. An emptied server needs nothing: scripts are sent again when it
does not know them, and the next beats and claims bring back what it had.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from service.cluster.coord import CoordDown, Notice, WorkerInfo, check_allowance
from service.settings import SettingsRefused

T = TypeVar("T")

SCRIPTS = Path(__file__).parent / "scripts"
TIMEOUT_S = 0.5  # for whatever is asked, from its turn on, connecting included
TURN_S = 2.0  # for a turn: whoever has to wait longer goes without, as if nobody answered
POOL = 16  # connections for what is asked; whoever finds none free waits for a turn
SCANNED = 1_000  # keys looked through in one call
LISTENERS = 8  # connections for listeners, apart: they are never given back
QUIET_S = 1.0  # a listener that heard nothing for so long asks whether anybody is there
AGAIN_S = (0.05, 1.0)  # between two attempts of a listener to connect: at first, at last
SILENT = (TimeoutError, OSError, exceptions.TimeoutError, exceptions.ConnectionError)  # nobody answered


class RedisCoord:
    """See `service.cluster.coord.Coord`. `prefix` keeps several services on one server apart."""

    def __init__(self, url: str, prefix: str = "palimpsest") -> None:
        self._prefix = prefix
        self._asked, self._heard = _client(url, POOL), _client(url, LISTENERS)
        self._workers = (f"{prefix}:{{workers}}:infos", f"{prefix}:{{workers}}:ends")
        self._channel = f"{prefix}:notices"
        self._turns = asyncio.Semaphore(POOL)
        self._unanswered = 0  # calls so far
        self._beaten: set[str] = set()
        self._closed = False

    async def beat(self, worker: WorkerInfo, ttl_s: float) -> bool:
        """See `Coord.beat`."""
        known = await self._run("beat", self._workers, worker.id, msgspec.json.encode(worker), _ms(ttl_s))
        first = worker.id not in self._beaten
        self._beaten.add(worker.id)
        return bool(known) or first

    async def leave(self, worker_id: str) -> None:
        """See `Coord.leave`."""
        await self._run("leave", self._workers, worker_id)
        self._beaten.discard(worker_id)

    async def workers(self) -> list[WorkerInfo]:
        """See `Coord.workers`."""
        said = await self._run("workers", self._workers)
        return sorted((msgspec.json.decode(info, type=WorkerInfo) for info in said), key=lambda worker: worker.id)

    async def claim_route(self, bank_id: str, worker_id: str, ttl_s: float) -> str:
        """See `Coord.claim_route`."""
        return _text(await self._run("claim", (self._route(bank_id),), worker_id, _ms(ttl_s)))

    async def move_route(self, bank_id: str, worker_id: str, ttl_s: float, *, expected: str | None) -> bool:
        """See `Coord.move_route`."""
        return bool(await self._run("move", (self._route(bank_id),), worker_id, _ms(ttl_s), expected or ""))

    async def route(self, bank_id: str) -> str | None:
        """See `Coord.route`."""
        holder = await self._ask(self._asked.get, self._route(bank_id))
        return None if holder is None else _text(holder)

    async def remember_session(self, tenant: str, session: str, bank_id: str, ttl_s: float) -> None:
        """See `Coord.remember_session`."""
        await self._ask(self._asked.set, self._session(tenant, session), bank_id, px=_ms(ttl_s))

    async def session_bank(self, tenant: str, session: str) -> str | None:
        """See `Coord.session_bank`."""
        bank_id = await self._ask(self._asked.get, self._session(tenant, session))
        return None if bank_id is None else _text(bank_id)

    async def forget_sessions(self, tenant: str) -> None:
        """See `Coord.forget_sessions`. Looks through all keys, a page at a time."""
        cursor = 0
        while True:
            cursor, keys = await self._ask(self._asked.scan, cursor, match=self._session(tenant, "*"), count=SCANNED)
            if keys:
                await self._ask(self._asked.unlink, *keys)
            if not cursor:
                return

    async def tell(self, notice: Notice) -> None:
        """See `Coord.tell`."""
        await self._ask(self._asked.publish, self._channel, msgspec.json.encode(notice))

    async def listen(self) -> AsyncGenerator[Notice, None]:
        """See `Coord.listen`."""
        wait, longest = AGAIN_S
        while not self._closed:
            with contextlib.suppress(exceptions.RedisError, OSError, TimeoutError):
                async with contextlib.aclosing(self._connected()) as notices:
                    async for notice in notices:
                        wait = AGAIN_S[0]
                        yield notice
            if not self._closed:
                await asyncio.sleep(wait)
                wait = min(2 * wait, longest)

    async def take(self, name: str, *, rate: float, burst: int, cost: int = 1) -> float:
        """See `Coord.take`."""
        check_allowance(rate, burst, cost)
        return float(await self._run("take", (f"{self._prefix}:{{{name}}}:allowance",), repr(float(rate)), burst, cost))

    async def ping(self) -> None:
        """See `Coord.ping`."""
        await self._ask(self._asked.ping)

    async def close(self) -> None:
        """See `Coord.close`."""
        self._closed = True
        for client in (self._asked, self._heard):
            with contextlib.suppress(exceptions.RedisError, OSError):
                await client.aclose()
                await client.connection_pool.aclose()

    async def _connected(self) -> AsyncGenerator[Notice, None]:
        """Notices over one connection, until it breaks (raises). The server confirms each subscription: from there on nothing is missed."""
        async with self._heard.pubsub() as subscription:
            async with asyncio.timeout(TIMEOUT_S):
                await subscription.subscribe(self._channel)
            asked = False
            while not self._closed:
                message = await subscription.get_message(timeout=QUIET_S)
                if message is None and asked:
                    raise exceptions.TimeoutError
                if message is None:
                    async with asyncio.timeout(TIMEOUT_S):
                        await subscription.ping()
                asked = message is None
                match message:
                    case {"type": "subscribe"}:
                        yield Notice("missed")
                    case {"type": "message", "data": data}:
                        yield _notice(data)

    async def _run(self, script: str, keys: tuple[str, ...], *arguments: str | bytes | int) -> Any:  # noqa: ANN401 (as the script gives it)
        source, digest = _SCRIPTS[script]
        try:
            return await self._ask(self._asked.evalsha, digest, len(keys), *keys, *arguments)
        except _NotKnown:  # a new or emptied server: this sends the script and runs it in one step
            return await self._ask(self._asked.eval, source, len(keys), *keys, *arguments)

    async def _ask(self, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (the library's types are of both its forms, with and without await)
        """Send one command. Waiting for a turn is not counted as the server's time: many callers at once are no sign that it is down.
        Whoever waits while a call before goes unanswered is told at once, instead of one after the other."""
        unanswered = self._unanswered
        async with self._turn():
            if unanswered != self._unanswered:
                raise CoordDown("Redis: it did not answer the call before this one")
            try:
                with _translated():
                    async with asyncio.timeout(TIMEOUT_S):
                        return await cast(Awaitable[Any], command(*arguments, **options))
            except CoordDown as error:
                if isinstance(error.__cause__, SILENT):  # a server that refuses one command answers the others
                    self._unanswered += 1
                raise

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        with _translated():
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

    def _route(self, bank_id: str) -> str:
        return f"{self._prefix}:{{{bank_id}}}:route"

    def _session(self, tenant: str, session: str) -> str:
        return f"{self._prefix}:{{{tenant}}}:session:{session}"


async def refuse_redis_cluster(url: str) -> None:
    """Refuse a Redis Cluster as Celery's broker, at start instead of at the first message: its keys would lie in several places.

    A server that cannot be reached now is not refused: Celery tries again by itself.

    Raises:
        SettingsRefused: the URL is that of a Redis Cluster.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        return
    client = _client(url, 1)
    try:
        with contextlib.suppress(CoordDown), _translated():
            async with asyncio.timeout(TIMEOUT_S):
                about = await client.info("cluster")
            if about.get("cluster_enabled"):
                raise SettingsRefused("PALIMPSEST_BROKER is a Redis Cluster, which cannot carry Celery's messages; use a single server")
    finally:
        await client.aclose()
        await client.connection_pool.aclose()


class _NotKnown(Exception):
    """The server does not have the script."""


def _client(url: str, connections: int) -> Redis:
    # The one place that says how we talk: shapes of replies differ by protocol and by `legacy_responses`, and the defaults of both have
    # changed between versions of the library. No retries: who asks is told at once, and a listener must notice that it was cut off.
    # No timeout of its own for what is sent: it waits with asyncio.wait_for, which loses cancellations on Python 3.11, and tasks that call
    # us could not be ended. Our own timeouts are around everything.
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=TIMEOUT_S,
        protocol=3,
        legacy_responses=False,
        decode_responses=False,
        socket_timeout=None,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),  # the cloud service's; ours may be of version 6.2
    )
    return Redis(connection_pool=pool)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exceptions.NoScriptError:
        raise _NotKnown from None
    except (exceptions.RedisError, OSError, TimeoutError) as error:  # also one that is loading, full, or a replica
        raise CoordDown(f"Redis: {type(error).__name__}") from error


def _ms(ttl_s: float) -> int:
    return max(1, round(1_000 * ttl_s))


def _text(said: bytes) -> str:
    return said.decode()


def _notice(data: bytes) -> Notice:
    try:
        return msgspec.json.decode(data, type=Notice)
    except msgspec.DecodeError:  # a kind that a newer process knows: whatever it is about, look everything up
        return Notice("missed")


def _script(path: Path) -> tuple[str, str]:
    source = path.read_text()
    return source, hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 (Redis' own name for it)


_SCRIPTS = {path.stem: _script(path) for path in SCRIPTS.glob("*.lua")}

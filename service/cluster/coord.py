"""The coordination port: who is alive, who has which bank warm, what has changed, and how often someone may ask. And its form in memory.

- C1: nothing here decides whether an answer is right; the database does. All of it may be lost at any moment, which costs warmth.
- C2: everything has an end: an entry that nobody renews is gone after its `ttl_s`.
- C3: a listener that may not have heard everything is told so (`missed`), and looks everything up again.

`MemoryCoord` serves a process that is alone, `service.cluster.redis_coord.RedisCoord` several. One suite of tests holds both to this.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Literal, Protocol, TypeVar

from msgspec import Struct

T = TypeVar("T")

BACKLOG = 1_000  # notices that wait for a slow listener; then it has missed some
ROUNDING_S = 1e-6  # a wait so short is an error of arithmetic, and admitted
PRUNED = 1_024  # writes between two looks for entries that have ended


class CoordDown(Exception):
    """The coordinator could not be reached in time, or cannot do its work; go on without it, and ask again in a second."""


class WorkerInfo(Struct, frozen=True):
    """A worker as others need to know it: where it listens and how much it can and does carry."""

    id: str  # of this run of the process: one that starts again at the same address is another worker
    address: str  # unix:///path or tcp://host:port
    capacity: float = 1.0  # its share of the banks, relative to the others'
    in_flight: int = 0  # calls it was answering when it said so
    warm: int = 0  # banks in its memory
    version: str = ""
    started_at: float = 0.0  # seconds since the epoch


class Notice(Struct, frozen=True):
    """Something has changed. `missed` is never told: a listener gets it first of all, and whenever it may have lost some."""

    kind: Literal["head-moved", "bank-gone", "tenant-erased", "workers-changed", "missed"]
    tenant: str = ""
    bank: str = ""


class Coord(Protocol):
    """Hints shared by the processes of a service. Every method but `listen` raises `CoordDown` within half a second of its turn, for
    which it waits two seconds at most where very many ask at once."""

    async def beat(self, worker: WorkerInfo, ttl_s: float) -> bool:
        """The worker is alive for `ttl_s` more seconds. False when its entry was lost since its last beat: others thought it dead."""

    async def leave(self, worker_id: str) -> None:
        """The worker takes no more calls."""

    async def workers(self) -> list[WorkerInfo]:
        """The live workers, by id."""

    async def claim_route(self, bank_id: str, worker_id: str, ttl_s: float) -> str:
        """Who has the bank: this worker if nobody else does, for `ttl_s` from now; else the one who does, unchanged."""

    async def move_route(self, bank_id: str, worker_id: str, ttl_s: float, *, expected: str | None) -> bool:
        """Give the bank to a worker if `expected` has it now (None: if nobody has); whether that was so."""

    async def route(self, bank_id: str) -> str | None:
        """The worker that has the bank."""

    async def remember_session(self, tenant: str, session: str, bank_id: str, ttl_s: float) -> None:
        """The session talks to the bank."""

    async def session_bank(self, tenant: str, session: str) -> str | None:
        """The bank that the session talks to."""

    async def forget_sessions(self, tenant: str) -> None:
        """None of the tenant's sessions is remembered any more."""

    async def tell(self, notice: Notice) -> None:
        """Tell all listeners, of this process too."""

    def listen(self) -> AsyncGenerator[Notice, None]:
        """What is told from now on. The first is `missed`, and one comes after every interruption; it outlasts those and never raises."""

    async def take(self, name: str, *, rate: float, burst: int, cost: int = 1) -> float:
        """Take `cost` from an allowance that holds `burst` and grows by `rate` a second: 0.0, or the seconds to wait and nothing taken.

        Raises:
            ValueError: `rate` is not above 0, or `cost` is above `burst` and would never be admitted.
        """

    async def ping(self) -> None:
        """Reach the coordinator."""

    async def close(self) -> None:
        """Give up connections; listeners end."""


class MemoryCoord:
    """`Coord` inside one process. `now` gives seconds that never go back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._workers: _Ending[WorkerInfo] = _Ending(now)
        self._routes: _Ending[str] = _Ending(now)
        self._sessions: _Ending[str] = _Ending(now)
        self._full_at: _Ending[float] = _Ending(now)  # when an allowance will be whole again
        self._beaten: set[str] = set()
        self._listeners: set[_Listener] = set()

    async def beat(self, worker: WorkerInfo, ttl_s: float) -> bool:
        """See `Coord.beat`."""
        known, first = self._workers.get(worker.id) is not None, worker.id not in self._beaten
        self._workers.put(worker.id, worker, ttl_s)
        self._beaten.add(worker.id)
        return known or first

    async def leave(self, worker_id: str) -> None:
        """See `Coord.leave`."""
        self._workers.drop(worker_id)
        self._beaten.discard(worker_id)

    async def workers(self) -> list[WorkerInfo]:
        """See `Coord.workers`."""
        return sorted(self._workers.values(), key=lambda worker: worker.id)

    async def claim_route(self, bank_id: str, worker_id: str, ttl_s: float) -> str:
        """See `Coord.claim_route`."""
        holder = self._routes.get(bank_id)
        if holder is not None and holder != worker_id:
            return holder
        self._routes.put(bank_id, worker_id, ttl_s)
        return worker_id

    async def move_route(self, bank_id: str, worker_id: str, ttl_s: float, *, expected: str | None) -> bool:
        """See `Coord.move_route`."""
        if self._routes.get(bank_id) != expected:
            return False
        self._routes.put(bank_id, worker_id, ttl_s)
        return True

    async def route(self, bank_id: str) -> str | None:
        """See `Coord.route`."""
        return self._routes.get(bank_id)

    async def remember_session(self, tenant: str, session: str, bank_id: str, ttl_s: float) -> None:
        """See `Coord.remember_session`."""
        self._sessions.put(f"{tenant}/{session}", bank_id, ttl_s)  # no tenant's id holds a slash

    async def session_bank(self, tenant: str, session: str) -> str | None:
        """See `Coord.session_bank`."""
        return self._sessions.get(f"{tenant}/{session}")

    async def forget_sessions(self, tenant: str) -> None:
        """See `Coord.forget_sessions`."""
        self._sessions.drop_all(f"{tenant}/")

    async def tell(self, notice: Notice) -> None:
        """See `Coord.tell`."""
        for listener in self._listeners:
            listener.put(notice)

    async def listen(self) -> AsyncGenerator[Notice, None]:
        """See `Coord.listen`."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            while (notice := await listener.next()) is not None:
                yield notice
        finally:
            self._listeners.discard(listener)

    async def take(self, name: str, *, rate: float, burst: int, cost: int = 1) -> float:
        """See `Coord.take`. The generic cell rate algorithm: all that is kept is when the allowance will be whole again."""
        check_allowance(rate, burst, cost)
        now = self._now()
        full_at = min(max(self._full_at.get(name) or now, now), now + burst / rate) + cost / rate
        wait = full_at - burst / rate - now
        if wait > ROUNDING_S:
            return wait
        self._full_at.put(name, full_at, full_at - now)
        return 0.0

    async def ping(self) -> None:
        """See `Coord.ping`."""

    async def close(self) -> None:
        """See `Coord.close`."""
        for listener in self._listeners:
            listener.put(None)

    def flush(self) -> None:
        """Lose everything, as a server that was emptied."""
        for kept in (self._workers, self._routes, self._sessions, self._full_at):
            kept.clear()


def check_allowance(rate: float, burst: int, cost: int) -> None:
    """Refuse an allowance that admits nothing; see `Coord.take`."""
    if rate <= 0 or not 0 < cost <= burst:
        raise ValueError(f"an allowance of {burst} that grows by {rate} a second never admits {cost}")


class _Ending(Generic[T]):
    """A dictionary whose entries end."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._kept, self._writes = now, dict[str, tuple[T, float]](), 0

    def get(self, key: str) -> T | None:
        value, until = self._kept.get(key, (None, 0.0))
        return value if self._now() < until else None

    def put(self, key: str, value: T, ttl_s: float) -> None:
        self._kept[key] = (value, self._now() + ttl_s)
        self._writes += 1
        if self._writes % PRUNED == 0:
            now = self._now()
            self._kept = {key: kept for key, kept in self._kept.items() if now < kept[1]}

    def values(self) -> list[T]:
        now = self._now()
        return [value for value, until in self._kept.values() if now < until]

    def drop(self, key: str) -> None:
        self._kept.pop(key, None)

    def drop_all(self, begin: str) -> None:
        self._kept = {key: kept for key, kept in self._kept.items() if not key.startswith(begin)}

    def clear(self) -> None:
        self._kept.clear()


class _Listener:
    """Notices on their way to one listener; None ends them."""

    def __init__(self) -> None:
        self._waiting: deque[Notice | None] = deque([Notice("missed")])
        self._some = asyncio.Event()
        self._some.set()

    def put(self, notice: Notice | None) -> None:
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            self._waiting.append(Notice("missed"))
        self._waiting.append(notice)
        self._some.set()

    async def next(self) -> Notice | None:
        await self._some.wait()
        notice = self._waiting.popleft()
        if not self._waiting:
            self._some.clear()
        return notice

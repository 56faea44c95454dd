"""Limits: what one tenant may take, so that the others are served; and how often an address may try keys that nobody has.

- **Rate.** `settings.rate` requests a second of one tenant, with all its keys and in all processes of the api, and `settings.burst` at once
  above that. A batch costs as much as one request for every 64 items begun.
- **Rate of a key.** What its `rate` says, for a second at once: within its tenant's, which it is counted to as well.
- **In flight.** `settings.tenant_in_flight` requests of one tenant at once, in this process.
- **Streams.** `STREAMS` of one tenant at once, in this process, beside its requests in flight.
- **Tries.** `TRIES` wrong keys a second from one address, and `TRIES_BURST` at once. The address is the socket's peer, never what a header
  says. Beyond it keys of that address are not looked up unless they were found here before: whoever tries costs no more queries,
  and those who share the address and are known go on.

Rates and tries are counted by the coordination. While that is down they are not limited at all: the service goes on, and counts anew
afterwards.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog

from service.cluster.coord import Coord, CoordDown
from service.errors import Quota
from service.settings import Settings
from service.telemetry import Metrics

ITEMS = 64  # of a batch, for the price of one request
TRIES, TRIES_BURST = 20.0, 100
STREAMS = 16  # of one tenant in one process
TELL_EVERY_S = 60.0
BY_ITEMS: dict[str, Any] = {"by_items": True}  # mark of a route that charges for what its body holds, once that is decoded
log = structlog.get_logger()


class TooFast(Quota):
    """A rate is exceeded; come back after the given seconds."""

    def __init__(self, detail: str, *, rate: float, burst: int, wait_s: float) -> None:
        seconds = max(1, math.ceil(wait_s))
        super().__init__(detail, retry_after_s=seconds)
        self.headers = {
            "RateLimit-Policy": f"{burst};w={max(1, math.ceil(burst / rate))}",
            "RateLimit-Limit": str(burst),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(seconds),
        }


class Limiter:
    """The limits of one process of the api."""

    def __init__(self, coord: Coord, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._coord, self._settings, self._metrics, self._clock = coord, settings, metrics, clock
        self._in_flight: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._closed: dict[str, float] = {}  # addresses, and until when their unknown keys are not looked up
        self._told = -math.inf  # when the log was told that nothing is counted

    def enter(self, state: dict[str, Any], tenant: str) -> None:
        """Take one of the tenant's places for the request with this state, until it leaves.

        Raises:
            Quota: all of them are taken.
        """
        if self._in_flight[tenant] >= self._settings.tenant_in_flight:
            self._metrics.limited("tenant-in-flight")
            raise Quota(f"this tenant has {self._settings.tenant_in_flight} requests in progress, the most at once", retry_after_s=1)
        self._in_flight[tenant] += 1
        state["place_of"] = tenant

    def streams(self, state: dict[str, Any], tenant: str) -> None:
        """Give the request's place back for one among the tenant's streams, which it has until it leaves.

        Raises:
            Quota: all of these are taken.
        """
        if self._streams[tenant] >= STREAMS:
            self._metrics.limited("tenant-streams")
            raise Quota(f"this tenant has {STREAMS} streams open, the most at once", retry_after_s=5)
        self.leave(state)
        self._streams[tenant] += 1
        state["stream_of"] = tenant

    def leave(self, state: dict[str, Any]) -> None:
        """Give the request's place back, if it took one."""
        for name, taken in (("place_of", self._in_flight), ("stream_of", self._streams)):
            tenant = state.pop(name, None)
            if tenant is not None:
                taken[tenant] -= 1
                if not taken[tenant]:
                    del taken[tenant]

    async def charge(self, tenant: str, items: int = 1, *, key: str = "", key_rate: float | None = None) -> None:
        """Count a request of the tenant, made with a key. What costs more than the whole burst is taken when the burst is.

        Raises:
            TooFast: it is above the key's rate, and nothing was counted; or above the tenant's, and was counted to the key alone.
        """
        cost = math.ceil(items / ITEMS)
        if key_rate:
            most = max(1, math.ceil(key_rate))
            wait_s = await self._take(f"rate:{tenant}:{key}", key_rate, most, min(cost, most))
            if wait_s > 0:
                self._metrics.limited("key-rate")
                raise TooFast(f"this key may make {key_rate:g} requests a second", rate=key_rate, burst=most, wait_s=wait_s)
        rate, burst = self._settings.rate, self._settings.burst
        if not rate:
            return
        wait_s = await self._take(f"rate:{tenant}", rate, burst, min(cost, burst))
        if wait_s > 0:
            self._metrics.limited("tenant-rate")
            raise TooFast(f"this tenant may make {rate:g} requests a second, {burst} at once", rate=rate, burst=burst, wait_s=wait_s)

    def is_closed(self, address: str | None) -> bool:
        """Whether an address has tried too many wrong keys just now."""
        return address is not None and self._clock() < self._closed.get(address, -math.inf)

    async def tried(self, address: str | None) -> None:
        """Count a wrong key from an address; without one (a UNIX socket) there is nothing to count by.

        Raises:
            TooFast: it has tried too many.
        """
        wait_s = 0.0 if address is None else await self._take(f"tries:{address}", TRIES, TRIES_BURST, 1)
        if address is not None and wait_s > 0:
            now = self._clock()
            self._closed = {one: until for one, until in self._closed.items() if until > now} | {address: now + wait_s}
            raise self.too_many_tries(wait_s)

    def too_many_tries(self, wait_s: float = 1 / TRIES) -> TooFast:
        """The refusal of an address, counted."""
        self._metrics.limited("address")
        return TooFast("too many wrong keys from this address", rate=TRIES, burst=TRIES_BURST, wait_s=wait_s)

    async def _take(self, name: str, rate: float, burst: int, cost: int) -> float:
        try:
            return await self._coord.take(name, rate=rate, burst=burst, cost=cost)
        except CoordDown:
            if self._clock() - self._told >= TELL_EVERY_S:
                self._told = self._clock()
                log.warning("rates not limited: the coordination is down", action="limit")
            return 0.0

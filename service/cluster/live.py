"""The live workers as one api sees them: a list kept fresh in the background, so that no request waits for the coordinator.

When the coordinator is down the last list serves on. A worker that vanished from it is believed in for a moment more: an emptied
coordinator looks the same, until the next beats. Nothing depends on the list being right: a worker that is gone refuses, and another is
asked.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextvars import Context

import structlog

from service.cluster.coord import Coord, CoordDown, Notice, WorkerInfo
from service.telemetry import places

EVERY_S = 1.0  # between two looks
GRACE_S = 3.0  # a vanished worker is believed in for: more than the time between two beats
LAST_S = 15.0  # and where none is left: more than a busy machine holds beats up, since there is nobody else to ask
log = structlog.get_logger()


class LiveWorkers:
    """Looks every second and whenever `workers-changed` is told. `heard` gets every other notice, and `missed`, for whoever else cares."""

    def __init__(self, coord: Coord, *, heard: Callable[[Notice], None], now: Callable[[], float] = time.monotonic) -> None:
        self._coord, self._heard, self._now = coord, heard, now
        self._alive: dict[str, WorkerInfo] = {}
        self._seen_at: dict[str, float] = {}  # when each was last in the coordinator's list
        self._looked_at = float("-inf")
        self._down = False
        self._looking = asyncio.Lock()
        self._look = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def all(self) -> Mapping[str, WorkerInfo]:
        """Those that are alive as far as one can tell, by id."""
        return self._alive

    @property
    def is_blind(self) -> bool:
        """Whether nobody is known because the coordinator does not answer."""
        return self._down and not self._alive

    async def start(self) -> None:
        """Look for the first time, and go on looking; again is no harm."""
        if not self._tasks:
            nobodys = Context()  # the first request begins what outlives it
            self._tasks = [asyncio.create_task(each, context=nobodys.copy()) for each in (self._repeat(), self._listen())]
            await self.refresh()

    async def close(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def refresh(self, *, older_than_s: float = 0.0) -> None:
        """Look now, unless the last look is not older than that. Those who ask at one time share one: an api's first calls may be many."""
        enough = self._now() - older_than_s
        async with self._looking:
            if self._looked_at <= enough:
                await self._look_now()

    async def _look_now(self) -> None:
        self._looked_at = now = self._now()
        try:
            found = await self._coord.workers()
        except CoordDown as error:
            if not self._down:
                log.warning("coordination is down", action="live", why=str(error), workers=len(self._alive))
            self._down = True
            return
        self._down = False
        self._seen_at |= dict.fromkeys((worker.id for worker in found), now)
        grace_s = GRACE_S if found else LAST_S
        self._seen_at = {name: at for name, at in self._seen_at.items() if now - at < grace_s}
        known = self._alive | {worker.id: worker for worker in found}
        self._alive = {name: known[name] for name in self._seen_at}

    async def _repeat(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._look.wait()
            self._look.clear()
            try:
                await self.refresh()
            except Exception as error:  # something odd in the list: the last one serves on, and the next may be read
                log.error("workers not read", action="live", error=type(error).__qualname__, places=places(error))

    async def _listen(self) -> None:
        async with contextlib.aclosing(self._coord.listen()) as notices:
            async for notice in notices:
                if notice.kind in ("workers-changed", "missed"):
                    self._look.set()
                if notice.kind != "workers-changed":
                    self._heard(notice)

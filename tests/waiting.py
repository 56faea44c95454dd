"""How tests wait: for what is to happen and not for a while, since a machine may be slow, and stand still for seconds."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from service.embedded import Embedded

PATIENCE_S = 120.0  # who waits so long waits for nothing
TICK_S = 0.05
T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], what: object, every_s: float = 0.01) -> T:
    """What `look` gives, once that is something; fails after two minutes and tells what it waited for."""
    end = time.monotonic() + PATIENCE_S
    while not (found := await look()):
        assert time.monotonic() < end, f"it never came to be so: {what}"
        await asyncio.sleep(every_s)
    return found


async def lasted(work: Awaitable[T]) -> tuple[T, float]:
    """What comes of it, and for how long this process waited: seconds in which the whole machine stood still do not count."""
    task, ticks = asyncio.ensure_future(work), 0
    while not (await asyncio.wait({task}, timeout=TICK_S))[0]:
        ticks += 1
        assert ticks * TICK_S < PATIENCE_S, "it does not end"
    return task.result(), ticks * TICK_S


@contextlib.asynccontextmanager
async def held_back(service: Embedded, work: str) -> AsyncIterator[None]:
    """Jobs that do this `work` of the maintenance begin it only once the context is left."""
    maintenance, go = service.maintenance, asyncio.Event()
    really = getattr(maintenance, work)

    async def waits(*args, **kwargs):
        await go.wait()
        return await really(*args, **kwargs)

    setattr(maintenance, work, waits)
    try:
        yield
    finally:
        go.set()
        setattr(maintenance, work, really)

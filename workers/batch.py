"""Micro-batches: requests that arrive while the worker thread is busy are done together when it is free.

Nobody waits for a batch to fill: the first request of an idle moment goes at once, alone, and a batch grows only for as long as the thread
is busy anyway. Of each tenant the order of arrival is kept; where several tenants wait, they take turns, one item each, so that one with
much to do does not hold up one with little. The work must not let one item's result depend on its neighbours in the batch (the encoder,
the read-out and the update promise this bitwise).
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from service.errors import Capacity
from workers.threads import OwnThread

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers items from concurrent callers into calls of `work` on `thread`.

    `size` bounds one call, `waiting` bounds the queue: above it a caller gets `Capacity` at once instead of an endless wait. `waited` is
    told how many seconds each item has waited before it was worked on.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        thread: OwnThread,
        *,
        size: int,
        waiting: int,
        waited: Callable[[float], None] | None = None,
    ) -> None:
        self._work, self._thread, self._size, self._waiting, self._waited = work, thread, size, waiting, waited
        self._queues: OrderedDict[str, deque[tuple[Item, asyncio.Future[Result], float]]] = OrderedDict()  # by tenant, whose turn is first
        self._queued = 0
        self._running: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item], tenant: str = "") -> list[Result]:
        """The results of `items`, in order.

        Raises:
            Capacity: more than `waiting` items are queued.
        """
        if not items:
            return []
        if self._queued + len(items) > self._waiting:
            raise Capacity(retry_after_s=1)
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._queues.setdefault(tenant, deque()).extend((item, future, now) for item, future in zip(items, futures, strict=True))
        self._queued += len(items)
        if self._running is None:
            self._running = loop.create_task(self._drain())
        return list(await asyncio.gather(*futures))

    async def _drain(self) -> None:
        try:
            while self._queued:
                wanted = self._taken()
                if wanted:
                    await self._call(wanted)
        finally:
            self._running = None

    def _taken(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The next batch: one item of each tenant in turn. A caller that left is not worked for."""
        taken: list[tuple[Item, asyncio.Future[Result]]] = []
        now = time.perf_counter()
        while self._queued and len(taken) < self._size:
            tenant, queue = next(iter(self._queues.items()))
            item, future, since = queue.popleft()
            self._queued -= 1
            if queue:
                self._queues.move_to_end(tenant)
            else:
                del self._queues[tenant]
            if not future.done():
                taken.append((item, future))
                if self._waited is not None:
                    self._waited(now - since)
        return taken

    async def _call(self, taken: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._thread.run(self._work, [item for item, _ in taken])
        except Exception as error:  # every caller of the batch learns of it; the loop goes on
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(taken, results, strict=True):
            if not future.done():
                future.set_result(result)

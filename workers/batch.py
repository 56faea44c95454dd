"""Micro-batches: requests that arrive while the worker thread is busy are done together when it is free.

Nobody waits for a batch to fill: the first requests of an idle moment go at once, those that come in one turn of the event loop together,
and a batch grows only for as long as the thread is busy anyway. Of each tenant the order of arrival is kept; where several tenants wait,
they take turns, one item each, so that one with much to do does not hold up one with little. The work must not let one item's result
depend on its neighbours in the batch (the encoder, the read-out and the update promise this bitwise).
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from service.errors import Capacity
from workers.threads import OwnThread

Item = TypeVar("Item")
Result = TypeVar("Result")
Taken: TypeAlias = list[tuple[Item, asyncio.Future[Result]]]
Begun: TypeAlias = tuple[Taken[Item, Result], asyncio.Future[Sequence[Result]]]


class Batcher(Generic[Item, Result]):
    """Gathers items from concurrent callers into calls of `work` on `thread`.

    `size` bounds one call, `waiting` bounds the queue: above it a caller gets `Capacity` at once instead of an endless wait. `waited` is
    told how many seconds each item has waited before it was worked on. `eager`: who comes in an idle moment, and was alone the time
    before, is worked for before the event loop does anything else. Where several come again and again they are waited for: a batch of one
    before them would cost them all.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        thread: OwnThread,
        *,
        size: int,
        waiting: int,
        waited: Callable[[float], None] | None = None,
        eager: bool = False,
    ) -> None:
        self._work, self._thread, self._size, self._waiting, self._waited = work, thread, size, waiting, waited
        self._eager, self._alone = eager, True  # whether the last batch was one caller's
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
            first = self._begun(self._taken()) if self._eager and self._alone else None
            self._running = loop.create_task(self._drain(first))
        return [await futures[0]] if len(futures) == 1 else list(await asyncio.gather(*futures))

    async def _drain(self, first: "Begun[Item, Result] | None") -> None:
        try:
            if first is not None:
                await self._end(*first)
            while self._queued:
                wanted = self._taken()
                if wanted:
                    await self._end(*self._begun(wanted))
        finally:
            self._running = None

    def _taken(self) -> "Taken[Item, Result]":
        """The next batch: one item of each tenant in turn. A caller that left is not worked for."""
        taken: Taken[Item, Result] = []
        callers: set[float] = set()  # by when they came
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
                callers.add(since)
                if self._waited is not None:
                    self._waited(now - since)
        self._alone = len(callers) <= 1
        return taken

    def _begun(self, taken: "Taken[Item, Result]") -> "Begun[Item, Result]":
        """A batch and its results once the thread has them."""
        try:
            return taken, self._thread.begin(self._work, [item for item, _ in taken])
        except RuntimeError as error:  # the thread was closed
            refused: asyncio.Future[Sequence[Result]] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return taken, refused

    async def _end(self, taken: "Taken[Item, Result]", done: "asyncio.Future[Sequence[Result]]") -> None:
        try:
            results = await done
        except Exception as error:  # every caller of the batch learns of it; the loop goes on
            _fail(taken, error)
            return
        except asyncio.CancelledError:  # the thread was closed, or the event loop ends: nobody is worked for any more
            _fail(taken, RuntimeError("closed"))
            while self._queued:
                _fail(self._taken(), RuntimeError("closed"))
            raise
        for (_, future), result in zip(taken, results, strict=True):
            if not future.done():
                future.set_result(result)


def _fail(taken: "Taken[Item, Result]", error: Exception) -> None:
    for _, future in taken:
        if not future.done():
            future.set_exception(error)

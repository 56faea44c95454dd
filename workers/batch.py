"""Micro-batches: requests that arrive while the worker thread is busy are done together when it is free.

Nobody waits for a batch to fill: the first request of an idle moment goes at once, alone. Order of arrival is kept. The work must
not let one item's result depend on its neighbours in the batch (the encoder and the read-out promise this bitwise).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from service.errors import Capacity
from workers.threads import OwnThread

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers items from concurrent callers into calls of `work` on `thread`.

    `size` bounds one call, `waiting` bounds the queue: above it a caller gets `Capacity` at once instead of an endless wait.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result]], thread: OwnThread, *, size: int, waiting: int) -> None:
        self._work, self._thread, self._size, self._waiting = work, thread, size, waiting
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """The results of `items`, in order.

        Raises:
            Capacity: more than `waiting` items are queued.
        """
        if len(self._queue) + len(items) > self._waiting:
            raise Capacity(retry_after_s=1)
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._queue.extend(zip(items, futures, strict=True))
        if self._running is None:
            self._running = loop.create_task(self._drain())
        return list(await asyncio.gather(*futures))

    async def _drain(self) -> None:
        try:
            while self._queue:
                taken = [self._queue.popleft() for _ in range(min(self._size, len(self._queue)))]
                wanted = [(item, future) for item, future in taken if not future.done()]  # a caller that left is not worked for
                if wanted:
                    await self._call(wanted)
        finally:
            self._running = None

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

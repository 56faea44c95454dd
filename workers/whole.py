"""Work that comes to its end even when nobody waits for it any more: a change of a bank is never left half done."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Whole:
    """Owns the tasks in which such work runs."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result; it runs to its end also when the caller is cancelled."""
        return await asyncio.shield(self.own(work))

    def own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task for work that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def end(self, within_s: float) -> None:
        """Let what has begun come to its end; what takes longer is given up, as by a crash."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=within_s)
        for task in self.tasks:
            task.cancel()
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)

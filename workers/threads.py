"""One thread that owns a kind of heavy work, so that nothing heavy runs on the event loop and no two calls touch the same tensors.

Work is run in the order it was handed over. A caller that is cancelled does not cancel work that has begun: the thread finishes it,
so a state is never left half changed.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class OwnThread:
    """A single worker thread with a name."""

    def __init__(self, name: str, start: Callable[[], None] | None = None) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=start)
        self.closed = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on the thread and give its result."""
        return await self.begin(work, *args, **kwargs)

    def begin(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Have the thread run `work`, from this moment on.

        Raises:
            RuntimeError: the thread was closed.
        """
        return asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(work, *args, **kwargs))

    async def run_in_steps(self, work: Generator[float, None, T], progress: Callable[[float], Awaitable[None]] | None = None) -> T:
        """Run `work` on the thread and give its result. It yields which share of it is done, and others are served between its steps."""
        while True:
            done, ended = await self.run(_step, work)
            if ended:
                return ended[0]
            if progress is not None:
                await progress(done)

    def hand_over(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `work` done after everything that was handed over before; nobody need wait for it.

        Raises:
            RuntimeError: the thread was closed.
        """
        return self._pool.submit(work, *args, **kwargs)

    def close(self) -> None:
        """Wait for the work in progress; refuse more."""
        self.closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)


def _step(work: Generator[float, None, T]) -> tuple[float, tuple[T] | None]:
    """The share that is done after the next step; at last the result."""
    try:
        return next(work), None
    except StopIteration as ended:
        return 1.0, (ended.value,)

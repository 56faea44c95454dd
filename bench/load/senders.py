"""Senders as processes: what sends shares no interpreter with what watches, and several share the rate where one core is not enough."""

import asyncio
import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from tqdm import tqdm

from bench.load.sending import Order, Sendings, send
from bench.load.target import Target
from bench.load.texts import Work, available_texts

LEAD_S = 0.2  # from the order to the begin


class SenderGone(Exception):
    """A sender ended before its work was done; it has said why on standard error."""


class Senders:
    """Processes that wait for orders."""

    def __init__(self, pipes: "list[Connection[Order, Sendings]]") -> None:
        self._pipes, self._runs = pipes, 0

    async def run(self, target: Target, work: Work, rate: float, seconds: float) -> Sendings:
        """Requests at a rate for so long, and their replies. Each run draws others.

        Raises:
            SenderGone: one of the processes ended.
        """
        self._runs += 1
        begin, part = time.monotonic() + LEAD_S, rate / len(self._pipes)
        for place, pipe in enumerate(self._pipes):
            pipe.send(Order(target.urls, target.key, work, part, seconds, (work.seed, self._runs, place), begin))
        done = Sendings()
        with tqdm(total=round(seconds), desc=f"{rate:.1f} requests/s", unit="s", leave=False) as bar:
            ticking = asyncio.create_task(_tick(bar.update, round(seconds)))
            try:
                for pipe in self._pipes:
                    done.add(await asyncio.to_thread(pipe.recv))
            except EOFError:
                raise SenderGone("a sender ended; see above") from None
            finally:
                ticking.cancel()
        return done


@contextlib.contextmanager
def senders(number: int) -> Iterator[Senders]:
    """So many, when all of them are ready; they end with the block."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()  # the process has its own: with this one closed, its end is seen here
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()
        yield Senders(pipes)
    finally:
        for process in processes:
            process.terminate()
            process.join()


async def _tick(update: Callable[[int], object], seconds: int) -> None:
    for _ in range(seconds):
        await asyncio.sleep(1)
        update(1)


def _serve(pipe: "Connection[Sendings | None, Order]") -> None:
    """A sender's process: orders in, what was sent out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, which ends it
    texts = available_texts()
    with contextlib.suppress(EOFError, BrokenPipeError):  # that process was killed
        pipe.send(None)
        while True:
            pipe.send(asyncio.run(send(pipe.recv(), texts)))

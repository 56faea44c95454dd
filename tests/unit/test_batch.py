"""Micro-batches: order within a tenant, turns between tenants, bounds, and callers that leave."""

import asyncio
import threading
import time

import pytest
from waiting import PATIENCE_S, until

from service.errors import Capacity
from workers.batch import Batcher
from workers.threads import OwnThread


class Slow:
    """Work that notes its batches and can be held."""

    def __init__(self) -> None:
        self.go, self.batches = threading.Event(), []

    def __call__(self, items):
        self.go.wait(PATIENCE_S)
        self.batches.append(list(items))
        return [item * 10 for item in items]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def thread():
    made = OwnThread("test")
    yield made
    made.close()


async def busy(batcher, slow):
    """A batch in progress, so that what comes now has to wait."""
    first = asyncio.ensure_future(batcher.submit([0], "someone"))
    await asyncio.sleep(0.01)
    return first


async def test_requests_that_wait_for_a_busy_thread_are_done_together_in_order(slow, thread):
    batcher = Batcher(slow, thread, size=8, waiting=100)
    tasks = [await busy(batcher, slow), *(asyncio.ensure_future(batcher.submit([n], "a")) for n in range(1, 6))]
    await asyncio.sleep(0.01)
    slow.go.set()
    assert await asyncio.gather(*tasks) == [[0], [10], [20], [30], [40], [50]]
    assert slow.batches == [[0], [1, 2, 3, 4, 5]]


async def test_eager_work_is_begun_before_the_loop_turns_and_what_comes_meanwhile_is_done_together(slow, thread):
    begun = threading.Event()

    def work(items):
        begun.set()
        return slow(items)

    batcher = Batcher(work, thread, size=8, waiting=100, eager=True)
    first = batcher.submit([1, 2], "a")
    first.send(None)  # up to where it waits; the loop has not turned
    assert begun.wait(PATIENCE_S)
    first.close()
    others = [asyncio.ensure_future(batcher.submit([n], "a")) for n in range(3, 6)]
    await asyncio.sleep(0.01)
    slow.go.set()
    assert await asyncio.gather(*others) == [[30], [40], [50]]
    assert slow.batches == [[1, 2], [3, 4, 5]]


async def test_eager_work_waits_for_those_who_came_together_the_time_before(slow, thread):
    batcher = Batcher(slow, thread, size=8, waiting=100, eager=True)
    slow.go.set()
    for turn in range(3):  # the first of the first turn could not know
        await asyncio.gather(*(batcher.submit([number], "a") for number in range(4)))
        assert slow.batches == ([[0], [1, 2, 3]] if not turn else [[0, 1, 2, 3]])
        slow.batches.clear()
    await batcher.submit([1], "a")
    alone = batcher.submit([2], "a")
    alone.send(None)
    alone.close()
    await thread.run(int)  # behind it
    assert slow.batches == [[1], [2]]


@pytest.mark.parametrize("eager", [False, True])
async def test_callers_of_a_thread_that_is_closed_are_told(slow, thread, eager):
    blocking = asyncio.ensure_future(thread.run(slow.go.wait, PATIENCE_S))
    await asyncio.sleep(0.01)
    batcher = Batcher(slow, thread, size=1, waiting=100, eager=eager)
    callers = [asyncio.ensure_future(batcher.submit([number], "a")) for number in range(3)]
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(asyncio.to_thread(thread.close))

    async def refuses() -> bool:
        try:
            thread.hand_over(int)
        except RuntimeError:
            return True
        return False

    await until(refuses, "the thread is closed")
    slow.go.set()
    async with asyncio.timeout(PATIENCE_S):
        told = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(error) for error in told] == ["closed"] * 3
    await asyncio.gather(closing, blocking)


async def test_eager_work_that_fails_or_comes_too_late_is_told_to_its_caller_alone(thread):
    def work(items):
        if 13 in items:
            raise ValueError("13")
        return items

    batcher = Batcher(work, thread, size=2, waiting=100, eager=True)
    with pytest.raises(ValueError, match="13"):
        await batcher.submit([13], "a")
    assert await batcher.submit([1], "a") == [1]
    thread.close()
    with pytest.raises(RuntimeError):
        await batcher.submit([2], "a")


async def test_tenant_with_little_to_do_does_not_wait_behind_one_with_much(slow, thread):
    batcher = Batcher(slow, thread, size=4, waiting=100)
    tasks = [await busy(batcher, slow), asyncio.ensure_future(batcher.submit(list(range(100, 110)), "much"))]
    await asyncio.sleep(0)
    tasks.append(asyncio.ensure_future(batcher.submit([1, 2], "little")))
    await asyncio.sleep(0.01)
    slow.go.set()
    await asyncio.gather(*tasks)
    assert slow.batches == [[0], [100, 1, 101, 2], [102, 103, 104, 105], [106, 107, 108, 109]]


async def test_caller_is_refused_at_once_when_too_many_wait(slow, thread):
    batcher = Batcher(slow, thread, size=4, waiting=3)
    first = await busy(batcher, slow)
    waiting = asyncio.ensure_future(batcher.submit([1, 2, 3], "a"))
    await asyncio.sleep(0)
    with pytest.raises(Capacity):
        await batcher.submit([4], "b")
    slow.go.set()
    assert await first == [0]
    assert await waiting == [10, 20, 30]
    assert await batcher.submit([4], "b") == [40]


async def test_caller_that_left_is_not_worked_for(slow, thread):
    batcher = Batcher(slow, thread, size=4, waiting=100)
    first, gone = await busy(batcher, slow), asyncio.ensure_future(batcher.submit([1], "a"))
    stays = asyncio.ensure_future(batcher.submit([2], "b"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    slow.go.set()
    assert [await first, await stays] == [[0], [20]]
    assert slow.batches == [[0], [2]]


async def test_waiting_is_told_for_every_item(slow, thread):
    waits, begin = [], time.perf_counter()
    batcher = Batcher(slow, thread, size=4, waiting=100, waited=waits.append)
    slow.go.set()
    assert await batcher.submit([], "a") == []
    await batcher.submit([1, 2, 3], "a")
    assert len(waits) == 3
    assert all(0 <= wait < time.perf_counter() - begin for wait in waits)


async def test_error_reaches_every_caller_of_its_batch_and_no_other(thread):
    def work(items):
        if 13 in items:
            raise ValueError("13")
        return items

    batcher = Batcher(work, thread, size=2, waiting=100)
    with pytest.raises(ValueError, match="13"):
        await batcher.submit([13], "a")
    assert await batcher.submit([1], "a") == [1]

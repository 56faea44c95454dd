"""One suite for both coordinators: what `Coord` promises, in memory on a clock that is turned by hand, and on a real Redis server.

The server's own clock cannot be turned: there time passes in that everything it holds gets older. Its own answers may take their time here,
but where a test is about a server that is silent.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass

import pytest
import pytest_asyncio
from fixtures_redis import RedisServer, redis_running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import PATIENCE_S, lasted

from service.cluster import redis_coord
from service.cluster.coord import BACKLOG, Coord, CoordDown, MemoryCoord, Notice, WorkerInfo
from service.cluster.redis_coord import POOL, RedisCoord, refuse_redis_cluster
from service.settings import SettingsRefused

SOON = 60.0  # a time to live that a test lets pass
LONG = 600.0
TIMEOUT_S = redis_coord.TIMEOUT_S


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Place:
    """A coordinator, the time it goes by, and how to make it lose everything."""

    coord: Coord
    clock: Clock | None = None
    server: RedisServer | None = None

    async def pass_time(self, seconds: float) -> None:
        if self.server is not None:
            self.server.age(seconds)
        else:
            self.clock.seconds += seconds

    def flush(self) -> None:
        self.coord.flush() if self.server is None else self.server.flush()

    def another(self) -> Coord:
        """A second process's coordinator."""
        return self.coord if self.server is None else RedisCoord(self.server.url)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A server that a busy machine makes late is not down."""
    for name in ("TIMEOUT_S", "TURN_S", "QUIET_S"):
        monkeypatch.setattr(redis_coord, name, PATIENCE_S)


@pytest_asyncio.fixture(params=["memory", "redis"])
async def place(request):
    if request.param == "memory":
        clock = Clock()
        yield Place(MemoryCoord(clock), clock=clock)
        return
    server = request.getfixturevalue("redis_server")
    coord = RedisCoord(server.url)
    yield Place(coord, server=server)
    await coord.close()


@pytest.fixture
def coord(place) -> Coord:
    return place.coord


def worker(name: str, **said) -> WorkerInfo:
    return WorkerInfo(id=name, address=f"unix:///run/{name}.sock", **said)


async def heard(notices) -> Notice:
    return await asyncio.wait_for(anext(notices), PATIENCE_S)


# --- who is alive


async def test_worker_is_alive_from_its_beat_to_the_end_of_its_time(place, coord):
    assert await coord.workers() == []
    said = worker("w1", capacity=2.0, in_flight=3, warm=4, version="0.2.0", started_at=1.5)
    assert await coord.beat(said, SOON)
    assert await coord.workers() == [said]
    await place.pass_time(SOON + 0.05)
    assert await coord.workers() == []


async def test_beat_renews_and_replaces_what_was_said(place, coord):
    await coord.beat(worker("w1"), SOON)
    await place.pass_time(SOON * 2 / 3)
    assert await coord.beat(worker("w1", in_flight=9), SOON)
    await place.pass_time(SOON * 2 / 3)
    assert await coord.workers() == [worker("w1", in_flight=9)]


async def test_workers_come_in_the_order_of_their_ids(coord):
    for name in ("w2", "w3", "w1"):
        await coord.beat(worker(name), LONG)
    assert [found.id for found in await coord.workers()] == ["w1", "w2", "w3"]


async def test_worker_that_left_is_gone_and_may_come_back_as_new(coord):
    await coord.beat(worker("w1"), LONG)
    await coord.leave("w1")
    await coord.leave("w1")
    assert await coord.workers() == []
    assert await coord.beat(worker("w1"), LONG), "it left by itself: nothing was lost"


async def test_beat_tells_a_worker_that_its_entry_was_lost(place, coord):
    assert await coord.beat(worker("w1"), LONG)
    assert await coord.beat(worker("w1"), LONG)
    place.flush()
    assert not await coord.beat(worker("w1"), SOON)
    assert await coord.beat(worker("w1"), SOON)
    await place.pass_time(SOON + 0.05)  # as one that was stopped for longer than its time
    assert not await coord.beat(worker("w1"), SOON)


async def test_flush_is_healed_by_the_next_beats(place, coord):
    for name in ("w1", "w2"):
        await coord.beat(worker(name), LONG)
    place.flush()
    assert await coord.workers() == []
    for name in ("w1", "w2"):
        await coord.beat(worker(name), LONG)
    assert [found.id for found in await coord.workers()] == ["w1", "w2"]


# --- who has which bank


async def test_first_claim_of_a_bank_holds_for_everyone_until_its_time_ends(place, coord):
    assert await coord.claim_route("bnk_1", "w1", SOON) == "w1"
    assert await coord.claim_route("bnk_1", "w2", SOON) == "w1"
    assert await coord.route("bnk_1") == "w1"
    assert await coord.route("bnk_2") is None
    await place.pass_time(SOON + 0.05)
    assert await coord.route("bnk_1") is None
    assert await coord.claim_route("bnk_1", "w2", SOON) == "w2"


async def test_claim_refreshes_only_the_holders_own_time(place, coord):
    await coord.claim_route("bnk_1", "w1", SOON)
    await coord.claim_route("bnk_2", "w1", SOON)
    await place.pass_time(SOON * 2 / 3)
    await coord.claim_route("bnk_1", "w1", SOON)
    await coord.claim_route("bnk_2", "w2", SOON)
    await place.pass_time(SOON * 2 / 3)
    assert await coord.route("bnk_1") == "w1"
    assert await coord.route("bnk_2") is None


async def test_route_moves_only_from_the_expected_holder(coord):
    assert not await coord.move_route("bnk_1", "w2", LONG, expected="w1")
    assert await coord.route("bnk_1") is None
    assert await coord.move_route("bnk_1", "w1", LONG, expected=None)
    assert not await coord.move_route("bnk_1", "w2", LONG, expected=None)
    assert not await coord.move_route("bnk_1", "w3", LONG, expected="w2")
    assert await coord.move_route("bnk_1", "w2", LONG, expected="w1")
    assert await coord.route("bnk_1") == "w2"


async def test_of_many_claims_at_once_one_wins_and_all_hear_of_it(place):
    others = [place.another() for _ in range(8)]
    told = await asyncio.gather(*(other.claim_route("bnk_1", f"w{number}", LONG) for number, other in enumerate(others)))
    assert len(set(told)) == 1
    moved = await asyncio.gather(*(other.move_route("bnk_1", f"m{number}", LONG, expected=told[0]) for number, other in enumerate(others)))
    assert sum(moved) == 1
    for other in others:
        await other.close()


# --- sessions


async def test_session_remembers_its_bank_for_its_tenant_and_time(place, coord):
    await coord.remember_session("tnt_1", "s:1", "bnk_1", SOON)
    await coord.remember_session("tnt_2", "s:1", "bnk_2", SOON)
    assert await coord.session_bank("tnt_1", "s:1") == "bnk_1"
    assert await coord.session_bank("tnt_2", "s:1") == "bnk_2"
    assert await coord.session_bank("tnt_1", "s:2") is None
    await place.pass_time(SOON + 0.05)
    assert await coord.session_bank("tnt_1", "s:1") is None


async def test_sessions_of_a_tenant_are_forgotten_and_no_others(coord):
    for tenant in ("tnt_1", "tnt_2"):
        for session in ("s:1", "s:2", "*"):
            await coord.remember_session(tenant, session, "bnk_1", LONG)
    await coord.forget_sessions("tnt_2")
    await coord.forget_sessions("tnt_3")
    assert [await coord.session_bank("tnt_2", session) for session in ("s:1", "s:2", "*")] == [None] * 3
    assert [await coord.session_bank("tnt_1", session) for session in ("s:1", "s:2", "*")] == ["bnk_1"] * 3


# --- notices


async def test_listener_first_learns_that_it_may_have_missed_some_then_hears_everything_in_order(place, coord):
    async with aclosing(coord.listen()) as notices, aclosing(place.another().listen()) as others:
        assert await heard(notices) == Notice("missed")
        assert await heard(others) == Notice("missed")
        told = [Notice("head-moved", "tnt_1", "bnk_1"), Notice("bank-gone", "tnt_1", "bnk_1"), Notice("tenant-erased", "tnt_2")]
        for notice in (*told, Notice("workers-changed")):
            await coord.tell(notice)
        assert [await heard(notices) for _ in range(4)] == [*told, Notice("workers-changed")]
        assert [await heard(others) for _ in range(4)] == [*told, Notice("workers-changed")]


async def test_flush_does_not_cut_a_listener_off(place, coord):
    async with aclosing(coord.listen()) as notices:
        await heard(notices)
        place.flush()
        await coord.tell(Notice("workers-changed"))
        assert await heard(notices) == Notice("workers-changed")


async def test_slow_listener_in_memory_misses_some_instead_of_filling_it():
    coord = MemoryCoord(time.monotonic)
    async with aclosing(coord.listen()) as notices:
        await heard(notices)
        for _ in range(BACKLOG + 1):
            await coord.tell(Notice("head-moved", "tnt_1", "bnk_1"))
        assert await heard(notices) == Notice("missed")
        assert await heard(notices) == Notice("head-moved", "tnt_1", "bnk_1")


async def test_listener_ends_when_the_coordinator_is_closed(place):
    coord = place.another()
    async with aclosing(coord.listen()) as notices:
        assert await heard(notices) == Notice("missed")
        waiting = asyncio.ensure_future(anext(notices, None))
        await asyncio.sleep(0)
        await coord.close()
        assert await asyncio.wait_for(waiting, PATIENCE_S) is None


# --- allowances


async def test_allowance_admits_its_burst_then_tells_how_long_to_wait(place, coord):
    assert [await coord.take("tnt_1", rate=0.001, burst=3) for _ in range(3)] == [0.0] * 3
    wait = await coord.take("tnt_1", rate=0.001, burst=3)
    assert 900 < wait < 1_000.001
    assert await coord.take("tnt_2", rate=0.001, burst=3) == 0.0, "another name has its own"
    await place.pass_time(wait - 100)
    assert 0 < await coord.take("tnt_1", rate=0.001, burst=3) < 100.001
    await place.pass_time(100.001)
    assert await coord.take("tnt_1", rate=0.001, burst=3) == 0.0


async def test_refused_request_takes_nothing(coord):
    assert await coord.take("tnt_1", rate=0.001, burst=4, cost=2) == 0.0
    for _ in range(5):
        assert await coord.take("tnt_1", rate=0.001, burst=4, cost=3) == pytest.approx(1_000, abs=100)
    assert await coord.take("tnt_1", rate=0.001, burst=4, cost=2) == 0.0


async def test_flush_gives_the_whole_burst_back(place, coord):
    assert await coord.take("tnt_1", rate=0.001, burst=1) == 0.0
    assert await coord.take("tnt_1", rate=0.001, burst=1) > 0
    place.flush()
    assert await coord.take("tnt_1", rate=0.001, burst=1) == 0.0


@pytest.mark.parametrize(("rate", "burst", "cost"), [(0.0, 1, 1), (-1.0, 1, 1), (1.0, 1, 2), (1.0, 1, 0)])
async def test_allowance_that_never_admits_is_an_error_of_the_caller(coord, rate, burst, cost):
    with pytest.raises(ValueError, match="never admits"):
        await coord.take("tnt_1", rate=rate, burst=burst, cost=cost)


async def test_wait_is_never_longer_than_a_whole_allowance_takes(coord):
    """A clock that was set back, or a rate that was raised, must not shut anybody out for long."""
    await coord.take("tnt_1", rate=0.0001, burst=1)
    assert 0 < await coord.take("tnt_1", rate=10, burst=5) < 0.101


gaps = st.floats(0, 0.02)
requests = st.lists(st.tuples(gaps, st.integers(1, 3)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(requests=requests, rate=st.floats(1, 500), burst=st.integers(3, 10))
def test_never_more_is_admitted_than_burst_and_rate_allow_in_memory(requests, rate, burst):
    async def run() -> None:
        clock = Clock()
        coord, admitted = MemoryCoord(clock), []
        for gap, cost in requests:
            clock.seconds += gap
            if await coord.take("t", rate=rate, burst=burst, cost=cost) == 0.0:
                admitted.append((clock.seconds, cost))
        _check_every_window(admitted, rate, burst)

    asyncio.run(run())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(requests=requests, rate=st.floats(20, 500), burst=st.integers(3, 10))
def test_never_more_is_admitted_than_burst_and_rate_allow_on_redis(redis_server, requests, rate, burst):
    async def run() -> None:
        redis_server.flush()
        coord, admitted = RedisCoord(redis_server.url), []
        for gap, cost in requests:
            await asyncio.sleep(gap / 4)
            before = time.monotonic()
            if await coord.take("t", rate=rate, burst=burst, cost=cost) == 0.0:
                admitted.append((before, time.monotonic(), cost))
        await coord.close()
        # the server looked at its clock somewhere between before and after: take the longest that the time between two looks can be
        for first, (start, _, _) in enumerate(admitted):
            for last in range(first, len(admitted)):
                taken = sum(cost for _, _, cost in admitted[first : last + 1])
                assert taken <= burst + rate * (admitted[last][1] - start) + 1e-6

    asyncio.run(run())


def _check_every_window(admitted: list[tuple[float, int]], rate: float, burst: int) -> None:
    for first in range(len(admitted)):
        taken = 0
        for at, cost in admitted[first:]:
            taken += cost
            assert taken <= burst + rate * (at - admitted[first][0]) + 1e-6


# --- Redis alone: what a server can do to us


async def test_every_method_says_that_redis_is_down_within_its_time_and_works_again_afterwards(redis_server, monkeypatch):
    coord = RedisCoord(redis_server.url)
    asked = [
        lambda: coord.beat(worker("w1"), LONG),
        lambda: coord.leave("w1"),
        lambda: coord.workers(),
        lambda: coord.claim_route("b", "w1", LONG),
        lambda: coord.move_route("b", "w1", LONG, expected=None),
        lambda: coord.route("b"),
        lambda: coord.remember_session("t", "s", "b", LONG),
        lambda: coord.session_bank("t", "s"),
        lambda: coord.forget_sessions("t"),
        lambda: coord.tell(Notice("workers-changed")),
        lambda: coord.take("t", rate=1, burst=1),
        lambda: coord.ping(),
    ]
    await asyncio.gather(*(coord.ping() for _ in range(8)))  # open connections, which are about to break
    redis_server.kill()
    for ask in asked:
        with pytest.raises(CoordDown):
            await ask()
    redis_server.start()
    for ask in asked:
        await ask()
    redis_server.pause()
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(redis_coord, "TIMEOUT_S", TIMEOUT_S)
            told, seconds = await lasted(asyncio.gather(*(ask() for ask in asked), return_exceptions=True))
        assert seconds < 1.5
        assert [type(error) for error in told] == [CoordDown] * len(asked)
    finally:
        redis_server.resume()
    for ask in asked:
        await ask()
    await coord.close()


async def test_listener_outlasts_a_killed_server_and_learns_that_it_missed_some(redis_server):
    coord = RedisCoord(redis_server.url)
    async with aclosing(coord.listen()) as notices:
        assert await heard(notices) == Notice("missed")
        redis_server.kill()
        waiting = asyncio.ensure_future(anext(notices))
        await asyncio.sleep(0.1)
        redis_server.start()
        assert await asyncio.wait_for(waiting, PATIENCE_S) == Notice("missed")
        await coord.tell(Notice("workers-changed"))
        assert await heard(notices) == Notice("workers-changed")
        redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        assert await heard(notices) == Notice("missed")
    await coord.close()


async def test_listener_of_a_server_that_hangs_learns_that_it_missed_some(redis_server, monkeypatch):
    monkeypatch.setattr(redis_coord, "QUIET_S", 0.5)
    coord = RedisCoord(redis_server.url)
    async with aclosing(coord.listen()) as notices:
        assert await heard(notices) == Notice("missed")
        waiting = asyncio.ensure_future(anext(notices))
        redis_server.pause()
        for _ in range(50):  # not in one piece: where this process stood still, too, the listener gets its turns
            await asyncio.sleep(0.05)
        redis_server.resume()
        assert await asyncio.wait_for(waiting, PATIENCE_S) == Notice("missed")
    await coord.close()


async def test_notice_of_a_newer_process_is_taken_for_one_that_was_missed(redis_server):
    coord = RedisCoord(redis_server.url)
    async with aclosing(coord.listen()) as notices:
        await heard(notices)
        redis_server.command("PUBLISH", "palimpsest:notices", '{"kind": "of the year 2040"}')
        assert await heard(notices) == Notice("missed")
    await coord.close()


async def test_listener_waits_for_a_server_that_is_not_there_yet(redis_server):
    redis_server.kill()
    coord = RedisCoord(redis_server.url)
    async with aclosing(coord.listen()) as notices:
        waiting = asyncio.ensure_future(anext(notices))
        await asyncio.sleep(0.2)
        redis_server.start()
        assert await asyncio.wait_for(waiting, PATIENCE_S) == Notice("missed")
    await coord.close()


async def test_more_callers_than_connections_are_all_answered(redis_server):
    coord = RedisCoord(redis_server.url)
    assert set(await asyncio.gather(*(coord.claim_route("b", "w1", LONG) for _ in range(500)))) == {"w1"}
    assert len(redis_server.command("CLIENT", "LIST").splitlines()) <= 18
    await coord.close()


async def test_callers_who_wait_for_a_turn_are_told_at_once_that_the_server_is_silent(redis_server, monkeypatch):
    coord = RedisCoord(redis_server.url)
    await coord.ping()
    redis_server.pause()
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(redis_coord, "TIMEOUT_S", TIMEOUT_S)
            asked = [coord.claim_route("b", "w1", LONG) for _ in range(200)]
            answers, seconds = await lasted(asyncio.gather(*asked, return_exceptions=True))
    finally:
        redis_server.resume()
    assert all(isinstance(answer, CoordDown) for answer in answers)
    assert coord._unanswered <= POOL, "those who had a turn"
    assert seconds < 4 * TIMEOUT_S  # not a timeout for each sixteen of them
    assert await coord.claim_route("b", "w1", LONG) == "w1"
    await coord.close()


@pytest.mark.parametrize("connected", [False, True], ids=["connecting", "connected"])
async def test_cancelled_call_ends_as_cancelled_wherever_it_stands(redis_server, connected):
    """A cancellation that is lost on the way, as by asyncio.wait_for of Python 3.11, leaves tasks that cannot be ended."""
    for turns in range(200):
        coord = RedisCoord(redis_server.url)
        if connected:
            await coord.ping()
        asking = asyncio.ensure_future(coord.workers())
        for _ in range(turns):
            await asyncio.sleep(0)
        ended = asking.done()
        asking.cancel()
        (outcome,) = await asyncio.gather(asking, return_exceptions=True)
        await coord.close()
        if ended:
            return
        assert isinstance(outcome, asyncio.CancelledError), turns


async def test_scripts_that_the_server_lost_under_load_are_sent_again(redis_server):
    coord = RedisCoord(redis_server.url)

    async def ask() -> None:
        for _ in range(100):
            await coord.claim_route("b", "w1", LONG)
            await coord.take("t", rate=1_000_000, burst=1_000_000)

    async def flush() -> None:
        for _ in range(30):
            await asyncio.to_thread(redis_server.flush)

    await asyncio.gather(ask(), ask(), flush())
    await coord.close()


async def test_every_call_keeps_to_one_slot_of_a_redis_cluster():
    with redis_running("--cluster-enabled", "yes") as server:
        server.command("CLUSTER", "ADDSLOTS", *(str(slot) for slot in range(16_384)))
        coord = RedisCoord(server.url)
        async with asyncio.timeout(PATIENCE_S):
            while "cluster_state:ok" not in server.command("CLUSTER", "INFO").decode():  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.05)
        await coord.beat(worker("w1"), LONG)
        assert [found.id for found in await coord.workers()] == ["w1"]
        await coord.leave("w1")
        assert await coord.claim_route("b", "w1", LONG) == "w1"
        assert await coord.move_route("b", "w2", LONG, expected="w1")
        await coord.remember_session("t", "s", "b", LONG)
        assert await coord.session_bank("t", "s") == "b"
        await coord.forget_sessions("t")
        assert await coord.session_bank("t", "s") is None
        assert await coord.take("t", rate=1, burst=1) == 0.0
        await coord.tell(Notice("workers-changed"))
        await coord.close()
        with pytest.raises(SettingsRefused, match="is a Redis Cluster"):
            await refuse_redis_cluster(server.url)


async def test_single_redis_and_one_that_cannot_be_reached_are_no_cluster(redis_server):
    await refuse_redis_cluster(redis_server.url)
    await refuse_redis_cluster("memory://")
    redis_server.kill()
    await refuse_redis_cluster(redis_server.url)

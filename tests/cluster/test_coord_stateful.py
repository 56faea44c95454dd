"""Both coordinators in lock step: whatever is done in whatever order, the one in memory and the one on Redis say the same.

Time passes in both at once, and only where a rule says so: what has a brief time to live has always ended before the next step.
"""

import asyncio
import time

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from stateful import long_walks
from waiting import PATIENCE_S

from service.cluster import redis_coord
from service.cluster.coord import MemoryCoord, Notice, WorkerInfo
from service.cluster.redis_coord import RedisCoord

EXAMPLES = 100  # the long form is `make long`
BRIEF, PAST_BRIEF, LONG = 0.005, 0.01, 600.0

workers = st.sampled_from(["w1", "w2", "w3"])
banks = st.sampled_from(["b1", "b2"])
tenants = st.sampled_from(["t1", "t2"])
lives = st.sampled_from([LONG, LONG, LONG, BRIEF])


class LockStep(RuleBasedStateMachine):
    """Every rule does a thing to both and compares what they say."""

    def __init__(self, runner: asyncio.Runner, server) -> None:
        super().__init__()
        server.flush()
        self.run, self.server, self.seconds = runner.run, server, 0.0
        self.memory, self.redis = MemoryCoord(lambda: self.seconds), RedisCoord(server.url)
        self.heard = [self.memory.listen(), self.redis.listen()]
        assert [self.run(self.next_of(notices)) for notices in self.heard] == [Notice("missed")] * 2

    def teardown(self) -> None:
        for notices in self.heard:
            self.run(notices.aclose())
        self.run(self.redis.close())

    async def next_of(self, notices) -> Notice:
        return await asyncio.wait_for(anext(notices), PATIENCE_S)

    def both(self, name: str, *arguments, ttl: float | None = None, **more):
        """What both said, after whatever lives briefly has ended."""
        arguments = arguments if ttl is None else (*arguments, ttl)
        told = [self.run(getattr(coord, name)(*arguments, **more)) for coord in (self.memory, self.redis)]
        if ttl == BRIEF:
            time.sleep(PAST_BRIEF)
            self.seconds += PAST_BRIEF
        return told

    def same(self, name: str, *arguments, ttl: float | None = None, **more) -> None:
        in_memory, on_redis = self.both(name, *arguments, ttl=ttl, **more)
        assert in_memory == on_redis, (name, arguments, more)

    @rule(name=workers, in_flight=st.integers(0, 9), ttl=lives)
    def beat(self, name, in_flight, ttl):
        self.same("beat", WorkerInfo(id=name, address=f"unix:///{name}", in_flight=in_flight), ttl=ttl)

    @rule(name=workers)
    def leave(self, name):
        self.same("leave", name)

    @rule(bank=banks, name=workers, ttl=lives)
    def claim(self, bank, name, ttl):
        self.same("claim_route", bank, name, ttl=ttl)

    @rule(bank=banks, name=workers, expected=st.none() | workers, ttl=lives)
    def move(self, bank, name, expected, ttl):
        self.same("move_route", bank, name, ttl=ttl, expected=expected)

    @rule(tenant=tenants, session=st.sampled_from(["s", "b1"]), bank=banks, ttl=lives)
    def remember(self, tenant, session, bank, ttl):
        self.same("remember_session", tenant, session, bank, ttl=ttl)

    @rule(kind=st.sampled_from(["head-moved", "bank-gone", "tenant-erased", "workers-changed"]), tenant=tenants, bank=banks)
    def tell(self, kind, tenant, bank):
        notice = Notice(kind, tenant, bank)
        self.both("tell", notice)
        assert [self.run(self.next_of(notices)) for notices in self.heard] == [notice] * 2

    @rule(name=tenants, burst=st.integers(3, 5), cost=st.integers(1, 3))
    def take(self, name, burst, cost):
        in_memory, on_redis = self.both("take", name, rate=1e-4, burst=burst, cost=cost)  # grows by nothing while this runs
        assert (in_memory == 0.0) == (on_redis == 0.0)
        assert on_redis == pytest.approx(in_memory, abs=60)

    @rule(name=banks)
    def take_again(self, name):
        assert self.both("take", name, rate=200, burst=1) == [0.0, 0.0]
        in_memory, on_redis = self.both("take", name, rate=200, burst=1)
        assert 0 < in_memory < 0.006
        assert 0 <= on_redis < 0.006, "the server's clock goes on"
        time.sleep(PAST_BRIEF)
        self.seconds += PAST_BRIEF

    @rule()
    def flush(self):
        self.memory.flush()
        self.server.flush()

    @invariant()
    def hold_the_same(self):
        in_memory, on_redis = self.run(everything(self.memory)), self.run(everything(self.redis))
        assert in_memory == on_redis


async def everything(coord) -> list:
    return await asyncio.gather(
        coord.workers(),
        *(coord.route(bank) for bank in ("b1", "b2")),
        *(coord.session_bank(tenant, session) for tenant in ("t1", "t2") for session in ("s", "b1")),
    )


@pytest.mark.timeout(3_600)
def test_memory_and_redis_say_the_same_whatever_is_done(redis_server, monkeypatch):
    for name in ("TIMEOUT_S", "QUIET_S"):
        monkeypatch.setattr(redis_coord, name, PATIENCE_S)  # what a busy machine makes late is not of another opinion
    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            lambda: LockStep(runner, redis_server),
            settings=long_walks(EXAMPLES),
        )

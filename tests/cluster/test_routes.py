"""Which worker an api asks about a bank, as workers come, go, refuse and are busy: over the coordinator in memory."""

import dataclasses
import itertools
from collections import Counter

import pytest_asyncio

from service.cluster import ring
from service.cluster.coord import MemoryCoord, WorkerInfo
from service.cluster.live import LiveWorkers
from service.cluster.routes import MOVES_EVERY_S, SHUNNED_S, STICKS_S, TTL_S, Routes

BANKS = [f"bnk_{number}" for number in range(40)]


@dataclasses.dataclass
class Place:
    """Two apis' routes over one coordinator."""

    seconds: float = 100.0

    def __post_init__(self) -> None:
        self.coord = MemoryCoord(lambda: self.seconds)
        self.live = [LiveWorkers(self.coord, heard=lambda notice: None, now=lambda: self.seconds) for _ in range(2)]
        self.routes = [Routes(self.coord, live, now=lambda: self.seconds) for live in self.live]

    async def workers(self, **in_flight: int) -> None:
        """These are alive from now on, that busy, and no others."""
        for worker in await self.coord.workers():
            await self.coord.leave(worker.id)
        self.seconds += 10  # whom an api saw before, it believes in no more
        for name, calls in in_flight.items():
            await self.coord.beat(WorkerInfo(id=name, address=f"unix:///{name}", in_flight=calls), 3600)
        for live in self.live:
            await live.refresh()

    async def asked(self, bank: str, *refused: str, api: int = 0) -> str:
        worker = await self.routes[api].worker_for(bank, refused)
        assert worker is not None
        return worker.id

    async def pass_by(self, seconds: float, *, api: int = 0) -> list[dict[str, str]]:
        """Every bank is asked about all the time; who was asked in each round."""
        rounds, until = [], self.seconds + seconds
        while self.seconds < until:
            self.seconds += MOVES_EVERY_S / 2
            rounds.append({bank: await self.asked(bank, api=api) for bank in BANKS})
        return rounds


@pytest_asyncio.fixture
async def place():
    return Place()


async def homes(place: Place) -> dict[str, str]:
    workers = await place.coord.workers()
    return {bank: ring.choose(bank, workers)[0].id for bank in BANKS}


async def test_worker_that_is_added_takes_its_share_of_the_banks_that_are_warm_elsewhere(place):
    await place.workers(a=0)
    assert {await place.asked(bank) for bank in BANKS} == {"a"}
    await place.workers(a=0, b=0)
    last = (await place.pass_by(30))[-1]
    assert last == await homes(place)
    assert min(Counter(last.values()).values()) > len(BANKS) / 4


async def test_banks_go_home_one_at_a_time_and_each_once(place):
    await place.workers(a=0)
    await place.pass_by(STICKS_S)
    await place.workers(a=0, b=0)
    rounds = await place.pass_by(30)
    moved = [sum(before[bank] != after[bank] for bank in BANKS) for before, after in itertools.pairwise(rounds)]
    assert max(moved) == 1, "each is folded anew by the other worker"
    assert sum(moved) + sum(who == "b" for who in rounds[0].values()) == sum(who == "b" for who in rounds[-1].values())


async def test_other_apis_follow_a_bank_that_went_home_within_the_time_that_a_route_is_believed(place):
    await place.workers(a=0)
    for api in (0, 1):
        assert {await place.asked(bank, api=api) for bank in BANKS} == {"a"}
    await place.workers(a=0, b=0)
    here = (await place.pass_by(30))[-1]
    there = (await place.pass_by(STICKS_S + MOVES_EVERY_S, api=1))[-1]
    assert here == there


async def test_no_bank_goes_home_to_a_worker_that_is_busier_than_the_one_it_has(place):
    await place.workers(a=1)
    await place.pass_by(STICKS_S)
    await place.workers(a=1, b=2)
    assert set((await place.pass_by(10))[-1].values()) == {"a"}
    await place.workers(a=2, b=2)
    assert set((await place.pass_by(10))[-1].values()) == {"a", "b"}


async def test_worker_that_is_far_too_busy_gets_rid_of_banks(place):
    await place.workers(a=0, b=0)
    before = (await place.pass_by(STICKS_S))[-1]
    assert len(set(before.values())) == 2
    await place.workers(a=200, b=1)
    assert set((await place.pass_by(30))[-1].values()) == {"b"}


async def test_worker_that_refused_gets_no_bank_back_for_a_while(place):
    await place.workers(a=0, b=0)
    bank = next(each for each, home in (await homes(place)).items() if home == "a")
    assert await place.asked(bank) == "a"
    assert await place.asked(bank, "a") == "b"
    rounds = await place.pass_by(SHUNNED_S - 1)
    assert {each[bank] for each in rounds} == {"b"}
    assert (await place.pass_by(STICKS_S + 30))[-1][bank] == "a"


async def test_route_that_nobody_uses_ends(place):
    await place.workers(a=0)
    assert await place.asked(BANKS[0]) == "a"
    place.seconds += TTL_S + 1
    assert await place.coord.route(BANKS[0]) is None

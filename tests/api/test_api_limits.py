"""Limits: exactly so many requests of one tenant, the others unhindered, wrong keys slowed down, and service without the coordination.

Rates here are powers of two and the clock moves by hand, so that what is admitted is exact.
"""

import asyncio
import contextlib

import httpx
import msgspec
import pytest
from routes import ROUTES, furnish
from saying import PIN
from tenancy import client_over, deps_of, refused

from service import errors
from service.api.app import build_app
from service.api.limits import TRIES, TRIES_BURST, Limiter
from service.cluster.coord import CoordDown, MemoryCoord

pytestmark = pytest.mark.asyncio(loop_scope="module")

ITEM = {"input": PIN, "right": "change_pin"}


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_024.0

    def __call__(self) -> float:
        return self.now


class Down(MemoryCoord):
    """A coordination that cannot be reached."""

    async def take(self, name: str, *, rate: float, burst: int, cost: int = 1) -> float:
        raise CoordDown


class Counting:
    """A database that counts how often a key was looked up."""

    def __init__(self, database) -> None:
        self.database, self.asked = database, 0

    def __getattr__(self, name):
        return getattr(self.database, name)

    def read_key(self, lookup_hash: bytes):
        self.asked += 1
        return self.database.read_key(lookup_hash)


class Stuck:
    """An engine whose questions are answered when it is let go."""

    def __init__(self) -> None:
        self.go, self.asked = asyncio.Event(), asyncio.Semaphore(0)

    async def recall(self, *args, **kwargs):
        self.asked.release()
        await self.go.wait()
        raise errors.Capacity()


@contextlib.asynccontextmanager
async def calling(deps, key: str, peer: str = "203.0.113.7"):
    """A client at an address."""
    transport = httpx.ASGITransport(build_app(deps), raise_app_exceptions=False, client=(peer, 4_711))
    async with httpx.AsyncClient(transport=transport, base_url="http://palimpsest", headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


def limited(tenant, clock, coord=None, **settings):
    """The service's parts under other limits."""
    changed = msgspec.structs.replace(tenant.service.settings, **settings)
    return deps_of(tenant.service, settings=changed, coord=coord or MemoryCoord(clock))


def counted(deps, reason: str) -> float:
    return deps.metrics.registry.get_sample_value("palimpsest_limited_total", {"reason": reason}) or 0.0


async def admitted(client, most: int = 50) -> int:
    """How many requests are served until one is refused."""
    for number in range(most):
        response = await client.get("/v1/whoami")
        if response.status_code == 429:
            return number
        assert response.status_code == 200
    return most


async def test_burst_is_admitted_at_once_and_the_rate_after_it(tenant):
    clock = Clock()
    deps = limited(tenant, clock, rate=4.0, burst=8)
    async with client_over(deps, await tenant.key("admin")) as client:
        assert await admitted(client) == 8
        for seconds, more in ((0.25, 1), (0.125, 0), (0.125, 1), (1.0, 4), (2.0, 8), (60.0, 8)):
            clock.now += seconds
            assert await admitted(client) == more, seconds
    assert counted(deps, "tenant-rate") == 7


async def test_refusal_says_which_limit_and_when_to_come_back(tenant):
    clock = Clock()
    async with client_over(limited(tenant, clock, rate=0.25, burst=2), await tenant.key("admin")) as client:
        assert await admitted(client) == 2
        response = await client.post("/v1/corrections", json=ITEM)
        said = refused(response, 429, "quota")
        assert "0.25 requests a second" in said["detail"]
        told = {name: value for name, value in response.headers.items() if name.startswith(("ratelimit", "retry"))}
        assert told == {
            "retry-after": "4",
            "ratelimit-policy": "2;w=8",
            "ratelimit-limit": "2",
            "ratelimit-remaining": "0",
            "ratelimit-reset": "4",
        }
        clock.now += 4
        assert (await client.post("/v1/corrections", json=ITEM)).status_code == 201


async def test_keys_of_a_tenant_share_its_rate_and_tenants_do_not(tenant, other):
    clock = Clock()
    deps = limited(tenant, clock, rate=4.0, burst=8)
    keys = [await tenant.key("admin"), await tenant.key("recall:read"), await other.key("admin")]
    async with client_over(deps, keys[0]) as mine, client_over(deps, keys[1]) as mine_too, client_over(deps, keys[2]) as theirs:
        for _ in range(4):
            assert (await mine.get("/v1/whoami")).status_code == 200
            assert (await mine_too.get("/v1/whoami")).status_code == 200
        for client in (mine, mine_too):
            refused(await client.get("/v1/whoami"), 429, "quota")
        assert await admitted(theirs) == 8


async def test_processes_share_the_rate_of_a_tenant(tenant):
    clock, key = Clock(), await tenant.key("admin")
    coord = MemoryCoord(clock)
    async with contextlib.AsyncExitStack() as stack:
        total = 0
        for _ in range(2):
            client = await stack.enter_async_context(client_over(limited(tenant, clock, coord, rate=4.0, burst=8), key))
            total += await admitted(client, 5)
    assert total == 8


async def test_without_a_rate_nothing_is_counted(tenant):
    clock = Clock()
    deps = limited(tenant, clock, rate=0.0, burst=1)
    async with client_over(deps, await tenant.key("admin")) as client:
        assert await admitted(client) == 50


async def test_every_route_with_a_key_is_limited_and_the_public_ones_are_not(tenant):
    has, clock = await furnish(tenant), Clock()
    async with client_over(limited(tenant, clock, rate=4.0, burst=1), await tenant.key("admin")) as client:
        assert await admitted(client) == 1
        for route in ROUTES:
            refused(await client.request(route.method, route.path(has), json=route.json(has)), 429, "quota")
        for path in ("/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(("items", "cost"), [(1, 1), (64, 1), (65, 2), (128, 2), (129, 3)])
@pytest.mark.parametrize("path", ["/v1/recall/batch", "/v1/corrections/batch"])
async def test_batch_costs_one_for_every_64_items_begun(tenant, path, items, cost):
    clock = Clock()
    body = {"inputs": [PIN] * items} if "recall" in path else {"items": [ITEM] * items}
    async with client_over(limited(tenant, clock, rate=4.0, burst=8), await tenant.key("admin")) as client:
        assert (await client.post(path, json=body)).status_code in (200, 201)
        assert await admitted(client) == 8 - cost


async def test_batch_that_is_refused_costs_nothing_and_is_admitted_when_it_was_told(tenant):
    clock = Clock()
    body = {"inputs": [PIN] * 500}
    async with client_over(limited(tenant, clock, rate=1.0, burst=8), await tenant.key("admin")) as client:
        assert (await client.get("/v1/whoami")).status_code == 200
        for _ in range(3):
            response = await client.post("/v1/recall/batch", json=body)
            refused(response, 429, "quota")
        assert response.headers["retry-after"] == "1"
        clock.now += 1
        assert (await client.post("/v1/recall/batch", json=body)).status_code == 200
        assert await admitted(client) == 0


async def test_batch_that_costs_more_than_the_burst_takes_all_of_it(tenant):
    clock = Clock()
    async with client_over(limited(tenant, clock, rate=1.0, burst=4), await tenant.key("admin")) as client:
        assert (await client.post("/v1/recall/batch", json={"inputs": [PIN] * 257})).status_code == 200
        assert await admitted(client) == 0


async def test_tenant_has_only_so_many_requests_in_flight_and_the_others_are_served(tenant, other):
    engine = Stuck()
    settings = msgspec.structs.replace(tenant.service.settings, tenant_in_flight=2)
    deps = deps_of(tenant.service, engine=engine, settings=settings)
    app, keys = build_app(deps), [await tenant.key("admin"), await other.key("admin")]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://palimpsest") as client:
        mine, theirs = ({"Authorization": f"Bearer {key}"} for key in keys)
        waiting = [asyncio.ensure_future(client.post("/v1/recall", json={"input": PIN}, headers=mine)) for _ in range(2)]
        for _ in waiting:
            await engine.asked.acquire()
        for _ in range(3):
            response = await client.get("/v1/whoami", headers=mine)
            assert "2 requests" in refused(response, 429, "quota")["detail"]
            assert response.headers["retry-after"] == "1"
        assert (await client.get("/v1/whoami", headers=theirs)).status_code == 200
        gone = waiting.pop()
        gone.cancel()  # its client has left
        await asyncio.gather(gone, return_exceptions=True)
        assert (await client.get("/v1/whoami", headers=mine)).status_code == 200
        engine.go.set()
        assert [reply.status_code for reply in await asyncio.gather(*waiting)] == [503]
        for _ in range(5):  # places are given back, also by requests that were refused
            assert (await client.get("/v1/whoami", headers=mine)).status_code == 200
            refused(await client.post("/v1/recall", json={}, headers=mine), 400, "validation")
    assert counted(deps, "tenant-in-flight") == 3
    assert not app._leave.__self__._in_flight


async def test_wrong_keys_of_an_address_are_refused_sooner_or_later_and_known_keys_never(tenant):
    clock, good = Clock(), await tenant.key("admin")
    deps = limited(tenant, clock)
    async with calling(deps, good) as client:
        assert (await client.get("/v1/whoami")).status_code == 200
        wrong = [await client.get("/v1/whoami", headers={"Authorization": f"Bearer wrong-{n}"}) for n in range(TRIES_BURST + 1)]
        assert [response.status_code for response in wrong] == [401] * TRIES_BURST + [429]
        refused(wrong[-1], 429, "quota")
        assert wrong[-1].headers["retry-after"] == "1"
        assert wrong[-1].headers["ratelimit-limit"] == str(TRIES_BURST)
        assert (await client.get("/v1/whoami")).status_code == 200
        refused(await client.get("/v1/whoami", headers={"Authorization": ""}), 401, "unauthenticated")
    assert counted(deps, "address") == 1


async def test_closed_address_costs_no_queries_for_keys_that_were_never_seen(tenant):
    clock, keys = Clock(), [await tenant.key("admin") for _ in range(2)]
    database = Counting(tenant.service.database)
    app = build_app(deps_of(tenant.service, coord=MemoryCoord(clock), database=database))
    app._leave.__self__._clock = clock  # the limiter's own, for how long an address stays closed
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("192.0.2.1", 4_711))
    async with httpx.AsyncClient(transport=transport, base_url="http://palimpsest") as client:

        async def status(key: str) -> int:
            return (await client.get("/v1/whoami", headers={"X-API-Key": key})).status_code

        assert await status(keys[0]) == 200
        assert [await status(f"wrong-{n}") for n in range(TRIES_BURST + 1)] == [401] * TRIES_BURST + [429]
        asked = database.asked
        assert [await status(key) for key in ("wrong", keys[1], keys[0])] == [429, 429, 200]
        assert database.asked == asked
        clock.now += 1 / TRIES
        assert [await status(key) for key in (keys[1], "wrong")] == [200, 401]
        assert database.asked == asked + 2


async def test_address_is_the_sockets_and_not_what_a_header_says(tenant):
    clock, key = Clock(), await tenant.key("admin")
    deps = limited(tenant, clock)
    forged = [{"X-Forwarded-For": f"::{n}", "X-Real-IP": f"::{n}", "Forwarded": f"for={n}"} for n in range(TRIES_BURST + 1)]
    async with calling(deps, "wrong", "203.0.113.1") as guesser, calling(deps, key, "203.0.113.2") as neighbour:
        statuses = [(await guesser.get("/v1/whoami", headers=headers)).status_code for headers in forged]
        assert statuses == [401] * TRIES_BURST + [429]
        refused(await neighbour.get("/v1/whoami", headers={"Authorization": "Bearer wrong"}), 401, "unauthenticated")
        assert (await neighbour.get("/v1/whoami")).status_code == 200


async def test_service_goes_on_without_the_coordination_and_says_so_once_a_minute(tenant, capsys):
    clock = Clock()
    deps = limited(tenant, clock, Down(clock), rate=4.0, burst=1)
    async with client_over(deps, await tenant.key("admin")) as client:
        assert await admitted(client) == 50
        for _ in range(TRIES_BURST + 10):
            refused(await client.get("/v1/whoami", headers={"Authorization": "Bearer wrong"}), 401, "unauthenticated")
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("the coordination is down") == 1
    limiter = Limiter(Down(clock), deps.settings, deps.metrics, clock)
    for seconds in (0, 59, 1, 59.9, 0.1):
        clock.now += seconds
        await limiter.charge(tenant.id)
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("the coordination is down") == 3


async def test_coordination_that_comes_back_counts_anew(tenant):
    clock = Clock()
    coord = MemoryCoord(clock)
    async with client_over(limited(tenant, clock, coord, rate=4.0, burst=8), await tenant.key("admin")) as client:
        assert await admitted(client) == 8
        coord.flush()
        assert await admitted(client) == 8

"""An api's engine over real workers on real sockets and a real Redis: workers come and go, and every call is made once or is told.

The workers serve a small engine over one ledger in memory (`small_engine`): what is tested is who is asked, and how often.
"""

import asyncio
import contextlib
import inspect
import itertools
import math
import time

import pytest
import pytest_asyncio
from small_engine import LONG, Fleet, SmallEngine, fleet_of
from waiting import PATIENCE_S, lasted

from service import wire
from service.cluster import client as client_module
from service.cluster import live as live_module
from service.cluster import redis_coord
from service.cluster import remote as remote_module
from service.cluster import routes as routes_module
from service.cluster.coord import MemoryCoord, Notice
from service.cluster.engine import Actor, Engine
from service.cluster.redis_coord import RedisCoord
from service.cluster.remote import RemoteEngine
from service.cluster.ring import choose
from service.errors import Capacity, NotFound, OutcomeUnknown
from service.store.failures import CommitUnknown

ACTOR = Actor(key_id="key_1", request_id="req_1")
TIMEOUT_S = redis_coord.TIMEOUT_S


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a machine with much else to do neither a coordinator nor a worker that answers late is one that does not."""
    for name in ("TIMEOUT_S", "TURN_S"):
        monkeypatch.setattr(redis_coord, name, PATIENCE_S)
    monkeypatch.setattr(client_module, "HELLO_S", PATIENCE_S)
    monkeypatch.setattr(remote_module, "DEADLINES_S", {})
    monkeypatch.setattr(remote_module, "DEADLINE_S", PATIENCE_S)
    monkeypatch.setattr(live_module, "GRACE_S", LONG)


@pytest.fixture
def impatience(patience, monkeypatch):
    """A coordinator that says nothing is given up as soon as it really is."""
    monkeypatch.setattr(redis_coord, "TIMEOUT_S", TIMEOUT_S)


@pytest_asyncio.fixture
async def coord(redis_server):
    made = RedisCoord(redis_server.url)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def fleet(coord, tmp_path):
    async with fleet_of(coord, tmp_path, "w1", "w2", "w3") as made:
        yield made


def lesson(text: str) -> wire.NewCorrection:
    return wire.NewCorrection(input=text, right=f"answer to {text}")


async def teach(engine, bank: str, text: str) -> list[wire.Taught]:
    return await engine.teach("tnt_1", bank, [lesson(text)], actor=ACTOR, idempotency_key=None)


async def recall(engine, bank: str, text: str = "?") -> str | None:
    question = {"top_k": 1, "min_confidence": None, "at": None, "explain": False, "min_seq": None}
    (item,), _, _ = await engine.recall("tnt_1", bank, [text], **question)
    return item.answers[0].value if item.answers else None


async def until(done) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110 (the other side's state has no event)
            await asyncio.sleep(0.002)


async def holder(fleet: Fleet, bank: str = "bnk_1") -> str:
    found = await fleet.coord.route(bank)
    assert found is not None
    return found


# --- who is asked


def test_it_is_an_engine_with_every_method_of_the_port():
    for name, method in inspect.getmembers(Engine, inspect.iscoroutinefunction):
        mine = getattr(RemoteEngine, name)
        assert inspect.signature(mine) == inspect.signature(method)


async def test_what_is_taught_is_recalled_by_every_api_from_the_worker_that_has_the_bank(fleet):
    first, second = fleet.engine(), fleet.engine()
    assert (await teach(first, "bnk_1", "a"))[0].seq == 1
    assert await recall(second, "bnk_1", "a") == "answer to a"
    assert await recall(first, "bnk_1", "b") is None
    assert fleet.done() == {await holder(fleet): 3} | dict.fromkeys(fleet.workers.keys() - {await holder(fleet)}, 0)


async def test_bank_goes_where_the_ring_puts_it_and_leaves_one_at_a_time_when_the_ring_changes(fleet, monkeypatch):
    engine = fleet.engine()
    infos = [worker.info for worker in fleet.workers.values()]
    for number in range(20):
        fleet.ledger.banks[f"b{number}"] = []
        await recall(engine, f"b{number}")
        assert await holder(fleet, f"b{number}") == choose(f"b{number}", infos)[0].id
    before = {f"b{number}": await holder(fleet, f"b{number}") for number in range(20)}
    monkeypatch.setattr(routes_module, "MOVES_EVERY_S", LONG)
    monkeypatch.setattr(routes_module, "STICKS_S", LONG)  # the first api does not ask again, however long this takes
    await fleet.add("w0")
    other = fleet.engine()
    for bank in before:
        await recall(engine, bank)
        await recall(other, bank)
    moved = {bank for bank in before if await holder(fleet, bank) != before[bank]}
    assert len(moved) == 1, "the other api moved one, and none meanwhile"
    assert {await holder(fleet, bank) for bank in moved} == {"w0"}


async def test_apis_that_ask_at_once_agree_on_one_worker_for_a_new_bank(fleet, monkeypatch):
    engines = [fleet.engine() for _ in range(8)]
    await asyncio.gather(*(engine.health() for engine in engines))
    monkeypatch.setattr("service.cluster.ring.choose", lambda bank, workers: sorted(workers, key=lambda worker: id(workers)))
    await asyncio.gather(*(recall(engine, "bnk_1") for engine in engines))
    assert sorted(fleet.done("recall").values()) == [0, 0, 8]


async def test_route_is_asked_of_the_coordinator_only_now_and_again(fleet, redis_server):
    engine = fleet.engine()
    await recall(engine, "bnk_1")
    begin, before = time.monotonic(), redis_server.command("INFO", "commandstats")
    for _ in range(50):
        await recall(engine, "bnk_1")
    after = redis_server.command("INFO", "commandstats")
    seconds = time.monotonic() - begin  # the list and the route are each looked at once in a second
    assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] <= 4 + 2 * seconds


async def test_new_bank_is_made_by_any_worker_and_deleted_by_its_own(fleet):
    engine = fleet.engine()
    assert (await engine.create_bank("tnt_1", "new", actor=ACTOR)).name == "new"
    await teach(engine, "new", "a")
    assert await engine.delete_bank("tnt_1", "new", actor=ACTOR) is None
    with pytest.raises(NotFound):
        await recall(engine, "new", "a")
    assert sum(fleet.done("create_bank").values()) == sum(fleet.done("delete_bank").values()) == 1


async def test_bank_that_another_api_deleted_is_looked_up_again(fleet):
    looked_up = []

    async def bank_of(tenant: str, bank: str) -> str:
        looked_up.append((tenant, bank))
        return await fleet.ledger.bank_of(tenant, bank)

    engine = fleet.engine(bank_of=bank_of)
    engine._names["tnt_1", "of before"] = ("bnk_0", math.inf)
    await engine.health()
    await until(lambda: not engine._names)  # it listens: the first that it heard is that it may have missed something
    for _ in range(3):
        await recall(engine, "bnk_1")
    assert looked_up == [("tnt_1", "bnk_1")]
    await fleet.coord.tell(Notice("bank-gone", "tnt_1", "bnk_1"))
    await until(lambda: not engine._names)
    await recall(engine, "bnk_1")
    assert len(looked_up) == 2
    del fleet.ledger.banks["bnk_1"]
    for _ in range(2):
        with pytest.raises(NotFound):
            await recall(engine, "bnk_1")
    assert len(looked_up) == 3, "the worker said that it is gone, and then the database did"


async def test_health_tells_how_many_workers_are_alive_and_asks_one(fleet):
    engine = fleet.engine()
    first, second = await engine.health()
    assert (first.name, first.ok, first.detail) == ("workers", True, "3 alive")
    assert (second.name, second.ok) == ("model", True)
    assert sum(fleet.done("health").values()) == 1


async def test_no_worker_alive_is_told_at_once_and_ends_when_one_comes(coord, tmp_path):
    async with fleet_of(coord, tmp_path) as fleet:
        engine = fleet.engine()
        (told,), seconds = await lasted(asyncio.gather(recall(engine, "bnk_1"), return_exceptions=True))
        assert isinstance(told, Capacity)
        assert "no worker is alive" in told.detail
        assert seconds < 1
        assert told.retry_after_s == 1
        assert [component.ok for component in await engine.health()] == [False]
        await fleet.add("w1")
        assert await recall(engine, "bnk_1") is None


async def test_coordinator_that_has_never_answered_is_waited_for_a_moment(fleet, redis_server, impatience, monkeypatch):
    monkeypatch.setattr(remote_module, "BLIND_S", PATIENCE_S)
    redis_server.pause()
    try:
        asked = asyncio.ensure_future(recall(fleet.engine(), "bnk_1"))
        await asyncio.sleep(1.5)  # longer than one question to it may take
        assert not asked.done()
    finally:
        redis_server.resume()
    assert await asked is None


async def test_first_calls_of_an_api_share_one_look_at_who_is_alive(fleet, redis_server, monkeypatch):
    monkeypatch.setattr(live_module, "EVERY_S", LONG)  # it looks when it is asked and when it is told to
    engine = fleet.engine()
    before = redis_server.calls("zrangebyscore")
    await asyncio.gather(*(recall(engine, "bnk_1") for _ in range(200)))
    assert 0 < redis_server.calls("zrangebyscore") - before <= 3


# --- load


async def test_thousand_calls_at_once_are_each_done_once(fleet):
    engines = [fleet.engine(), fleet.engine()]
    banks = [f"b{number}" for number in range(50)]
    for bank in banks:
        fleet.ledger.banks[bank] = []
    calls = [teach(engines[number % 2], banks[number % 50], f"text {number}") for number in range(1_000)]
    await asyncio.gather(*calls)
    kept = [lesson.input for lessons in fleet.ledger.banks.values() for lesson in lessons]
    assert sorted(kept) == sorted(f"text {number}" for number in range(1_000))
    assert min(fleet.done("teach").values()) > 100, "all three had their share"


async def test_bank_of_a_busy_worker_moves_on_when_it_stays_busy_and_comes_to_rest(coord, tmp_path):
    async with fleet_of(coord, tmp_path) as fleet:
        for name in ("w1", "w2"):
            await fleet.add(name, max_in_flight=2)
        engine = fleet.engine()
        waiting = [asyncio.ensure_future(recall(engine, "slow_1")) for _ in range(2)]
        await until(lambda: sum(fleet.done("recall").values()) == 2)
        full = await holder(fleet, "slow_1")
        third = asyncio.ensure_future(recall(engine, "slow_1"))
        await until(lambda: sum(fleet.done("recall").values()) == 3)
        assert await holder(fleet, "slow_1") != full
        for worker in fleet.workers.values():
            worker.engine.go.set()
        await asyncio.gather(*waiting, third)


async def test_call_that_all_workers_are_too_busy_for_waits_for_its_turn_or_its_deadline(coord, tmp_path):
    async with fleet_of(coord, tmp_path) as fleet:
        worker = await fleet.add("w1", max_in_flight=1)
        engine = fleet.engine(deadlines_s={"memory": 0.4})
        running = asyncio.ensure_future(recall(engine, "slow_1"))
        await until(lambda: fleet.done("recall")["w1"] == 1)
        patient = asyncio.ensure_future(teach(engine, "bnk_1", "a"))
        with pytest.raises(Capacity) as raised:
            await engine.memory("tnt_1", "bnk_1")
        assert raised.value.retry_after_s == 1
        assert not patient.done()
        worker.engine.go.set()
        await running
        assert (await patient)[0].seq == 1
        assert fleet.done("memory")["w1"] == 0


# --- workers that go


async def test_killed_worker_is_replaced_by_another_one_without_a_failed_read(fleet):
    engine = fleet.engine()
    await teach(engine, "bnk_1", "a")
    first = await holder(fleet)
    await fleet.workers[first].die()
    assert await asyncio.gather(*(recall(engine, "bnk_1", "a") for _ in range(100))) == ["answer to a"] * 100
    assert await holder(fleet) != first
    assert (await teach(engine, "bnk_1", "b"))[0].seq == 2


async def test_read_that_was_under_way_when_its_worker_died_is_asked_again(fleet):
    engine = fleet.engine()
    reading = [asyncio.ensure_future(call) for call in (recall(engine, "slow_1"), engine.memory("tnt_1", "slow_1"))]
    await until(lambda: sum(fleet.done().values()) == 2)
    first = await holder(fleet, "slow_1")
    for name in fleet.workers.keys() - {first}:
        fleet.workers[name].engine.go.set()
    await fleet.workers[first].die()
    value, memory = await asyncio.gather(*reading)
    assert value is None
    assert memory.events == 0
    assert sum(fleet.done().values()) == 4


WRITES = {
    "teach": lambda engine: teach(engine, "slow_1", "a"),
    "snapshot": lambda engine: engine.snapshot("tnt_1", "slow_1", label=None, note=None, pin=False, actor=ACTOR),
    "forget": lambda engine: engine.forget("tnt_1", "slow_1", ["cor_1"], mode="suppress", reason=None, actor=ACTOR),
    "delete_bank": lambda engine: engine.delete_bank("tnt_1", "slow_1", actor=ACTOR),
}


@pytest.mark.parametrize("name", WRITES)
async def test_write_that_was_under_way_when_its_worker_died_is_not_made_again_but_told(fleet, name):
    engine = fleet.engine()
    writing = asyncio.ensure_future(WRITES[name](engine))
    await until(lambda: sum(fleet.done(name).values()) == 1)
    await fleet.workers[await holder(fleet, "slow_1")].die()
    for worker in fleet.workers.values():
        worker.engine.go.set()
    with pytest.raises(OutcomeUnknown) as raised:
        await writing
    assert (raised.value.status, raised.value.code) == (503, "capacity")
    assert sum(fleet.done(name).values()) == 1


async def teach_named(engine, bank: str, text: str, id: str = "cor_1") -> list[wire.Taught]:
    return await engine.teach("tnt_1", bank, [lesson(text)], actor=ACTOR, idempotency_key=None, ids=[id])


@pytest.mark.parametrize("done", [False, True])
async def test_corrections_with_ids_that_were_under_way_when_their_worker_died_are_taught_once(fleet, done):
    """By the one that died, whose reply is lost, or by the next."""
    engine = fleet.engine()
    writing = asyncio.ensure_future(teach_named(engine, "slow_1", "a"))
    await until(lambda: sum(fleet.done("teach").values()) == 1)
    first = await holder(fleet, "slow_1")
    if done:
        fleet.ledger.banks["slow_1"].append(lesson("a"))
        fleet.ledger.places["cor_1"] = 1
    for name in fleet.workers.keys() - {first}:
        fleet.workers[name].engine.go.set()
    await fleet.workers[first].die()
    (said,) = await writing
    assert said.seq == 1
    assert [each.input for each in fleet.ledger.banks["slow_1"]] == ["a"]
    assert sum(fleet.done("teach").values()) == 2


async def test_what_ends_a_write_after_it_was_lost_once_does_not_speak_for_the_lost_try(fleet):
    """Nothing of the second try was kept; of the first nobody can say."""
    engine = fleet.engine()
    writing = asyncio.ensure_future(teach_named(engine, "slow_1", "a"))
    await until(lambda: sum(fleet.done("teach").values()) == 1)
    first = await holder(fleet, "slow_1")
    for name in fleet.workers.keys() - {first}:
        fleet.workers[name].engine.teach = refuse
        fleet.workers[name].engine.go.set()
    await fleet.workers[first].die()
    with pytest.raises(OutcomeUnknown):
        await writing


async def test_corrections_with_ids_whose_commit_a_living_worker_cannot_tell_of_are_taught_once(fleet):
    """Its connection to the database broke inside the commit, which was done."""
    engine = fleet.engine()
    for worker in fleet.workers.values():
        worker.engine.teach = committed_unknown(worker.engine)
    (said,) = await teach_named(engine, "bnk_1", "a")
    assert said.seq == 1
    assert [each.input for each in fleet.ledger.banks["bnk_1"]] == ["a"]
    assert sum(fleet.done("teach").values()) == 2


def committed_unknown(engine: SmallEngine):
    """The engine's teaching, where the first commit of the whole fleet is done and not told."""
    teach = engine.teach

    async def once(*args, **kwargs):
        first = not engine.ledger.places
        said = await teach(*args, **kwargs)
        if first:
            raise CommitUnknown()
        return said

    return once


async def refuse(*args, **kwargs):
    raise Capacity("the database is busy")


async def test_draining_worker_hands_over_and_nothing_fails_or_is_done_twice(fleet):
    engines = [fleet.engine(), fleet.engine()]
    sent = itertools.count()
    stop = asyncio.Event()

    async def keep_teaching(engine) -> list[str]:
        mine = []
        while not stop.is_set():
            mine.append(f"text {next(sent)}")
            await teach(engine, "bnk_1", mine[-1])
        return mine

    teaching = [asyncio.ensure_future(keep_teaching(engine)) for engine in engines for _ in range(8)]
    left = []

    async def forty_more() -> None:
        kept = fleet.ledger.banks["bnk_1"]
        enough = len(kept) + 40
        await until(lambda: len(kept) >= enough)

    for _ in range(2):
        await forty_more()
        left.append(await holder(fleet))
        await fleet.workers[left[-1]].leave()
    await fleet.add("w4")
    await forty_more()
    stop.set()
    texts = [text for mine in await asyncio.gather(*teaching) for text in mine]
    assert len(set(left)) == 2
    assert sorted(lesson.input for lesson in fleet.ledger.banks["bnk_1"]) == sorted(texts)
    assert len(texts) > 100


async def test_worker_that_restarts_at_its_address_is_another_one(coord, tmp_path):
    async with fleet_of(coord, tmp_path, "w1") as fleet:
        engine = fleet.engine()
        await teach(engine, "bnk_1", "a")
        await fleet.workers["w1"].die()
        await fleet.workers["w1"].server.close()
        (tmp_path / "w1.sock").unlink(missing_ok=True)
        again = await fleet.add("w2")
        assert again.info.id == "w2"
        assert await recall(engine, "bnk_1", "a") == "answer to a"
        assert await holder(fleet) == "w2"


async def test_worker_that_hangs_is_left_before_the_deadline_of_a_read(fleet, monkeypatch):
    monkeypatch.setattr(client_module, "PING_S", 0.1)
    engine = fleet.engine()
    await recall(engine, "bnk_1")
    first = await holder(fleet)
    for caller in fleet.workers[first].server._callers:
        caller.link._flush = lambda: None  # it reads and never answers, as a process that was stopped
    value, seconds = await lasted(recall(engine, "bnk_1"))
    assert value is None
    assert seconds < 3
    assert await holder(fleet) != first


# --- deadlines and cancelling


async def test_deadline_is_kept_and_the_worker_is_told(fleet):
    engine = fleet.engine(deadlines_s={"recall": 0.2, "teach": 1.0})
    await engine.health()
    for call, error in ((recall(engine, "slow_1"), Capacity), (teach(engine, "slow_1", "a"), OutcomeUnknown)):
        (told,), seconds = await lasted(asyncio.gather(call, return_exceptions=True))
        assert type(told) is error
        assert seconds < 2
    await until(lambda: all(worker.server.in_flight == 0 for worker in fleet.workers.values()))
    assert sum(worker.engine.cancelled["teach"] for worker in fleet.workers.values()) == 1


async def test_deadline_of_a_recall_grows_with_its_questions(fleet):
    engine = fleet.engine(deadlines_s={"recall": 0.2})
    how = {"top_k": 1, "min_confidence": None, "at": None, "explain": False, "min_seq": None}
    begin = time.monotonic()
    asked = engine.recall("tnt_1", "slow_1", [f"question {number}" for number in range(21)], **how)
    (told,), seconds = await lasted(asyncio.gather(asked, return_exceptions=True))
    assert isinstance(told, Capacity)
    assert time.monotonic() - begin > 1.1
    assert seconds < 5


async def test_cancelled_caller_cancels_the_work(fleet):
    engine = fleet.engine()
    asking = asyncio.ensure_future(recall(engine, "slow_1"))
    await until(lambda: sum(fleet.done("recall").values()) == 1)
    asking.cancel()
    await until(lambda: sum(worker.engine.cancelled["recall"] for worker in fleet.workers.values()) == 1)
    with pytest.raises(asyncio.CancelledError):
        await asking


# --- a coordinator that is emptied, down, or of another opinion


@contextlib.asynccontextmanager
async def under_load(fleet: Fleet, engine):
    """Recalls of many banks, all the time; every one must be answered."""
    banks = [f"b{number}" for number in range(20)]
    for bank in banks:
        fleet.ledger.banks[bank] = []
    stop, counts = asyncio.Event(), dict.fromkeys(banks, 0)

    async def ask(bank: str) -> None:
        while not stop.is_set():
            await recall(engine, bank)
            counts[bank] += 1
            await asyncio.sleep(0.001)

    async def beat() -> None:
        while not stop.is_set():
            for worker in fleet.workers.values():
                with contextlib.suppress(Exception):
                    await worker.beat()
            await asyncio.sleep(0.2)

    asking = [asyncio.ensure_future(ask(bank)) for bank in banks]
    beating = asyncio.ensure_future(beat())

    def asked_or_failed(times: int) -> bool:
        return min(counts.values()) >= times or any(one.done() for one in asking)

    await until(lambda: asked_or_failed(1))
    yield banks
    await until(lambda: asked_or_failed(10))
    stop.set()
    await asyncio.gather(*asking)
    await beating


async def routes_of(fleet: Fleet, banks: list[str]) -> dict[str, str]:
    """Who has each bank, once the coordinator has been told of all of them."""
    async with asyncio.timeout(PATIENCE_S):
        while None in (found := {bank: await fleet.coord.route(bank) for bank in banks}).values():  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.01)
    return found


async def test_emptied_redis_fails_no_call_and_moves_no_bank(fleet, redis_server):
    engine = fleet.engine()
    async with under_load(fleet, engine) as banks:
        before = await routes_of(fleet, banks)
        for _ in range(3):
            redis_server.flush()
            await asyncio.sleep(0.4)
        assert await routes_of(fleet, banks) == before
    asked = {name: {bank for method, bank in worker.engine.calls if method == "recall"} for name, worker in fleet.workers.items()}
    assert sum(len(banks) for banks in asked.values()) == 20, "each bank was asked of one worker only"


async def test_route_is_kept_while_it_is_used_and_ends_when_it_is_not(fleet, redis_server, monkeypatch):
    monkeypatch.setattr(routes_module, "STICKS_S", 0.02)
    monkeypatch.setattr(routes_module, "TTL_S", 0.2)
    home = choose("bnk_1", [worker.info for worker in fleet.workers.values()])[0].id
    engine = fleet.engine()
    for number in range(40):
        await recall(engine, "bnk_1")
        await asyncio.sleep(0.01)
        if number == 10:
            redis_server.flush()
    assert fleet.done("recall") == {home: 40} | dict.fromkeys(fleet.workers.keys() - {home}, 0)
    await asyncio.sleep(0.25)
    assert await fleet.coord.route("bnk_1") is None, "nobody used it"


async def test_redis_that_is_killed_and_comes_back_fails_no_call(fleet, redis_server, impatience):
    engine = fleet.engine()
    async with under_load(fleet, engine):
        redis_server.kill()
        await asyncio.sleep(1.5)
        await teach(engine, "bnk_2", "while it was down")
        redis_server.start()
        async with asyncio.timeout(PATIENCE_S):
            while redis_server.command("ZCARD", "palimpsest:{workers}:ends") < len(fleet.workers):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.01)
    assert await recall(fleet.engine(), "bnk_2", "while it was down") == "answer to while it was down"


async def test_redis_that_hangs_slows_few_calls_and_fails_none(fleet, redis_server, monkeypatch):
    engine = fleet.engine()
    await recall(engine, "bnk_1")
    banks = [f"b{number}" for number in range(20)]
    fleet.ledger.banks |= {bank: [] for bank in banks}

    async def ask_all() -> None:
        for bank in banks:
            await recall(engine, bank)
        await teach(engine, "bnk_2", "a")

    redis_server.pause()
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(redis_coord, "TIMEOUT_S", TIMEOUT_S)
            _, seconds = await lasted(ask_all())
        assert seconds < 3, "not half a second for each"
    finally:
        redis_server.resume()


async def test_worker_without_a_heartbeat_goes_from_the_list_after_its_time_and_a_moment(fleet, monkeypatch):
    engine = fleet.engine()
    await engine.health()
    await fleet.coord.leave("w1")
    await engine._live.refresh()
    assert (await engine.health())[0].detail == "3 alive", "an emptied coordinator would look the same"
    monkeypatch.setattr(live_module, "GRACE_S", 0.3)
    await until(lambda: engine.workers_alive < 3)
    assert (await engine.health())[0].detail == "2 alive"


async def test_api_learns_of_a_new_worker_at_once(fleet, monkeypatch):
    monkeypatch.setattr(live_module, "EVERY_S", LONG)
    engine = fleet.engine()
    await engine.health()
    await fleet.add("w4")
    await until(lambda: engine.workers_alive > 3)
    assert (await engine.health())[0].detail == "4 alive"


async def test_route_to_a_dead_worker_is_moved(fleet):
    await fleet.coord.claim_route("bnk_1", "dead", LONG)
    assert await recall(fleet.engine(), "bnk_1") is None
    assert await holder(fleet) in fleet.workers


async def test_it_works_on_the_coordinator_of_one_process_too(tmp_path):
    coord = MemoryCoord(time.monotonic)
    async with fleet_of(coord, tmp_path, "w1", "w2") as fleet:
        engine = fleet.engine()
        await teach(engine, "bnk_1", "a")
        await fleet.workers[await holder(fleet)].leave()
        assert await recall(engine, "bnk_1", "a") == "answer to a"


async def test_closed_engine_takes_no_calls_and_leaves_nothing_behind(fleet):
    engine = fleet.engine()
    reading = asyncio.ensure_future(recall(engine, "slow_1"))
    await until(lambda: sum(fleet.done("recall").values()) == 1)
    await engine.close()
    with pytest.raises(Capacity):
        await reading
    with pytest.raises(Capacity):
        await recall(engine, "bnk_1")
    await until(lambda: all(not worker.server._callers for worker in fleet.workers.values()))

"""Warm banks in two tiers: a bank that moved is the bank that stayed, whoever uses one keeps it, and room is never an error."""

import asyncio
import contextlib
import re
from datetime import UTC, datetime

import pytest
from fixtures_service import client_of, finished, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from saying import PIN, SPAIN

from model import Parcel, RecallConfig, Slots
from model.slots import bytes_of_slot
from model.tiers import Tier
from service.cluster.engine import Actor
from service.errors import Capacity, PalimpsestError
from service.settings import SettingsRefused
from service.store import history, tenants
from service.store.appending import Appending
from service.wire import NewCorrection
from workers.replay import Replay

SLOT = sum(bytes_of_slot(RecallConfig.tiny(encoder_digest="e" * 64)))
AMPLE = 2**26
ACTOR = Actor(key_id="test", request_id="test")
SITUATIONS = [PIN, SPAIN, "The card machine swallowed my card", "I was charged twice for one coffee", "My new phone does not show the app"]


class House:
    """A service with few slots, and its banks by name."""

    def __init__(self, service, client) -> None:
        self.service, self.client, self.engine = service, client, service.engine
        self.banks, self.housing = service.engine.banks, service.engine.banks.housing

    async def create(self, *names: str, tenant: str | None = None) -> None:
        for name in names:
            await self.engine.create_bank(tenant or self.service.tenant, name, actor=ACTOR)

    async def teach(self, bank: str, *texts: str, right: str | None = None, tenant: str | None = None):
        items = [NewCorrection(input=text, right=right or f"{bank} about {text}") for text in texts]
        return await self.engine.teach(tenant or self.service.tenant, bank, items, actor=ACTOR, idempotency_key=None)

    async def ask(self, bank: str, text: str, tenant: str | None = None) -> list[tuple]:
        """Everything that an answer is made of, but the ids."""
        asked = {"top_k": 5, "min_confidence": 0.0, "at": None, "explain": False, "min_seq": None}
        (item,), _, _ = await self.engine.recall(tenant or self.service.tenant, bank, [text], **asked)
        return [(answer.value, answer.confidence, answer.level, len(answer.support)) for answer in item.answers]

    async def best(self, bank: str, text: str) -> str | None:
        return next((value for value, *_ in await self.ask(bank, text)), None)

    async def digest(self, bank: str) -> str:
        return (await self.engine.memory(self.service.tenant, bank)).digest

    async def id_of(self, bank: str, tenant: str | None = None) -> str:
        return await self.banks.id_of(tenant or self.service.tenant, bank)

    async def where(self, *names: str, tenant: str | None = None) -> list[Tier | None]:
        found = [self.banks.peek(await self.id_of(name, tenant)) for name in names]
        return [None if warm is None else warm.tier for warm in found]

    async def on_host(self, bank: str, other: str) -> None:
        """Send a bank to the host, by the use of another one, where there is one slot."""
        await self.ask(bank, PIN)
        await self.ask(other, PIN)
        assert await self.where(bank, other) == [Tier.HOST, Tier.DEVICE]

    async def hits(self) -> dict[str, int]:
        text = (await self.client.get("/metrics")).text
        return {where: int(float(n)) for where, n in re.findall(r'palimpsest_warm_hits_total\{result="(\w+)"\} (\S+)', text)}

    async def settled(self) -> int:
        """Slots that are taken once all that was handed over is done."""
        return await self.banks._thread.run(len, self.housing.slotting.slots)

    async def check(self, slots: int, host_bytes: int) -> None:
        """Nobody uses a bank: everything is within its budget, as it is told and as it lies there."""
        taken = await self.settled()
        await asyncio.sleep(0)  # what was done is noted
        warm = self.banks.all()
        assert [bank.users for bank in warm] == [0] * len(warm)
        assert self.banks._turns == {}
        on_device = [bank for bank in warm if bank.tier is Tier.DEVICE]
        assert self.housing.bytes(Tier.DEVICE) == len(on_device) * SLOT <= slots * SLOT
        assert taken == len(on_device) == sum(isinstance(bank.place, int) for bank in on_device), "each has a slot, and nobody else"
        packed = [bank for bank in warm if bank.tier is Tier.HOST]
        assert all(isinstance(bank.place, Parcel) and bank.place.nbytes == bank.packed for bank in packed)
        assert self.housing.bytes(Tier.HOST) == sum(bank.packed + bank.beside() for bank in packed) <= host_bytes


@contextlib.asynccontextmanager
async def house(path, encoder, *, slots: int, host_bytes: int = AMPLE, **more):
    async with (
        serving(path, encoder, warm_bytes=slots * SLOT + 1, host_bytes=host_bytes, **more) as service,
        client_of(service) as client,
    ):
        yield House(service, client)


@pytest.fixture
async def one_slot(tmp_path, encoder):
    """A service with one slot and two banks that know something."""
    async with house(tmp_path / "var", encoder, slots=1) as made:
        await made.create("a", "b")
        for bank in "ab":
            await made.teach(bank, PIN, SPAIN)
        yield made


# --- a bank that moved


async def test_a_bank_that_was_lowered_and_lifted_is_bit_for_bit_the_one_that_never_moved(tmp_path, encoder):
    """Long enough for the window to hand pairs on: the wide weights move as well."""
    found = []
    for slots in (1, 50):
        async with house(tmp_path / str(slots), encoder, slots=slots, snapshot_every=10**6) as made:
            await made.create("a", "b")
            for turn in range(10):
                for bank in "ab":
                    await made.teach(
                        bank, *(f"{SITUATIONS[n % 5]} ({bank} {turn} {n})" for n in range(11)), right=f"{bank} says {turn % 4}"
                    )
            said = [await made.ask(bank, text) for text in SITUATIONS for bank in "ab"]
            found.append((said, [await made.digest(bank) for bank in "ab"]))
            hits = await made.hits()
            assert hits["cold"] == 3, "the default bank and these two were loaded once"
            assert (hits.get("host", 0) > 20) == (slots == 1)
            if slots == 1:
                warm = made.banks.peek(await made.id_of("a"))
                assert isinstance(warm.place, Parcel)
                assert len(warm.place.levels["middle"]["weights"]) > 0, "pairs were handed on"
    assert found[0] == found[1]


async def test_a_bank_on_the_host_comes_back_without_the_ledger_s_events_and_the_blob_store(one_slot, monkeypatch):
    await one_slot.on_host("a", "b")
    said, warm = await one_slot.ask("b", PIN), one_slot.banks.peek(await one_slot.id_of("a"))
    saved, version, seq = warm.saved_seq, warm.head_version, warm.view.seq
    with monkeypatch.context() as patch:
        for name in ("base", "load", "fold"):
            patch.setattr(Replay, name, None)  # to call one of them is an error
        assert await one_slot.best("a", PIN) == f"a about {PIN}"
        await one_slot.teach("a", "What is new?")
        assert await one_slot.ask("b", PIN) == said
    assert (warm.saved_seq, warm.head_version, warm.view.seq) == (saved, version, seq + 1)
    assert one_slot.banks.peek(await one_slot.id_of("a")) is warm


async def test_what_is_forgotten_while_its_bank_is_on_the_host_stays_forgotten(one_slot):
    gone = (await one_slot.teach("a", SITUATIONS[2]))[0].id
    await one_slot.on_host("a", "b")
    before = one_slot.housing.bytes(Tier.HOST)
    await one_slot.engine.forget(one_slot.service.tenant, "a", [gone], mode="suppress", reason=None, actor=ACTOR)
    assert await one_slot.where("a") == [Tier.HOST], "to hide a correction needs no weights"
    assert one_slot.housing.bytes(Tier.HOST) > before, "what is hidden is counted"
    assert f"a about {SITUATIONS[2]}" not in [value for value, *_ in await one_slot.ask("a", SITUATIONS[2])]
    await one_slot.check(1, AMPLE)


async def test_a_bank_that_finds_no_room_on_the_host_comes_back_from_the_ledger(tmp_path, encoder):
    async with house(tmp_path / "var", encoder, slots=1, host_bytes=0) as made:
        await made.create("a", "b")
        digests = {}
        for bank in "ab":
            await made.teach(bank, PIN, SPAIN)
            digests[bank] = await made.digest(bank)
        for bank in "abab":
            assert await made.digest(bank) == digests[bank]
        assert await made.where("a", "b") == [None, Tier.DEVICE]
        await made.check(1, 0)


async def test_a_drained_worker_saves_what_is_on_the_host_as_well(one_slot):
    await one_slot.teach("a", *(f"{PIN} {number}" for number in range(5)))
    await one_slot.on_host("a", "b")
    assert await one_slot.engine.settle(4) == 1
    warm = one_slot.banks.peek(await one_slot.id_of("a"))
    rows = (await one_slot.client.get("/v1/snapshots", params={"bank": "a"})).json()["items"]
    assert ("auto", warm.view.seq) in [(row["kind"], row["seq"]) for row in rows]


async def test_metrics_and_health_tell_where_banks_are(one_slot):
    await one_slot.on_host("a", "b")
    text = (await one_slot.client.get("/metrics")).text
    told = {tier: float(n) for tier, n in re.findall(r'palimpsest_warm_bytes\{tier="(\w+)"\} (\S+)', text)}
    assert told == {"device": SLOT, "host": one_slot.housing.bytes(Tier.HOST)}
    assert 0 < told["host"] < 0.25 * SLOT
    before = await one_slot.hits()
    await one_slot.ask("b", PIN)
    await one_slot.ask("a", PIN)
    one_slot.banks.drop(await one_slot.id_of("a"))
    await one_slot.digest("a")
    after = await one_slot.hits()
    assert {where: after[where] - before.get(where, 0) for where in after} == {"device": 1, "host": 1, "cold": 1}
    parts = (await one_slot.client.get("/health/ready")).json()["components"]
    assert "MiB on the host" in next(part["detail"] for part in parts if part["name"] == "model")


# --- whoever uses a bank keeps it


@contextlib.contextmanager
def halted(monkeypatch, module, name):
    """The first call of a function of the store comes to a halt: `begun` tells when, and `go` lets it go on."""
    function, begun, go = getattr(module, name), asyncio.Event(), asyncio.Event()

    async def halting(*args, **kwargs):
        if not begun.is_set():
            begun.set()
            await go.wait()
        return await function(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, halting)
        yield begun, go


async def test_a_bank_that_is_read_keeps_its_slot_whatever_else_is_asked(one_slot, monkeypatch):
    """The read halts before it looks for supporting events and asks the weights once more."""
    house = one_slot
    (hidden,) = await house.teach("a", SITUATIONS[2], right="hidden")
    await house.teach("a", SITUATIONS[3], right="hidden")
    await house.engine.forget(house.service.tenant, "a", [hidden.id], mode="suppress", reason=None, actor=ACTOR)
    alone = await house.ask("a", SITUATIONS[2])
    with halted(monkeypatch, history, "newest_of") as (begun, go):
        reading = asyncio.ensure_future(house.ask("a", SITUATIONS[2]))
        await begun.wait()
        warm = house.banks.peek(await house.id_of("a"))
        slot, bits = warm.place, warm.view.state.digest()
        await house.create("c", "d")
        for bank in "bcdb":
            await house.teach(bank, f"{PIN} in {bank}")
            assert await house.best(bank, f"{PIN} in {bank}") == f"{bank} about {PIN} in {bank}"
        assert (warm.place, warm.view.state.digest()) == (slot, bits)
        assert isinstance(slot, int)
        go.set()
        assert await reading == alone
    await house.check(1, AMPLE)


async def test_more_banks_in_use_than_slots_are_served_outside_the_slots(one_slot):
    house, names = one_slot, [f"bank {number}" for number in range(6)]
    await house.create(*names)
    alone = {}
    for name in names:
        await house.teach(name, PIN, SPAIN)
        alone[name] = await house.digest(name)
    async with contextlib.AsyncExitStack() as stack:
        used = [await stack.enter_async_context(house.banks.using(house.service.tenant, await house.id_of(name), None)) for name in names]
        assert house.housing.bytes(Tier.DEVICE) == 6 * SLOT, "what is outside is told as well"
        assert [warm.view.state.digest() for warm in used] == list(alone.values())
        for name in names:
            await house.teach(name, SITUATIONS[2])
            assert await house.best(name, SITUATIONS[2]) == f"{name} about {SITUATIONS[2]}"
        assert [house.banks.peek(warm.row.id) for warm in used] == used
        assert await house.settled() == 1
        lived = [await house.digest(name) for name in names]
    await house.check(1, AMPLE)
    for name, digest in zip(names, lived, strict=True):
        assert await house.digest(name) == digest
        house.banks.drop(await house.id_of(name))
        assert await house.digest(name) == digest
    await house.check(1, AMPLE)


async def test_a_bank_keeps_its_slot_while_its_lock_is_held(one_slot, monkeypatch):
    """A teacher halts between its append's begin and its lesson."""
    house = one_slot
    with halted(monkeypatch, Appending, "append") as (begun, go):
        teaching = asyncio.ensure_future(house.teach("a", SITUATIONS[2]))
        await begun.wait()
        warm = house.banks.peek(await house.id_of("a"))
        slot = warm.place
        for _ in range(3):
            await house.ask("b", PIN)
        assert isinstance(slot, int)
        assert warm.place == slot
        go.set()
        await teaching
    assert await house.best("a", SITUATIONS[2]) == f"a about {SITUATIONS[2]}"
    await house.check(1, AMPLE)


async def test_a_bank_that_is_replaced_while_it_is_read_has_its_slot_until_the_reader_leaves(tmp_path, encoder, monkeypatch):
    async with house(tmp_path / "var", encoder, slots=2) as made:
        await made.create("a", "b")
        await made.teach("a", PIN, SPAIN)
        await made.teach("b", PIN)
        alone = await made.ask("a", PIN)
        old = made.banks.peek(await made.id_of("a"))
        old.supports.clear()
        with halted(monkeypatch, history, "newest_of") as (begun, go):
            reading = asyncio.ensure_future(made.ask("a", PIN))
            await begun.wait()
            job = (await made.client.post("/v1/consolidations", json={"bank": "a"})).json()["job_id"]
            assert (await finished(made.client, job))["status"] == "succeeded"
            new = made.banks.peek(await made.id_of("a"))
            assert new is not old
            assert new.view.snapshot_id != old.view.snapshot_id
            await made.ask("b", PIN)
            assert isinstance(old.place, int)
            assert old.view.state.digest() == new.view.state.digest()
            go.set()
            assert await reading == alone
        assert await made.ask("a", PIN) == alone
        await made.check(2, AMPLE)


async def test_a_rollback_while_the_bank_is_read_leaves_the_reader_its_state(one_slot, monkeypatch):
    house = one_slot
    saved = await house.engine.snapshot(house.service.tenant, "a", label=None, note=None, pin=False, actor=ACTOR)
    await house.teach("a", PIN, right="the newer answer")
    house.banks.peek(await house.id_of("a")).supports.clear()
    back = {"dry_run": False, "if_match": None, "reason": None, "actor": ACTOR, "idempotency_key": None}
    with halted(monkeypatch, history, "newest_of") as (begun, go):
        reading = asyncio.ensure_future(house.best("a", PIN))
        await begun.wait()
        await house.engine.roll_back(house.service.tenant, "a", saved.id, **back)
        assert await house.best("a", PIN) == f"a about {PIN}"
        go.set()
        assert await reading == "the newer answer"
    assert await house.digest("a") == saved.digest
    await house.check(1, AMPLE)


async def test_a_bank_that_is_deleted_while_it_is_read_leaves_nothing_behind(one_slot, monkeypatch):
    house, gone = one_slot, await one_slot.id_of("a")
    await house.ask("a", PIN)
    house.banks.peek(gone).supports.clear()
    with halted(monkeypatch, history, "newest_of") as (begun, go):
        reading = asyncio.ensure_future(house.best("a", PIN))
        await begun.wait()
        await house.engine.delete_bank(house.service.tenant, "a", actor=ACTOR)
        assert await house.best("b", PIN) == f"b about {PIN}"
        go.set()
        assert await reading == f"a about {PIN}", "it was asked before"
    assert house.banks.peek(gone) is None
    await house.check(1, AMPLE)


async def test_callers_that_leave_hold_no_bank(one_slot):
    house = one_slot
    for delay in range(40):
        await house.on_host("a", "b")
        asking = asyncio.ensure_future(house.ask("a", PIN))
        for _ in range(delay):
            await asyncio.sleep(0.0003)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    await house.check(1, AMPLE)


# --- what fails


async def test_a_load_that_fails_leaves_nothing_and_the_next_one_succeeds(one_slot, monkeypatch):
    house = one_slot
    house.banks.drop(await house.id_of("a"))

    async def busy(*args, **kwargs):
        raise Capacity("the database is busy", retry_after_s=1)

    with monkeypatch.context() as patch:
        patch.setattr(history, "lessons", busy)
        said = await asyncio.gather(*(house.ask("a", PIN) for _ in range(3)), return_exceptions=True)
        assert {type(one) for one in said} == {Capacity}
    assert await house.where("a", "b") == [None, Tier.DEVICE]
    said = await asyncio.gather(*(house.best("a", PIN) for _ in range(5)))
    assert set(said) == {f"a about {PIN}"}
    await house.check(1, AMPLE)


@pytest.mark.parametrize(("owner", "name"), [(Slots, "load"), (Parcel, "of")])
async def test_a_move_that_fails_costs_its_banks_their_warmth_and_nothing_else(one_slot, monkeypatch, owner, name):
    house = one_slot
    lived = {bank: await house.digest(bank) for bank in "ab"}
    await house.on_host("a", "b")

    def fails(*args, **kwargs):
        raise MemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        with pytest.raises(MemoryError):
            await house.ask("a", PIN)
    for bank in "abab":
        assert await house.digest(bank) == lived[bank]
    await house.check(1, AMPLE)


async def test_a_device_without_room_for_a_bank_is_refused_by_name(tmp_path, encoder):
    with pytest.raises(SettingsRefused, match=f"PALIMPSEST_WARM_BYTES is 1000: a bank takes {SLOT}"):
        async with serving(tmp_path / "var", encoder, warm_bytes=1_000):
            pass
    with pytest.raises(SettingsRefused, match="PALIMPSEST_DEVICE is cuda:99"):
        async with serving(tmp_path / "var", encoder, device="cuda:99"):
            pass


# --- tenants


async def test_a_tenant_with_many_banks_does_not_push_out_what_is_within_another_s_share(tmp_path, encoder):
    async with house(tmp_path / "var", encoder, slots=4, host_bytes=0) as made:
        other = await tenants.ensure_tenant(made.service.database, "other", datetime.now(UTC))
        mine, theirs = ["a", "b"], [f"bank {number}" for number in range(7)]
        await made.create(*mine)
        await made.create(*theirs, tenant=other)
        for name in mine:
            await made.teach(name, PIN)
        for name in theirs * 2:
            await made.ask(name, PIN, tenant=other)
        assert await made.where(*mine) == [Tier.DEVICE] * 2
        assert (await made.where(*theirs, tenant=other)).count(Tier.DEVICE) == 2
        await made.teach("default", PIN)
        assert (await made.where(*mine, "default")).count(Tier.DEVICE) == 2, "beyond its share a tenant makes room for itself"
        await made.check(4, 0)


# --- any history

BANKS = "abcd"
OPERATIONS = st.tuples(
    st.sampled_from(["teach", "teach", "ask", "ask", "ask", "leave", "forget", "snapshot", "roll_back", "consolidate", "drop"]),
    st.sampled_from(BANKS),
    st.integers(0, 9),
)


class Life:
    """What happens to a few banks, several things at once, and what is known of each."""

    def __init__(self, house: House) -> None:
        self.house, self.ids, self.snapshots = house, {bank: [] for bank in BANKS}, {bank: [] for bank in BANKS}

    async def do(self, what: str, bank: str, number: int) -> None:
        with contextlib.suppress(PalimpsestError):  # a snapshot that is tainted, a head that was moved by another
            await getattr(self, what)(bank, number)

    async def teach(self, bank: str, number: int) -> None:
        texts = [f"{SITUATIONS[(number + place) % 5]} {number}" for place in range(1 + number % 3)]
        self.ids[bank] += [taught.id for taught in await self.house.teach(bank, *texts)]

    async def ask(self, bank: str, number: int) -> None:
        said = await self.house.ask(bank, f"{SITUATIONS[number % 5]} {number}")
        assert all(value.startswith(f"{bank} about ") for value, *_ in said), "another bank's answer"

    async def leave(self, bank: str, number: int) -> None:
        asking = asyncio.ensure_future(self.ask(bank, number))
        await asyncio.sleep(0.001 * number)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    async def forget(self, bank: str, number: int) -> None:
        if self.ids[bank]:
            mode = ("suppress", "rebuild", "erase")[number % 3]
            chosen = [self.ids[bank][number % len(self.ids[bank])]]
            await self.house.engine.forget(self.house.service.tenant, bank, chosen, mode=mode, reason=None, actor=ACTOR)

    async def snapshot(self, bank: str, number: int) -> None:
        made = await self.house.engine.snapshot(self.house.service.tenant, bank, label=None, note=None, pin=False, actor=ACTOR)
        self.snapshots[bank].append(made.id)

    async def roll_back(self, bank: str, number: int) -> None:
        if self.snapshots[bank]:
            to = self.snapshots[bank][number % len(self.snapshots[bank])]
            more = {"dry_run": number == 0, "if_match": None, "reason": None, "actor": ACTOR, "idempotency_key": None}
            await self.house.engine.roll_back(self.house.service.tenant, bank, to, **more)

    async def consolidate(self, bank: str, number: int) -> None:
        await self.house.client.post("/v1/consolidations", json={"bank": bank})

    async def drop(self, bank: str, number: int) -> None:
        self.house.banks.drop(await self.house.id_of(bank))

    async def jobs_ended(self) -> None:
        for job in (await self.house.client.get("/v1/jobs", params={"limit": 200})).json()["items"]:
            await finished(self.house.client, job["id"])


@settings(max_examples=8, deadline=None)
@given(
    steps=st.lists(st.lists(OPERATIONS, min_size=1, max_size=6), min_size=3, max_size=10),
    slots=st.integers(1, 3),
    host_bytes=st.sampled_from([0, 40_000, 90_000, AMPLE]),  # for none, one, two banks, and for all
)
def test_after_any_history_budgets_hold_and_banks_are_what_the_ledger_says(tmp_path_factory, encoder, steps, slots, host_bytes):
    async def lived() -> None:
        async with house(tmp_path_factory.mktemp("life") / "var", encoder, slots=slots, host_bytes=host_bytes, snapshot_every=8) as made:
            await made.create(*BANKS)
            life = Life(made)
            for step in steps:
                await asyncio.gather(*(life.do(*each) for each in step))
                assert made.housing.bytes(Tier.HOST) <= host_bytes
            await life.jobs_ended()
            while made.engine._whole.tasks:  # automatic snapshots
                await asyncio.wait(made.engine._whole.tasks)
            await made.check(slots, host_bytes)
            for bank in BANKS:
                digest = await made.digest(bank)
                made.banks.drop(await made.id_of(bank))
                assert await made.digest(bank) == digest, "replay equals the lived state"
            await made.check(slots, host_bytes)

    asyncio.run(lived())

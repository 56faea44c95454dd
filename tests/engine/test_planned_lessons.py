"""A lesson is learned by a copy while the ledger keeps it: nobody sees that before it is kept, and afterwards nobody can tell."""

import asyncio

import pytest
from fixtures_service import client_of, serving
from saying import PIN, SPAIN, ask, digest, teach

from model import Plan, Recall
from service.errors import Capacity
from service.store import banks
from service.store.appending import Appending
from workers.receipts import Receipts

STORY = [
    (PIN, "change_pin", {"paraphrases": ["How can I change my PIN code?", "My tomato plants have yellow leaves"]}),
    (SPAIN, "transfer_time", {}),
    ("Can my daughter get a card of her own?", "get_card", {}),
    (PIN, "ask_the_branch", {"wrong": "change_pin", "paraphrases": ["How can I change my PIN code?"]}),
    ("How long does a transfer to Portugal take?", "transfer_time", {}),
    ("Where do I change the PIN of my daughter's card?", "ask_the_branch", {}),
    ("Who wrote the anthem of Spain?", "nobody_knows", {}),
    (SPAIN, "a week", {"wrong": "transfer_time"}),
]


class Plans:
    """Every plan that is made, and those that were carried out."""

    def __init__(self, monkeypatch) -> None:
        self._made, self._used = [], []
        plan, carry_out = Recall.plan, Plan.carry_out

        def made(recall, state, lesson):
            self._made.append(plan(recall, state, lesson))
            return self._made[-1]

        def used(one):
            carry_out(one)
            self._used.append(one)

        monkeypatch.setattr(Recall, "plan", made)
        monkeypatch.setattr(Plan, "carry_out", used)

    @property
    def of_use(self) -> list[bool]:
        """Of each plan, whether it was carried out."""
        return [any(one is other for other in self._used) for one in self._made]


async def lived(tmp_path, encoder, *, forgetting: bool):
    """What is told of each correction of the story, and the digest afterwards; of a memory that holds a forgotten one, perhaps."""
    async with serving(tmp_path, encoder) as service, client_of(service) as client:
        told = []
        for number, (text, right, more) in enumerate(STORY):
            receipt = (await teach(client, text, right, **more))["receipt"]
            told.append((receipt["item"], receipt["paraphrase"], receipt["locality"]["n"], len(receipt["locality"]["flipped"])))
            if forgetting and number == 2:
                gone = (await client.get("/v1/events")).json()["items"][-1]["id"]
                assert (await client.post("/v1/forget", json={"corrections": [gone], "mode": "suppress"})).is_success
        return told, await digest(client)


@pytest.mark.parametrize("forgetting", [False, True], ids=["", "with a forgotten one in the weights"])
async def test_receipts_and_weights_are_the_same_as_without_a_plan(tmp_path, encoder, monkeypatch, forgetting):
    plans = Plans(monkeypatch)
    with_plans = await lived(tmp_path / "with", encoder, forgetting=forgetting)
    assert plans.of_use == [True] * len(STORY)
    monkeypatch.setattr(Recall, "plans", False)
    assert await lived(tmp_path / "without", encoder, forgetting=forgetting) == with_plans
    assert len(plans.of_use) == len(STORY)


async def test_lesson_is_not_seen_before_the_ledger_has_it_and_is_seen_then(client, service, monkeypatch):
    await teach(client, PIN, "change_pin")
    before, append, look_round = await digest(client), Appending.append, Receipts.look_round
    looked, kept, goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def noted(self, *args):
        around = await look_round(self, *args)
        looked.set()
        return around

    async def held_up(self, *args, **kwargs):
        rows = await append(self, *args, **kwargs)
        kept.set()
        await goes_on.wait()
        return rows

    monkeypatch.setattr(Receipts, "look_round", noted)
    monkeypatch.setattr(Appending, "append", held_up)
    teaching = asyncio.ensure_future(teach(client, PIN, "ask_the_branch"))
    await looked.wait()
    await kept.wait()
    said = await ask(client, PIN)
    assert (said["answers"][0]["value"], said["state"]["seq"]) == ("change_pin", 1)
    warm = service.engine.banks.peek(await service.engine.banks.id_of(service.tenant, "default"))
    assert (warm.view.state.digest(), warm.view.book.place("ask_the_branch")) == (before, None)
    goes_on.set()
    assert (await teaching)["receipt"]["item"]["after"]["value"] == "ask_the_branch"
    assert (await ask(client, PIN))["answers"][0]["value"] == "ask_the_branch"


async def test_lesson_that_the_ledger_did_not_keep_leaves_the_memory_as_it_was(client, service, monkeypatch):
    plans = Plans(monkeypatch)
    await teach(client, PIN, "change_pin")
    before, look_round = await digest(client), Receipts.look_round
    warm = service.engine.banks.peek(await service.engine.banks.id_of(service.tenant, "default"))
    looked = asyncio.Event()

    async def noted(self, *args):
        around = await look_round(self, *args)
        looked.set()
        return around

    async def refused(self, *args, **kwargs):
        await looked.wait()
        raise Capacity("the database is busy", retry_after_s=1)

    with monkeypatch.context() as patch:
        patch.setattr(Receipts, "look_round", noted)
        patch.setattr(Appending, "append", refused)
        await teach(client, SPAIN, "transfer_time", expect=503)
    assert plans.of_use == [True, False]
    assert warm is service.engine.banks.peek(warm.row.id), "it is as it was, so it stays"
    assert (await digest(client), len(warm.view.book)) == (before, 1)
    assert (await teach(client, SPAIN, "a week"))["seq"] == 2
    after = await digest(client)
    service.engine.banks.drop(warm.row.id)
    assert await digest(client) == after


async def test_correction_that_was_taken_in_by_another_process_first_is_planned_anew(client, service, monkeypatch):
    """Its plan was of a state that the ledger has left behind."""
    plans = Plans(monkeypatch)
    await teach(client, PIN, "change_pin")
    bank_id = await service.engine.banks.id_of(service.tenant, "default")
    async with service.database.write(service.tenant) as conn:
        await banks.acquire(conn, service.tenant, bank_id, "somebody else")
    assert (await teach(client, SPAIN, "transfer_time"))["seq"] == 2
    assert plans.of_use == [True, False, True]
    after = await digest(client)
    service.engine.banks.drop(bank_id)
    assert await digest(client) == after


async def test_many_banks_that_are_taught_at_once_have_the_digests_of_their_ledgers(client, service, monkeypatch):
    plans = Plans(monkeypatch)
    names = [f"bank-{number}" for number in range(12)]
    for name in names:
        assert (await client.post("/v1/banks", json={"name": name})).is_success
    for text, right, _ in STORY[:4]:
        await asyncio.gather(*(teach(client, text, right, bank=name) for name in names))
    assert 0 < sum(plans.of_use) < 4 * len(names), "there is no room for the copies of all of them"
    for name in names:
        lived = (await client.get("/v1/memory", params={"bank": name})).json()["digest"]
        service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, name))
        assert (await client.get("/v1/memory", params={"bank": name})).json()["digest"] == lived

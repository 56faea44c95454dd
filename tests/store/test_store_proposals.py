"""Proposals: kept once each, for a while and in bounds, until they are dropped; gone with what they quote."""

import itertools
from datetime import timedelta

import pytest
from keeping import NOW, new_bank, new_tenant
from world import proposed

from service.errors import NotFound
from service.store import proposals

serial = itertools.count()


@pytest.fixture
async def bank(database):
    return await new_bank(database, await new_tenant(database))


async def propose(database, bank, said: str, now=NOW):
    async with database.write(bank.tenant) as conn:
        return await proposals.propose(conn, bank.tenant, bank.id, **proposed(f"prp_{next(serial):04}", said) | {"now": now})


async def listed(database, bank) -> list[str]:
    async with database.read(bank.tenant) as conn:
        return [each.input for each in await proposals.list_proposals(conn, bank.tenant, bank.id, None, 99)]


async def test_what_is_said_again_is_the_proposal_that_there_is_and_another_bank_has_its_own(database, bank):
    beside = await new_bank(database, bank.tenant, "beside")
    first = await propose(database, bank, "one")
    assert await propose(database, bank, "one") == first
    assert (await propose(database, beside, "one")).id != first.id
    assert await listed(database, bank) == ["same one"]
    async with database.read(bank.tenant) as conn:
        assert await proposals.get_proposal(conn, bank.tenant, first.id) == first


async def test_old_ones_go_when_the_next_comes_also_where_it_says_the_same(database, bank):
    old = await propose(database, bank, "old")
    await propose(database, bank, "new", NOW + proposals.KEPT)
    assert await listed(database, bank) == ["same old", "same new"]
    again = await propose(database, bank, "old", NOW + proposals.KEPT + timedelta(seconds=1))
    assert again.id != old.id
    assert await listed(database, bank) == ["same new", "same old"]


async def test_of_too_many_the_oldest_goes(database, bank, monkeypatch):
    monkeypatch.setattr(proposals, "OPEN_MAX", 2)
    for place in range(4):
        await propose(database, bank, str(place))
    assert await listed(database, bank) == ["same 2", "same 3"]


async def test_dropped_one_is_not_found(database, bank):
    made = await propose(database, bank, "one")
    async with database.write(bank.tenant) as conn:
        await proposals.drop_proposal(conn, bank.tenant, made.id)
        await proposals.drop_proposal(conn, bank.tenant, made.id)
        with pytest.raises(NotFound):
            await proposals.get_proposal(conn, bank.tenant, made.id)


async def test_those_that_quote_a_text_go_and_no_others(database, bank):
    beside = await new_bank(database, bank.tenant, "beside")
    for said in ("a secret place", "nothing"):
        await propose(database, bank, said)
        await propose(database, beside, said)
    async with database.write(bank.tenant) as conn:
        await proposals.scrub(conn, bank.tenant, bank.id, ["secret", "unheard"])
    assert await listed(database, bank) == ["same nothing"]
    assert await listed(database, beside) == ["same a secret place", "same nothing"]

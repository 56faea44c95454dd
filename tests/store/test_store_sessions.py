"""Sessions: opened, used and closed by name; one that nobody used is gone, whether its row still lies there or not."""

import asyncio

import pytest
from keeping import NOW, append, draft, later, new_bank
from sqlalchemy import func, select
from waiting import PATIENCE_S

from service.errors import NotFound
from service.store import banks, history, sessions
from service.store.tables import session


async def opened(database, bank, name: str, at: float = 0, *, before: float = -60):
    async with database.write(bank.tenant) as conn:
        return await sessions.open_session(conn, bank.tenant, bank.id, name, now=later(at), before=later(before))


async def listed(database, bank, *, before: float = -60, after=None, limit=100) -> list[str]:
    async with database.read(bank.tenant) as conn:
        rows = await sessions.list_sessions(conn, bank.tenant, bank.id, after, limit, before=later(before))
    return [row.id for row in rows]


async def purged(database, bank, before: float, limit: int = 100) -> int:
    async with database.write(bank.tenant) as conn:
        return await sessions.purge(conn, bank.tenant, later(before), limit)


async def rows_of(database, bank) -> int:
    async with database.read(bank.tenant) as conn:
        return (await conn.execute(select(func.count()).select_from(session))).scalar()


async def test_session_that_is_opened_again_is_the_same_and_used_now(database, bank):
    first = await opened(database, bank, "ses:1@x")
    assert (first.bank, first.id, first.created_at, first.last_used_at) == (bank.id, "ses:1@x", NOW, NOW)
    again = await opened(database, bank, "ses:1@x", 30)
    assert (again.created_at, again.last_used_at) == (NOW, later(30))
    async with database.read(bank.tenant) as conn:
        assert await sessions.get_session(conn, bank.tenant, bank.id, "ses:1@x", before=later(30)) == again


async def test_session_is_gone_once_it_was_not_used_and_opened_anew_after_that(database, bank):
    await opened(database, bank, "old")
    lookups = (
        lambda conn: sessions.get_session(conn, bank.tenant, bank.id, "old", before=later(1)),
        lambda conn: sessions.use_session(conn, bank.tenant, bank.id, "old", now=later(2), before=later(1)),
        lambda conn: sessions.close_session(conn, bank.tenant, bank.id, "old", before=later(1)),
    )
    assert await listed(database, bank, before=0) == ["old"], "at the very moment it is still there"
    assert await listed(database, bank, before=1) == []
    for lookup in lookups:
        with pytest.raises(NotFound, match="old"):
            async with database.write(bank.tenant) as conn:
                await lookup(conn)
    assert await rows_of(database, bank) == 1, "its row is there"
    anew = await opened(database, bank, "old", 90, before=1)
    assert (anew.created_at, anew.last_used_at) == (later(90), later(90))


async def test_correction_opens_its_session_and_keeps_one_that_was_opened(database, bank):
    await opened(database, bank, "opened")
    await append(database, bank, draft(session_id="opened"), draft(session_id="named"), draft(), now=later(50))
    async with database.read(bank.tenant) as conn:
        told = {name: await sessions.get_session(conn, bank.tenant, bank.id, name, before=later(50)) for name in ("opened", "named")}
    assert {name: (row.created_at, row.last_used_at) for name, row in told.items()} == {
        "opened": (NOW, later(50)),
        "named": (later(50), later(50)),
    }


async def test_closing_a_session_leaves_its_events_and_their_name(database, bank):
    await append(database, bank, draft(session_id="over"))
    async with database.write(bank.tenant) as conn:
        await sessions.close_session(conn, bank.tenant, bank.id, "over", before=NOW)
    assert await listed(database, bank) == []
    async with database.read(bank.tenant) as conn:
        assert [row.session_id for row in await history.page(conn, bank.tenant, bank.id, None, 9)] == ["over"]
    with pytest.raises(NotFound):
        async with database.write(bank.tenant) as conn:
            await sessions.close_session(conn, bank.tenant, bank.id, "over", before=NOW)


async def test_sessions_of_one_name_in_two_banks_are_two(database, bank):
    other = await new_bank(database, bank.tenant, "other")
    await opened(database, bank, "same")
    await opened(database, other, "same", 10)
    async with database.write(bank.tenant) as conn:
        await sessions.close_session(conn, bank.tenant, bank.id, "same", before=NOW)
    assert (await listed(database, bank), await listed(database, other)) == ([], ["same"])


async def test_sessions_are_paged_by_id(database, bank):
    names = ["a", "b:1", "c@x", "d", "e"]
    for name in reversed(names):
        await opened(database, bank, name)
    found, after = [], None
    while page := await listed(database, bank, after=after, limit=2):
        found += page
        after = page[-1]
    assert found == names


async def test_session_of_a_bank_that_is_gone_is_not_found_and_spoils_nothing(database, bank):
    async with database.write(bank.tenant) as conn:
        await banks.delete_bank(conn, bank.tenant, bank.id, NOW)
    other = await new_bank(database, bank.tenant, "other")
    async with database.write(bank.tenant) as conn:
        with pytest.raises(NotFound, match=bank.id):
            await sessions.open_session(conn, bank.tenant, bank.id, "late", now=NOW, before=NOW)
        await sessions.open_session(conn, bank.tenant, other.id, "fine", now=NOW, before=NOW)
    assert await listed(database, other) == ["fine"]


async def test_purge_deletes_what_is_gone_in_all_the_tenants_banks_and_no_more_than_it_may(database, bank):
    other = await new_bank(database, bank.tenant, "other")
    for place in range(5):
        await opened(database, bank if place % 2 else other, f"old {place}")
    await opened(database, bank, "used", 10)
    assert await purged(database, bank, 0) == 0
    assert [await purged(database, bank, 10, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert (await listed(database, bank), await listed(database, other)) == (["used"], [])


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_purge_does_not_wait_for_a_session_that_somebody_is_using(database, bank):
    """Nor does it delete one: two that wait for each other's rows would both be stopped."""
    for name in ("used", "gone"):
        await opened(database, bank, name)
    async with database.write(bank.tenant) as user:
        await sessions.use_session(user, bank.tenant, bank.id, "used", now=later(20), before=NOW)
        async with asyncio.timeout(PATIENCE_S):  # if it waited it would do so for ever
            assert await purged(database, bank, 10) == 1
    assert await listed(database, bank) == ["used"]


async def test_openings_of_one_name_at_once_give_one_session(database, bank):
    told = await asyncio.gather(*(opened(database, bank, "same", place) for place in range(8)))
    assert {row.created_at for row in told} <= {later(place) for place in range(8)}
    assert len({row.created_at for row in told}) == 1
    assert await rows_of(database, bank) == 1

"""The change feed: a place is given once and in the order of commits, so that who has read up to one has missed nothing before it."""

import asyncio

import pytest
from keeping import NOW, append, commit, draft, forget, later, new_bank, new_tenant, state

from service.ids import new_id
from service.store import changes, forgets, webhooks


async def emit(conn, tenant: str, name: str) -> None:
    await changes.emit(conn, tenant, "correction.created", "bnk", {"name": name}, NOW)


async def publish(database, tenant: str) -> int:
    async with database.write(tenant) as conn:
        return await changes.publish(conn, tenant, NOW)


async def told(database, tenant: str, after: int = 0, **wanted) -> list:
    async with database.read(tenant) as conn:
        return await changes.page(conn, tenant, after, 100, **wanted)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer at a time
async def test_change_that_is_committed_later_comes_later(database):
    tenant = await new_tenant(database)
    async with database.write(tenant) as slow:
        await emit(slow, tenant, "begun first")
        async with database.write(tenant) as quick:
            await emit(quick, tenant, "committed first")
        assert await publish(database, tenant) == 1
        assert [(row.position, row.data["name"]) for row in await told(database, tenant)] == [(1, "committed first")]
    assert await publish(database, tenant) == 1
    assert [(row.position, row.data["name"]) for row in await told(database, tenant, 1)] == [(2, "begun first")]


async def test_places_are_given_once_however_many_do_it(database):
    tenant = await new_tenant(database)
    for number in range(9):
        async with database.write(tenant) as conn:
            await emit(conn, tenant, str(number))
    given = await asyncio.gather(*(publish(database, tenant) for _ in range(4)))
    assert sum(given) == 9
    assert [(row.position, row.data["name"]) for row in await told(database, tenant)] == [(n + 1, str(n)) for n in range(9)]
    async with database.read(tenant) as conn:
        assert (await changes.waiting(conn, tenant), await changes.last(conn, tenant)) == (False, 9)


async def test_change_of_a_transaction_that_failed_never_happened(database):
    tenant = await new_tenant(database)

    async def fail() -> None:
        async with database.write(tenant) as conn:
            await emit(conn, tenant, "x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await publish(database, tenant) == 0


async def test_what_the_store_does_is_told_with_ids_and_states_and_without_texts(database):
    tenant = await new_tenant(database)
    bank = await new_bank(database, tenant)
    (row,) = await append(database, bank, draft("a question of Olga", "an answer of Olga", session_id="s"))
    saved = await commit(database, bank, state(1))
    for gate, head in (({"passed": False}, None), ({"passed": True}, 0)):
        await commit(database, bank, state(1, kind="consolidation", gate=gate), head=head)
    await commit(database, bank, state(1, kind="rollback", parent=saved.id), head=1)
    exact = await forget(database, bank, row)
    await forget(database, bank, row, mode="suppress")
    async with database.write(tenant) as conn:
        await forgets.complete(conn, tenant, exact, {}, later(9))
        await forgets.complete(conn, tenant, exact, {}, later(9))
    await publish(database, tenant)
    rows = await told(database, tenant)
    kinds = ["correction.created", "snapshot.created", "snapshot.created", "consolidation.gate_failed"]
    kinds += ["snapshot.created", "consolidation.promoted", "snapshot.created", "rollback.done", "forget.completed", "forget.completed"]
    assert sorted(row.kind for row in rows) == sorted(kinds)
    created = next(row for row in rows if row.kind == "correction.created")
    assert created.data == {"corrections": [row.id], "first_seq": 1, "last_seq": 1}
    assert "Olga" not in str(rows)
    assert {row.bank for row in rows} == {bank.id}
    assert await told(database, tenant, kinds=["rollback.done"], banks=["another"]) == []
    assert len(await told(database, tenant, kinds=["rollback.done"], banks=[bank.id])) == 1


async def test_old_changes_go_and_their_places_do_not_come_back(database):
    tenant = await new_tenant(database)
    async with database.write(tenant) as conn:
        await webhooks.add_webhook(
            conn, tenant, id=new_id("whk"), url="https://a.example/", events=["snapshot.created"], created_by="k", now=NOW
        )
        await emit(conn, tenant, "old")
        await changes.emit(conn, tenant, "snapshot.created", "bnk", {}, NOW)
    await publish(database, tenant)
    async with database.sweep() as conn:
        assert await changes.tenants_with_old(conn, later(1)) == [tenant]
        assert await webhooks.due(conn, NOW, 9) != []
    async with database.write(tenant) as conn:
        await changes.purge(conn, tenant, later(1))
        assert await changes.first(conn, tenant) is not None, "what is still to be delivered stays"
        await emit(conn, tenant, "new")
    await publish(database, tenant)
    assert max(row.position for row in await told(database, tenant)) == 3

"""The audit is a hash chain: what was changed, taken out or cut off shows, and writers beside each other do not fork it."""

import asyncio

import pytest
from keeping import NOW, behind_its_back, later, new_tenant
from sqlalchemy import text

from service.errors import NotFound
from service.store import audit

COUNT = 7


async def note(database, tenant: str, number: int) -> None:
    async with database.write(tenant) as conn:
        detail = {"number": number, "name": "Ümlaut", "nested": {"b": [1, 2.5, None], "a": True}}
        given = {"actor": "key_1", "request_id": f"req_{number}", "action": "x", "target": "t", "detail": detail}
        await audit.record(conn, tenant, **given, now=later(number))


async def filled(database) -> str:
    tenant = await new_tenant(database)
    for number in range(COUNT):
        await note(database, tenant, number)
    return tenant


async def verified(database, tenant: str) -> audit.Verified:
    async with database.read(tenant) as conn:
        return await audit.verify(conn, tenant)


async def test_chain_of_honest_entries_holds(database):
    tenant = await filled(database)
    found = await verified(database, tenant)
    assert (found.entries, found.why) == (COUNT, None)
    async with database.read(tenant) as conn:
        newest = (await audit.page(conn, tenant, None, 1))[0]
    assert (newest.seq, newest.hash) == (COUNT, found.hash)


async def test_empty_chain_holds(database):
    assert await verified(database, await new_tenant(database)) == audit.Verified(0, "")


@pytest.mark.parametrize(
    "change",
    [
        "action = 'y'",
        "actor = 'key_2'",
        "request_id = 'r'",
        "target = 'u'",
        "detail = '{}'",
        "created_at = '2020-01-01 00:00:00'",
        "id = 'aud_x'",
    ],
)
async def test_changed_entry_is_named(database, change):
    tenant = await filled(database)
    async with behind_its_back(database) as conn:
        await conn.execute(text(f"UPDATE audit SET {change} WHERE tenant = :tenant AND seq = 4"), {"tenant": tenant})
    found = await verified(database, tenant)
    assert (found.entries, found.broken_seq, found.why) == (3, 4, "changed")
    assert found.broken_id is not None


@pytest.mark.parametrize("gone", [1, 4, COUNT])
async def test_missing_entry_is_named_also_at_the_end(database, gone):
    tenant = await filled(database)
    async with behind_its_back(database) as conn:
        await conn.execute(text("DELETE FROM audit WHERE tenant = :tenant AND seq = :seq"), {"tenant": tenant, "seq": gone})
    found = await verified(database, tenant)
    assert (found.entries, found.broken_seq, found.broken_id, found.why) == (gone - 1, gone, None, "missing")


async def test_entry_that_was_forged_with_its_own_hash_breaks_the_next(database):
    tenant = await filled(database)
    async with behind_its_back(database) as conn:
        row = (await conn.execute(text("SELECT * FROM audit WHERE tenant = :tenant AND seq = 4"), {"tenant": tenant})).one()
        forged = {"id": row.id, "actor": "key_2", "request_id": "req_3", "action": "x", "target": "t", "detail": {}}
        whole = audit.chain_hash(row.prev_hash, 4, forged, later(3))
        values = {"tenant": tenant, "hash": whole}
        statement = "UPDATE audit SET actor = 'key_2', detail = '{}', hash = :hash WHERE tenant = :tenant AND seq = 4"
        await conn.execute(text(statement), values)
    found = await verified(database, tenant)
    assert (found.entries, found.broken_seq) == (4, 5)


async def test_writers_beside_each_other_make_one_chain(database):
    tenant, other = await filled(database), await filled(database)
    await asyncio.gather(*(note(database, whose, 100 + number) for number in range(12) for whose in (tenant, other)))
    for whose in (tenant, other):
        found = await verified(database, whose)
        assert (found.entries, found.why) == (COUNT + 12, None)


async def test_entry_of_a_transaction_that_failed_leaves_no_gap(database):
    tenant = await filled(database)

    async def fail() -> None:
        async with database.write(tenant) as conn:
            await audit.record(conn, tenant, actor="a", request_id="r", action="x", target="t", detail={}, now=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await note(database, tenant, 50)
    assert (await verified(database, tenant)).entries == COUNT + 1


async def test_nobodys_audit_is_refused(database):
    with pytest.raises(NotFound):
        await note(database, "ten_nobody", 1)

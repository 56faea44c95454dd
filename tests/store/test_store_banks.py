"""Banks, tenants and keys: found by what names them, and gone whole."""

import pytest
from keeping import CONFIG, ENCODER, NOW, append, append_many, commit, draft, find, forget, later, new_bank, new_tenant, sha, state
from sqlalchemy import func, select

from service.errors import Conflict, NotFound
from service.ids import new_id
from service.store import (
    audit,
    banks,
    blob_rows,
    branches,
    bundles,
    fences,
    idempotency,
    jobs,
    lookup,
    probe_sets,
    proposals,
    quarantines,
    tenants,
)
from service.store.tables import metadata
from service.wire import Probe


async def test_new_bank_is_empty_and_without_an_owner_or_a_head(database, tenant):
    bank = await new_bank(database, tenant)
    assert (bank.seq, bank.epoch, bank.owner, bank.head, bank.head_version) == (0, 0, None, "", 0)
    assert (bank.last_hash, bank.config_hash, bank.encoder_digest, bank.created_at) == (sha(bank.id), CONFIG, ENCODER, NOW)
    assert await find(database, bank) == bank


async def test_two_banks_of_a_tenant_have_two_names_and_the_refusal_spoils_nothing(database, tenant):
    bank = await new_bank(database, tenant)

    async def twice() -> None:
        async with database.write(tenant) as conn:
            with pytest.raises(Conflict, match="'main'"):
                await banks.create_bank(conn, tenant, "main", id=new_id("bnk"), config_hash=CONFIG, encoder_digest=ENCODER, now=NOW)
            await banks.create_bank(conn, tenant, "other", id=new_id("bnk"), config_hash=CONFIG, encoder_digest=ENCODER, now=NOW)

    await twice()
    async with database.read(tenant) as conn:
        assert [each.name for each in await banks.list_banks(conn, tenant, None, 10, None)] == ["main", "other"]
        assert await banks.find_bank(conn, tenant, "main") == bank


async def test_bank_is_found_by_id_and_by_name_and_an_id_wins(database, tenant):
    first = await new_bank(database, tenant, "first")
    sly = await new_bank(database, tenant, first.id)  # named like the other's id
    async with database.read(tenant) as conn:
        assert (await banks.find_bank(conn, tenant, first.id)).id == first.id
        assert (await banks.find_bank(conn, tenant, "first")).id == first.id
        assert (await banks.find_bank(conn, tenant, sly.id)).id == sly.id
        for unknown in ("First", "", "bnk_unknown", "first' OR '1'='1", "%"):
            with pytest.raises(NotFound):
                await banks.find_bank(conn, tenant, unknown)


async def test_banks_are_paged_by_id_and_a_pinned_key_sees_its_own(database, tenant):
    made = sorted([(await new_bank(database, tenant, f"bank {n}")).id for n in range(5)])
    async with database.read(tenant) as conn:
        told, after = [], None
        while page := await banks.list_banks(conn, tenant, after, 2, None):
            told += [bank.id for bank in page]
            after = told[-1]
        assert told == made
        assert [bank.id for bank in await banks.list_banks(conn, tenant, None, 10, [made[3], made[1]])] == [made[1], made[3]]
        assert await banks.list_banks(conn, tenant, None, 10, []) == []


async def test_acquiring_raises_the_epoch_and_names_the_owner(database, bank):
    for epoch, owner in enumerate(("one", "two", "two"), start=1):
        async with database.write(bank.tenant) as conn:
            taken = await banks.acquire(conn, bank.tenant, bank.id, owner)
        assert (taken.epoch, taken.owner) == (epoch, owner)
    assert await find(database, bank) == taken
    async with database.write(bank.tenant) as conn:
        with pytest.raises(NotFound):
            await banks.acquire(conn, bank.tenant, "bnk_unknown", "one")


async def test_fence_of_a_bank_changes_with_each_owner_and_each_head(database, bank):
    async def standing() -> fences.Fence | None:
        return await fences.fence(database.asking(bank.tenant), bank.tenant, bank.id)

    assert await standing() == (0, 0)
    async with database.write(bank.tenant) as conn:
        await banks.acquire(conn, bank.tenant, bank.id, "one")
    assert await standing() == (1, 0)
    await append(database, bank, draft(), epoch=1)
    assert await standing() == (1, 0), "an append is the owner's own"
    await commit(database, bank, state(), head=0)
    assert await standing() == (1, 1)
    async with database.write(bank.tenant) as conn:
        await banks.delete_bank(conn, bank.tenant, bank.id, NOW)
    assert await standing() is None


async def test_deleted_bank_leaves_no_row_and_its_neighbour_whole(database, tenant):
    async def filled(name: str, levels: dict[str, str]):
        bank = await new_bank(database, tenant, name)
        rows = await append(database, bank, draft(f"{name} 1", session_id="s"), draft(f"{name} 2"))
        saved = state(2, levels)
        async with database.write(tenant) as conn:
            await blob_rows.stage(conn, tenant, [(level.sha256, level.bytes) for level in saved.levels], NOW)
        await commit(database, bank, saved, head=0)
        await forget(database, bank, rows[0])
        async with database.write(tenant) as conn:
            await jobs.enqueue(conn, tenant, kind="rebuild", bank=bank.id, payload={}, dedupe=name, now=NOW)
            await idempotency.begin(conn, tenant, name, request_hash=b"r" * 32, now=NOW, lease_s=60)
            await idempotency.mark_committed(conn, tenant, name, bank=bank.id, first_seq=1, last_seq=2)
            await lookup.add_drift(conn, tenant, bank.id, saved.id, {"fast": 0.5}, NOW)
            probes = [Probe(input=name, expected=None)]
            await probe_sets.add_probe_set(conn, tenant, bank.id, id=f"prb_{name}", name=name, probes=probes, created_by="k", now=NOW)
            said = {"input": name, "wrong": "a", "right": "b", "session_id": None, "created_by": "k", "now": NOW}
            await proposals.propose(conn, tenant, bank.id, id=f"prp_{name}", **said)
            given = {"event_ids": [rows[1].id], "reason": None, "created_by": "k", "now": NOW}
            await quarantines.add(conn, tenant, bank.id, source=quarantines.Source(session="s"), **given)
            await bundles.add(conn, tenant, bank.id, id=f"exp_{name}", spans=((0, 2),), manifest=b"m", data=b"d", now=NOW)
            await branches.add(conn, tenant, origin.id, id=bank.id, spans=((0, 1),), created_by="k", now=NOW)
        return bank

    async def counts() -> dict[str, int]:
        found = {}
        async with database.read(tenant) as conn:
            for name, table in metadata.tables.items():
                found[name] = (await conn.execute(select(func.count()).select_from(table))).scalar()
        return found

    untouched = ("tenant", "api_key", "sign_in", "audit", "erased_tenant", "trail", "webhook", "delivery")
    origin = await new_bank(database, tenant, "origin")
    kept = await filled("kept", {"fast": "shared", "slow": "of the kept"})
    alone = await counts()
    gone = await filled("gone", {"fast": "shared", "slow": "of the gone"})
    both = await counts()
    assert {name for name in alone if both[name] == alone[name]} == set(untouched), "the bank to go is in every other table"
    async with database.write(tenant) as conn:
        condemned = await banks.delete_bank(conn, tenant, gone.id, NOW)
    assert condemned == [sha("of the gone")]
    async with database.write(tenant) as conn:
        assert await blob_rows.begin_delete(conn, tenant, condemned, now=NOW, before=NOW) == condemned
        await blob_rows.strike(conn, tenant, condemned)
    left = {name: both[name] for name in ("change", "forget")}
    assert await counts() == alone | left, "who follows the feed is still told of it, and what was forgotten can be proved"
    assert (await find(database, kept)).seq == 2
    async with database.write(tenant) as conn:
        with pytest.raises(NotFound):
            await banks.delete_bank(conn, tenant, gone.id, NOW)
    await new_bank(database, tenant, "gone")


async def add_key(database, tenant: str, secret: str, **more):
    given = {"name": "agent", "prefix": "pal_abc", "scopes": ["recall:read"], "banks": None, "expires_at": None}
    async with database.write(tenant) as conn:
        return await tenants.add_key(conn, tenant, id=new_id("key"), lookup_hash=sha(secret).encode()[:32], **given | more, now=NOW)


async def look_up(database, secret: str):
    async with database.read_key(sha(secret).encode()[:32]) as conn:
        return await tenants.find_key(conn, sha(secret).encode()[:32])


async def test_key_is_found_by_its_hash_alone_and_comes_without_it(database, tenant):
    added = await add_key(database, tenant, "secret", scopes=["recall:read", "admin"], banks=["bnk_1"], expires_at=later(5))
    found = await look_up(database, "secret")
    assert found == added
    assert (found.tenant, found.scopes, found.banks, found.expires_at) == (tenant, ("recall:read", "admin"), ("bnk_1",), later(5))
    assert not [name for name in found.__struct_fields__ if "hash" in name]
    assert await look_up(database, "Secret") is None
    assert await look_up(database, "") is None


async def test_key_pinned_to_no_bank_differs_from_one_that_is_not_pinned(database, tenant):
    assert (await add_key(database, tenant, "one", banks=[])).banks == ()
    assert (await add_key(database, tenant, "two", banks=None)).banks is None


async def test_two_keys_never_have_one_secret(database, tenant):
    await add_key(database, tenant, "secret")
    with pytest.raises(Exception, match=r"(?i)unique"):
        await add_key(database, await new_tenant(database), "secret")


async def test_revoked_key_keeps_the_time_of_its_first_revocation(database, tenant):
    key = await add_key(database, tenant, "secret")
    assert key.revoked_at is None
    for at in (10, 20):
        async with database.write(tenant) as conn:
            assert (await tenants.revoke_key(conn, tenant, key.id, later(at))).revoked_at == later(10)
    assert (await look_up(database, "secret")).revoked_at == later(10)
    async with database.write(tenant) as conn:
        with pytest.raises(NotFound):
            await tenants.revoke_key(conn, tenant, "key_unknown", NOW)


async def test_use_of_a_key_is_noted(database, tenant):
    key, other = await add_key(database, tenant, "secret"), await add_key(database, tenant, "other")
    async with database.write(tenant) as conn:
        await tenants.touch_key(conn, tenant, key.id, later(3))
    async with database.read(tenant) as conn:
        assert (await tenants.get_key(conn, tenant, key.id)).last_used_at == later(3)
        assert (await tenants.get_key(conn, tenant, other.id)).last_used_at is None


async def test_keys_are_paged_by_id(database, tenant):
    async with database.read(tenant) as conn:
        assert not await tenants.any_key(conn, tenant)
    made = sorted([(await add_key(database, tenant, f"secret {n}")).id for n in range(3)])
    async with database.read(tenant) as conn:
        assert await tenants.any_key(conn, tenant)
        assert [key.id for key in await tenants.list_keys(conn, tenant, None, 2)] == made[:2]
        assert [key.id for key in await tenants.list_keys(conn, tenant, made[1], 2)] == made[2:]
        with pytest.raises(NotFound):
            await tenants.get_key(conn, tenant, "key_unknown")


async def test_tenant_is_found_by_its_exact_name(database):
    made = await tenants.ensure_tenant(database, "Acme", NOW)
    assert await tenants.ensure_tenant(database, "Acme", NOW) == made
    async with database.sweep() as conn:
        assert await tenants.find_tenant(conn, "Acme") == made
        assert await tenants.find_tenant(conn, "acme") is None


async def test_audit_is_read_newest_first_page_by_page(database, tenant, monkeypatch):
    ids = iter(f"aud_{n}" for n in range(5))
    monkeypatch.setattr(audit, "new_id", lambda _prefix: next(ids))  # made within a millisecond they have no order of their own
    for n in range(5):
        async with database.write(tenant) as conn:
            detail = {"n": n, "none": None}
            await audit.record(
                conn, tenant, actor="key_1", request_id=f"req_{n}", action="teach", target="bnk_1", detail=detail, now=later(n)
            )
    async with database.read(tenant) as conn:
        first = await audit.page(conn, tenant, None, 3)
        rest = await audit.page(conn, tenant, first[-1].seq, 3)
    assert [row.request_id for row in first + rest] == ["req_4", "req_3", "req_2", "req_1", "req_0"]
    assert (first[0].actor, first[0].action, first[0].target, first[0].created_at) == ("key_1", "teach", "bnk_1", later(4))
    assert first[0].detail == {"n": 4, "none": None}


async def test_ledger_of_a_deleted_bank_does_not_haunt_a_new_one(database, tenant):
    bank = await new_bank(database, tenant)
    await append_many(database, bank, 3)
    async with database.write(tenant) as conn:
        await banks.delete_bank(conn, tenant, bank.id, NOW)
    again = await new_bank(database, tenant)
    assert again.id != bank.id
    (row,) = await append(database, again, draft(right="new"))
    assert (row.seq, row.response) == (1, 0)

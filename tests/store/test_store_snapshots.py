"""Snapshots and heads: committed whole, the head moved by compare-and-swap, weights given up for good."""

import asyncio

import pytest
from keeping import NOW, commit, find, later, new_bank, sha, state
from sqlalchemy import func, select

from service.errors import HeadMoved, NotFound, NotOwner
from service.store import banks, blob_rows, snapshots
from service.store.tables import blob, head, snapshot


async def kept(database, tenant: str) -> dict:
    async with database.read(tenant) as conn:
        rows = {table.name: (await conn.execute(select(func.count()).select_from(table))).scalar() for table in (snapshot, head)}
        return rows | {"blobs": (await conn.execute(select(blob).order_by(blob.c.sha256))).all()}


async def stage(database, tenant: str, *contents: str) -> None:
    async with database.write(tenant) as conn:
        await blob_rows.stage(conn, tenant, [(sha(content), len(content)) for content in contents], NOW)


async def states_of_blobs(database, tenant: str) -> dict[str, str]:
    async with database.read(tenant) as conn:
        rows = await conn.execute(select(blob.c.sha256, blob.c.state).where(blob.c.tenant == tenant))
        return {row.sha256: row.state for row in rows}


async def test_snapshot_is_read_as_it_was_committed(database, bank):
    saved = state(
        7,
        {"fast": "a", "slow": "b"},
        kind="consolidation",
        parent="snp_0",
        spans=((0, 3), (5, 7)),
        clock={"tokens": 99, "events": 5},
        label="before the sale",
        note="Où ? 💳",
        pinned=True,
        gate={"passed": True, "before": 0.5, "after": 1.0, "lost": []},
    )
    await stage(database, bank.tenant, "a", "b")
    told = await commit(database, bank, saved, now=later(0.25))
    async with database.read(bank.tenant) as conn:
        found = await snapshots.get_snapshot(conn, bank.tenant, saved.id, bank.id)
    assert found == told
    assert {name: getattr(found, name) for name in saved.__struct_fields__} == {
        name: getattr(saved, name) for name in saved.__struct_fields__
    }
    assert (found.bank, found.created_at, found.destroyed_at) == (bank.id, later(0.25), None)


async def test_commit_without_a_move_leaves_the_head(database, bank):
    await commit(database, bank, state())
    now = await find(database, bank)
    assert (now.head, now.head_version) == ("", 0)


async def test_head_moves_one_version_at_a_time_and_its_history_is_kept(database, bank):
    saved = [state(n) for n in range(3)]
    for version, each in enumerate(saved):
        await commit(database, bank, each, head=version, now=later(version))
        now = await find(database, bank)
        assert (now.head, now.head_version) == (each.id, version + 1)
    async with database.read(bank.tenant) as conn:
        history = await snapshots.heads(conn, bank.tenant, bank.id)
    assert [(row.version, row.snapshot, row.created_at) for row in history] == [
        (3, saved[2].id, later(2)),
        (2, saved[1].id, later(1)),
        (1, saved[0].id, NOW),
    ]
    assert {(row.moved_by, row.reason) for row in history} == {("key_1", "test")}


LOST = {
    "head moved on": ({"head": 0}, HeadMoved),
    "head of the future": ({"head": 2}, HeadMoved),
    "another owner": ({"epoch": 0}, NotOwner),
    "another owner, right head": ({"head": 1, "epoch": 0}, HeadMoved),
}


@pytest.mark.parametrize(("how", "error"), LOST.values(), ids=LOST.keys())
async def test_lost_compare_and_swap_keeps_nothing(database, bank, how, error):
    await commit(database, bank, state(), head=0)
    async with database.write(bank.tenant) as conn:
        await banks.acquire(conn, bank.tenant, bank.id, "worker")
    await stage(database, bank.tenant, "x")
    before, bank_before = await kept(database, bank.tenant), await find(database, bank)
    with pytest.raises(error):
        await commit(database, bank, state(1, {"fast": "x"}), **how)
    assert await kept(database, bank.tenant) == before
    assert await find(database, bank) == bank_before
    await commit(database, bank, state(1, {"fast": "x"}), head=1, epoch=1)


async def test_snapshot_of_a_bank_that_is_gone_is_refused(database, bank):
    async with database.write(bank.tenant) as conn:
        await banks.delete_bank(conn, bank.tenant, bank.id, NOW)
    with pytest.raises(NotFound):
        await commit(database, bank, state())


async def test_one_of_many_moves_the_head(database, bank):
    saved = [state(n) for n in range(6)]
    told = await asyncio.gather(*(commit(database, bank, each, head=0) for each in saved), return_exceptions=True)
    (winner,) = [each for each in told if not isinstance(each, Exception)]
    assert {type(each) for each in told if each is not winner} == {HeadMoved}
    assert (await find(database, bank)).head == winner.id
    assert (await kept(database, bank.tenant))["snapshot"] == 1


async def test_snapshots_that_are_committed_at_once_have_an_order(database, bank):
    saved = [state(n) for n in range(6)]
    await asyncio.gather(*(commit(database, bank, each) for each in saved))
    async with database.read(bank.tenant) as conn:
        assert {row.id for row in await snapshots.usable(conn, bank.tenant, bank.id)} == {each.id for each in saved}


async def test_snapshots_are_paged_newest_first_also_beside_a_destroyed_one(database, bank):
    other = await new_bank(database, bank.tenant, "other")
    made = []
    for n in range(6):
        made.append((await commit(database, bank, state(n))).id)
        await commit(database, other, state(n))
    async with database.write(bank.tenant) as conn:
        await snapshots.destroy_snapshots(conn, bank.tenant, bank.id, [made[2]], NOW)
    async with database.read(bank.tenant) as conn:
        told, after = [], None
        while page := await snapshots.list_snapshots(conn, bank.tenant, bank.id, after, 2):
            told += [row.id for row in page]
            after = told[-1]
        assert told == [made[5], made[4], made[3], made[1], made[0]]
        assert [row.id for row in await snapshots.usable(conn, bank.tenant, bank.id)] == told
        assert [row.id for row in await snapshots.list_snapshots(conn, bank.tenant, bank.id, made[2], 9)] == [made[1], made[0]]


async def test_destroyed_snapshot_is_known_and_its_own_blobs_are_condemned(database, bank):
    await stage(database, bank.tenant, "shared", "own", "other")
    doomed = await commit(database, bank, state(1, {"fast": "own", "slow": "shared"}))
    await commit(database, bank, state(2, {"fast": "other", "slow": "shared"}))
    async with database.write(bank.tenant) as conn:
        assert await snapshots.destroy_snapshots(conn, bank.tenant, bank.id, [doomed.id], later(5)) == [sha("own")]
    async with database.read(bank.tenant) as conn:
        assert (await snapshots.get_snapshot(conn, bank.tenant, doomed.id)).destroyed_at == later(5)
    assert await states_of_blobs(database, bank.tenant) == {sha("shared"): "live", sha("own"): "condemned", sha("other"): "live"}


async def test_destruction_in_another_bank_takes_nothing(database, bank):
    other = await new_bank(database, bank.tenant, "other")
    await stage(database, bank.tenant, "x")
    saved = await commit(database, bank, state(1, {"fast": "x"}))
    async with database.write(bank.tenant) as conn:
        assert await snapshots.destroy_snapshots(conn, bank.tenant, other.id, [saved.id], NOW) == []
    async with database.read(bank.tenant) as conn:
        assert (await snapshots.get_snapshot(conn, bank.tenant, saved.id)).destroyed_at is None
        with pytest.raises(NotFound):
            await snapshots.get_snapshot(conn, bank.tenant, saved.id, other.id)
        with pytest.raises(NotFound):
            await snapshots.get_snapshot(conn, bank.tenant, "snp_unknown")


async def test_spare_autos_are_the_oldest_that_nobody_named_or_pinned(database, bank):
    made = {}
    for name, how in {
        "oldest": {"kind": "auto"},
        "pinned": {"kind": "auto", "pinned": True},
        "labelled": {"kind": "auto", "label": "good"},
        "manual": {"kind": "manual"},
        "genesis": {"kind": "genesis"},
        "destroyed": {"kind": "auto"},
        "older": {"kind": "auto"},
        "newer": {"kind": "auto"},
        "newest": {"kind": "auto"},
    }.items():
        made[name] = (await commit(database, bank, state(**how))).id
    async with database.write(bank.tenant) as conn:
        await snapshots.destroy_snapshots(conn, bank.tenant, bank.id, [made["destroyed"]], NOW)
    async with database.read(bank.tenant) as conn:
        for keep, spare in {0: 4, 1: 3, 2: 2, 4: 0, 9: 0}.items():
            wanted = [made[name] for name in ("newest", "newer", "older", "oldest")][4 - spare :]
            assert await snapshots.spare_autos(conn, bank.tenant, bank.id, keep) == wanted


async def test_candidates_that_their_gate_refused_are_spare_as_automatic_snapshots_are_and_counted_apart(database, bank):
    made, refused = {}, {"kind": "consolidation", "gate": {"passed": False}}
    for name, how in {
        "first": refused,
        "pinned": refused | {"pinned": True},
        "labelled": refused | {"label": "look at this"},
        "promoted": {"kind": "consolidation", "gate": {"passed": True}},
        "older": {"kind": "auto"},
        "second": refused,
        "newer": {"kind": "auto"},
        "third": refused,
    }.items():
        made[name] = (await commit(database, bank, state(**how))).id
    spares = {0: ("newer", "older", "third", "second", "first"), 1: ("older", "second", "first"), 2: ("first",), 3: ()}
    async with database.read(bank.tenant) as conn:
        for keep, spare in spares.items():
            assert await snapshots.spare_autos(conn, bank.tenant, bank.id, keep) == [made[name] for name in spare]


async def test_blobs_in_use_are_those_of_kept_snapshots_of_all_banks(database, bank):
    other = await new_bank(database, bank.tenant, "other")
    await stage(database, bank.tenant, "a", "b", "c")
    saved = await commit(database, bank, state(1, {"fast": "a", "slow": "b"}))
    await commit(database, other, state(1, {"fast": "b"}))
    async with database.write(bank.tenant) as conn:
        assert await blob_rows.in_use(conn, bank.tenant) == {sha("a"), sha("b")}
        await snapshots.destroy_snapshots(conn, bank.tenant, bank.id, [saved.id], NOW)
        assert await blob_rows.in_use(conn, bank.tenant) == {sha("b")}
        assert await blob_rows.condemn_unused(conn, bank.tenant, [sha("b"), sha("c")]) == [sha("c")]
    assert await states_of_blobs(database, bank.tenant) == {sha("a"): "condemned", sha("b"): "live", sha("c"): "condemned"}

"""Rows about blobs: whatever processes stage, need, condemn and delete at once, the bytes of a kept snapshot are there."""

import asyncio
import hashlib
import random
from collections import Counter

import pytest
import pytest_asyncio
from keeping import NOW, commit, later, new_bank, new_tenant, sha, state
from msgspec import structs
from sqlalchemy import select

from service.store import blob_rows, snapshots
from service.store.blob_rows import BeingDeleted
from service.store.blobs import LocalBlobs
from service.store.db import Database
from service.store.rows import LevelBlob, SnapshotDraft
from service.store.tables import blob

HOUR = 3_600


async def stage(database, tenant: str, *contents: str, at: float = 0.0) -> dict[str, str]:
    async with database.write(tenant) as conn:
        return await blob_rows.stage(conn, tenant, [(sha(content), len(content)) for content in contents], later(at))


async def condemn(database, tenant: str, *contents: str) -> list[str]:
    async with database.write(tenant) as conn:
        return await blob_rows.condemn_unused(conn, tenant, [sha(content) for content in contents])


async def begin_delete(database, tenant: str, *contents: str, at: float = 0.0) -> list[str]:
    async with database.write(tenant) as conn:
        return await blob_rows.begin_delete(conn, tenant, [sha(content) for content in contents], now=later(at), before=later(at - HOUR))


async def strike(database, tenant: str, *contents: str) -> None:
    async with database.write(tenant) as conn:
        await blob_rows.strike(conn, tenant, [sha(content) for content in contents])


async def destroy(database, bank, saved) -> list[str]:
    async with database.write(bank.tenant) as conn:
        return await snapshots.destroy_snapshots(conn, bank.tenant, bank.id, [saved.id], NOW)


async def left_over(database, at: float) -> dict[str, list[str]]:
    async with database.sweep() as conn:
        found = await blob_rows.left_over(conn, later(at - HOUR))
    return {tenant: sorted(digests) for tenant, digests in found.items()}


async def states(database, tenant: str) -> dict[str, str]:
    async with database.read(tenant) as conn:
        rows = await conn.execute(select(blob.c.sha256, blob.c.state).where(blob.c.tenant == tenant))
        return {row.sha256: row.state for row in rows}


async def state_of(database, tenant: str, content: str) -> str:
    return (await states(database, tenant)).get(sha(content), "gone")


async def test_blob_goes_from_pending_to_gone_and_comes_back_while_its_bytes_are_untouched(database, bank):
    tenant, told = bank.tenant, []

    async def now() -> None:
        told.append(await state_of(database, tenant, "x"))

    await stage(database, tenant, "x")
    await now()
    saved = await commit(database, bank, state(1, {"fast": "x"}))
    await stage(database, tenant, "x")  # another snapshot is about to write the same bytes
    await now()
    await destroy(database, bank, saved)
    await now()
    await stage(database, tenant, "x")
    await now()
    assert await begin_delete(database, tenant, "x") == [], "who wanted to delete its bytes finds that it may not"
    again = await commit(database, bank, state(2, {"fast": "x"}))
    await now()
    await destroy(database, bank, again)
    assert await begin_delete(database, tenant, "x", "y") == [sha("x")]
    await now()
    await strike(database, tenant, "x")
    await now()
    await stage(database, tenant, "x")
    await now()
    assert told == ["pending", "live", "condemned", "pending", "live", "deleting", "gone", "pending"]


async def test_save_never_relies_on_bytes_that_are_being_deleted(database, bank):
    await stage(database, bank.tenant, "x", "y")
    await condemn(database, bank.tenant, "x")
    await begin_delete(database, bank.tenant, "x")
    with pytest.raises(BeingDeleted, match=sha("x")) as refused:
        await stage(database, bank.tenant, "y", "x", "z")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
    assert await states(database, bank.tenant) == {sha("x"): "deleting", sha("y"): "pending"}, "nothing of it was kept"
    with pytest.raises(BeingDeleted, match=sha("x")):  # staged before the deletion began
        await commit(database, bank, state(1, {"fast": "x", "slow": "y"}), head=0)
    assert await states(database, bank.tenant) == {sha("x"): "deleting", sha("y"): "pending"}
    await strike(database, bank.tenant, "x")
    with pytest.raises(BeingDeleted, match=sha("x")):  # staged before, and gone by now
        await commit(database, bank, state(1, {"fast": "x", "slow": "y"}), head=0)
    await stage(database, bank.tenant, "x", "y")
    await commit(database, bank, state(1, {"fast": "x", "slow": "y"}), head=0)


async def test_bytes_that_were_deleted_and_staged_by_another_since_are_not_relied_on(database, bank):
    """They are still to come, and may never: only the row looks as before."""

    async def save(births: dict[str, str]) -> None:
        async with database.write(bank.tenant) as conn:
            await snapshots.commit_snapshot(
                conn, bank.tenant, bank.id, state(1, {"fast": "x"}), now=NOW, epoch=None, move_head=None, staged=births
            )

    mine = await stage(database, bank.tenant, "x")
    assert await stage(database, bank.tenant, "x") == mine, "both write the same bytes into the same place"
    await condemn(database, bank.tenant, "x")
    assert await stage(database, bank.tenant, "x") == mine, "the bytes were not touched"
    await condemn(database, bank.tenant, "x")
    await begin_delete(database, bank.tenant, "x")
    await strike(database, bank.tenant, "x")
    theirs = await stage(database, bank.tenant, "x")
    for wrong in (mine, {}):
        with pytest.raises(BeingDeleted):
            await save(wrong)
    await save(theirs)
    await save({})  # a kept snapshot needs them by now, so they are there


async def test_blob_that_a_kept_snapshot_needs_is_not_deleted_whatever_its_row_says(database, bank):
    await stage(database, bank.tenant, "x")
    await commit(database, bank, state(1, {"fast": "x"}))
    async with database.write(bank.tenant) as conn:
        await conn.execute(blob.update().values(state="condemned"))
    assert await begin_delete(database, bank.tenant, "x") == []
    assert await state_of(database, bank.tenant, "x") == "live"
    assert await condemn(database, bank.tenant, "x") == []


async def test_blob_that_is_being_deleted_is_not_condemned_again_and_only_it_is_struck(database, tenant):
    await stage(database, tenant, "going", "condemned", "pending")
    await condemn(database, tenant, "going", "condemned")
    await begin_delete(database, tenant, "going")
    assert await condemn(database, tenant, "going") == []
    assert await begin_delete(database, tenant, "going") == [], "somebody is at it"
    await strike(database, tenant, "going", "condemned", "pending")
    assert await states(database, tenant) == {sha("condemned"): "condemned", sha("pending"): "pending"}


async def test_what_a_process_left_is_found_after_an_hour_and_taken_by_one(database, tenant):
    other = await new_tenant(database)
    await stage(database, tenant, "staged", "condemned", "going")
    await stage(database, tenant, "staged later", at=HOUR)
    await stage(database, other, "staged")
    await condemn(database, tenant, "condemned", "going")
    await begin_delete(database, tenant, "going", at=60)
    assert await left_over(database, HOUR) == {tenant: [sha("condemned")]}
    assert await left_over(database, HOUR + 1) == {tenant: sorted([sha("condemned"), sha("staged")]), other: [sha("staged")]}
    late = HOUR + 61
    found = await left_over(database, late)
    assert found[tenant] == sorted([sha("condemned"), sha("going"), sha("staged")])
    everything = ("staged", "staged later", "condemned", "going")
    assert await begin_delete(database, tenant, *everything, at=late) == found[tenant]
    assert await begin_delete(database, tenant, *everything, at=late) == [], "the second comes too late"
    assert await left_over(database, late) == {other: [sha("staged")]}
    assert await state_of(database, other, "staged") == "pending"


async def test_blob_that_is_staged_again_is_as_young_as_a_new_one(database, tenant):
    await stage(database, tenant, "x")
    await stage(database, tenant, "x", at=HOUR)
    assert await left_over(database, HOUR + 60) == {}
    assert await begin_delete(database, tenant, "x", at=HOUR + 60) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_deletions_of_the_dead_are_anybodys_at_a_start(database, tenant):
    await stage(database, tenant, "x")
    await condemn(database, tenant, "x")
    await begin_delete(database, tenant, "x")
    async with database.sweep() as conn:
        await blob_rows.release_deletions(conn)
    assert await left_over(database, 1) == {tenant: [sha("x")]}
    assert await begin_delete(database, tenant, "x") == [sha("x")]


# --- several processes at once


PROCESSES = 4


@pytest_asyncio.fixture
async def others(database_url):
    """The same database as other processes see it."""
    opened = [Database(database_url) for _ in range(PROCESSES)]
    yield opened
    for other in opened:
        await other.close()


class Saver:
    """A process that saves snapshots of few different contents, looks whether their bytes are there, and destroys them again."""

    def __init__(self, database: Database, bank, blobs: LocalBlobs, dice: random.Random, told: Counter) -> None:
        self.database, self.bank, self.blobs, self.dice, self.told = database, bank, blobs, dice, told

    async def run(self, rounds: int) -> None:
        for _ in range(rounds):
            try:
                saved = await self._save()
            except BeingDeleted:
                self.told["refused"] += 1
                continue
            self.told["saved"] += 1
            for _ in range(self.dice.randint(1, 3)):
                await asyncio.sleep(self.dice.random() / 200)
                for level in saved.levels:
                    await self.blobs.get(self.bank.tenant, level.sha256)  # raises when they are gone
            await self.drop(await destroy(self.database, self.bank, saved))

    async def _save(self) -> SnapshotDraft:
        levels, births, tenant = [], {}, self.bank.tenant
        for name in ("fast", "slow"):
            data = f"content {self.dice.randint(0, 3)}".encode()
            async with self.database.write(tenant) as conn:
                births |= await blob_rows.stage(conn, tenant, [(hashlib.sha256(data).hexdigest(), len(data))], NOW)
            await asyncio.sleep(self.dice.random() / 500)
            levels.append(LevelBlob(name=name, sha256=await self.blobs.put(tenant, data), bytes=len(data)))
            await asyncio.sleep(self.dice.random() / 500)
        draft = structs.replace(state(), levels=tuple(levels))
        async with self.database.write(tenant) as conn:
            wanted = {"now": NOW, "epoch": None, "move_head": None, "staged": births}
            return await snapshots.commit_snapshot(conn, tenant, self.bank.id, draft, **wanted)

    async def drop(self, digests: list[str], at: float = 0.0) -> None:
        tenant = self.bank.tenant
        async with self.database.write(tenant) as conn:
            doomed = await blob_rows.begin_delete(conn, tenant, digests, now=later(at), before=later(at - HOUR))
        for digest in doomed:
            await asyncio.sleep(self.dice.random() / 500)
            await self.blobs.delete(tenant, digest)
            self.told["deleted"] += 1
        async with self.database.write(tenant) as conn:
            await blob_rows.strike(conn, tenant, doomed)


async def test_no_kept_snapshot_loses_its_bytes_to_other_processes(database, others, tenant, tmp_path):
    blobs, told = LocalBlobs(tmp_path / "objects"), Counter()
    banks = [await new_bank(database, tenant, f"bank {which}") for which in range(PROCESSES)]
    savers = [Saver(other, bank, blobs, random.Random(which), told) for which, (other, bank) in enumerate(zip(others, banks, strict=True))]
    for _ in range(10):  # until everything has happened: who meets whom is chance
        await asyncio.gather(*(saver.run(25) for saver in savers))
        if len(told) == 3:
            break
    assert set(told) == {"saved", "refused", "deleted"}, told
    assert set((await states(database, tenant)).values()) <= {"pending"}, "a save that was refused leaves what it had staged before"
    await savers[0].drop((await left_over(database, 2 * HOUR)).get(tenant, []), at=2 * HOUR)
    assert await states(database, tenant) == {}
    assert await blobs.list(tenant) == []

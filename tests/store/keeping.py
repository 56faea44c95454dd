"""What tests put into the store: rows with everything filled in, of which a test names only what it is about."""

import contextlib
import hashlib
import itertools
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text
from waiting import until

from service.ids import new_id
from service.store import banks, forgets, ledger, snapshots, tenants
from service.store.rows import BankRow, Draft, EventRow, ForgetRow, HeadMove, LevelBlob, SnapshotDraft, SnapshotRow
from service.store.tables import blob

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
CONFIG, ENCODER = "c" * 64, "e" * 64
serial = itertools.count()


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def new_tenant(database) -> str:
    tenant = new_id("ten")
    async with database.write(tenant) as conn:
        await tenants.create_tenant(conn, tenant, f"tenant {next(serial)}", NOW)
    return tenant


@contextlib.asynccontextmanager
async def behind_its_back(database):
    """A transaction of whoever has the database itself, as the superuser: no row-level security, and no grant is missing."""
    async with database.write("nobody") as conn:
        if database.dialect == "postgresql":
            await conn.exec_driver_sql("SET LOCAL ROLE NONE")
        yield conn


async def waiting_for_a_lock(database) -> int:
    """The server's process that waits for a lock, once there is one."""

    async def found() -> int | None:
        return next(iter(await all_waiting_for_a_lock(database)), None)

    return await until(found, "somebody waits for a lock")


async def all_waiting_for_a_lock(database) -> list[int]:
    """The server's processes that wait for a lock in this database now."""
    query = text("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    async with behind_its_back(database) as conn:
        return [row.pid for row in await conn.execute(query)]


async def new_bank(database, tenant: str, name: str = "main") -> BankRow:
    async with database.write(tenant) as conn:
        return await banks.create_bank(conn, tenant, name, id=new_id("bnk"), config_hash=CONFIG, encoder_digest=ENCODER, now=NOW)


async def find(database, bank: BankRow) -> BankRow:
    """The bank as it is now."""
    async with database.read(bank.tenant) as conn:
        return await banks.find_bank(conn, bank.tenant, bank.id)


def draft(input: str = "Where is my card?", right: str = "card_arrival", **more) -> Draft:
    given = {"session_id": None, "wrong": None, "metadata": {}, "embedding": sha(input).encode(), "tokens": 5}
    return Draft(id=new_id("cor"), input=input, right=right, **given | more)


async def append(database, bank: BankRow, *drafts: Draft, epoch: int = 0, head_version: int = 0, now: datetime = NOW) -> list[EventRow]:
    async with database.write(bank.tenant) as conn:
        return await ledger.append(conn, bank.tenant, bank.id, drafts, epoch=epoch, head_version=head_version, now=now)


async def append_many(database, bank: BankRow, count: int) -> list[EventRow]:
    return await append(database, bank, *(draft(f"question {n}", f"answer {n % 3}") for n in range(count)))


async def chain_length(database, bank: BankRow) -> int:
    async with database.read(bank.tenant) as conn:
        return await ledger.verify_chain(conn, bank.tenant, bank.id)


def state(seq: int = 0, levels: dict[str, str] | None = None, **more) -> SnapshotDraft:
    """A snapshot about to be committed; `levels` are names and contents."""
    blobs = tuple(LevelBlob(name=name, sha256=sha(content), bytes=len(content)) for name, content in (levels or {}).items())
    given = {
        "kind": "manual",
        "parent": None,
        "spans": ((0, seq),) if seq else (),
        "digest": sha(f"state {seq}"),
        "config_hash": CONFIG,
        "clock": {"tokens": 5 * seq},
        "label": None,
        "note": None,
        "pinned": False,
        "created_by": "key_1",
        "gate": None,
    }
    return SnapshotDraft(id=new_id("snp"), seq=seq, levels=blobs, **given | more)


async def commit(
    database, bank: BankRow, saved: SnapshotDraft, *, head: int | None = None, epoch: int | None = None, now: datetime = NOW
) -> SnapshotRow:
    """Commit a snapshot; `head` is the version of the head that it is to replace."""
    move = None if head is None else HeadMove(expected_version=head, moved_by="key_1", reason="test")
    async with database.write(bank.tenant) as conn:
        staged = {row.sha256: row.birth for row in await conn.execute(select(blob).where(blob.c.tenant == bank.tenant))}
        return await snapshots.commit_snapshot(conn, bank.tenant, bank.id, saved, now=now, epoch=epoch, move_head=move, staged=staged)


async def forget(database, bank: BankRow, *events: EventRow, mode: str = "rebuild", now: datetime = NOW) -> ForgetRow:
    async with database.write(bank.tenant) as conn:
        return await forgets.add_forget(
            conn,
            bank.tenant,
            bank.id,
            event_ids=[event.id for event in events],
            mode=mode,
            exact=mode != "suppress",
            reason=None,
            created_by="key_1",
            job_id=None,
            now=now,
        )

"""An append in one go: it writes what the same append writes step by step, and nothing if anything is not as believed."""

import asyncio
import contextlib
import itertools
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from keeping import (
    NOW,
    all_waiting_for_a_lock,
    append,
    behind_its_back,
    chain_length,
    draft,
    find,
    later,
    new_bank,
    new_tenant,
    waiting_for_a_lock,
)
from sqlalchemy import select, text, update
from waiting import PATIENCE_S, until

from service.errors import Capacity, IdempotencyInFlight, NotOwner, Quota
from service.store import banks, forgets, history, idempotency
from service.store.appending import Appending, Believed, Tail
from service.store.failures import CommitUnknown
from service.store.idempotency import Committed
from service.store.keyed import Keyed
from service.store.ledger import AlreadyTaught
from service.store.sending import SENDERS, _is_silent
from service.store.tables import bank as bank_table
from service.store.tables import event, metadata, response

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
WORDS = b"w" * 8
MADE_ANEW = {"bank", "salt", "content_hash", "prev_hash", "hash", "last_hash", "name", "id", "data"}  # not the same for two banks


async def believed(database, bank, **more) -> Believed:
    """What an owner knows who has read the bank just now."""
    row = await find(database, bank)
    async with database.read(bank.tenant) as conn:
        known = {each.text: each.ordinal for each in await history.responses(conn, bank.tenant, bank.id)}
    return replace(Believed(row.epoch, row.head_version, Tail.of(row), known), **more)


async def go(database, bank, *drafts, what=None, key=None, check=lambda rows: None, tenant=None):
    how = {"key": key, "check": check, "now": NOW}
    return await Appending(database).append(tenant or bank.tenant, bank.id, drafts, what or await believed(database, bank), **how)


async def everything(database) -> dict[str, list[dict]]:
    """All rows of all tables."""
    async with behind_its_back(database) as conn:
        found = {table.name: [dict(row._mapping) for row in await conn.execute(select(table))] for table in metadata.sorted_tables}
    return {name: sorted(rows, key=str) for name, rows in found.items()}


def lessons():
    """Corrections that meet every case: known and new responses, with words and without, sessions, batches."""
    return [
        [draft("q1", "answer a", words=WORDS, session_id="s1", wrong="w", metadata={"n": 1, "ä": ["'", '"', "\\", None]})],
        [draft("q2", "answer b", taught_by="key_1"), draft("q3 'quoted' \\ {x}", "answer a", words=b"other", session_id="s2")],
        [draft("q4", "answer c", session_id="s1"), draft("q5", "answer c", words=WORDS), draft("q6", "answer b", session_id="s1")],
        [draft(f"q{n}", f"answer {n % 7}", words=WORDS) for n in range(7, 300)],
    ]


async def test_append_in_one_go_writes_what_one_step_by_step_writes(database, tenant):
    one, other = await new_bank(database, tenant, "one"), await new_bank(database, tenant, "other")
    for drafts in lessons():
        said = await append(database, one, *drafts)
        again = await go(database, other, *(draft(each.input, each.right, **_more(each)) for each in drafts))
        assert [(row.seq, row.response, row.words, row.input, row.embedding) for row in again] == [
            (row.seq, row.response, row.words, row.input, row.embedding) for row in said
        ]
    assert await chain_length(database, one) == await chain_length(database, other) == 299
    rows = await everything(database)
    for table in ("bank", "session", "response", "event", "lookup", "change"):
        halves = [
            [_comparable(row) for row in rows[table] if (row["bank"] if "bank" in row else row["id"]) == each.id] for each in (one, other)
        ]
        assert sorted(halves[0], key=str) == sorted(halves[1], key=str), table
        assert halves[0], table
    told = {row["bank"]: [] for row in rows["change"]}
    for row in rows["change"]:
        told[row["bank"]].append((row["data"]["first_seq"], row["data"]["last_seq"], len(row["data"]["corrections"])))
    assert sorted(told[one.id]) == sorted(told[other.id]) == [(1, 1, 1), (2, 3, 2), (4, 6, 3), (7, 299, 293)]


def _more(each) -> dict:
    return {name: getattr(each, name) for name in ("session_id", "wrong", "metadata", "embedding", "tokens", "words", "taught_by")}


def _comparable(row: dict) -> dict:
    kept = {name: value for name, value in row.items() if name not in MADE_ANEW}
    return kept | {"session": row["id"]} if "last_used_at" in row else kept


WRONG = {
    "another epoch": lambda it: replace(it, epoch=it.epoch + 1),
    "another head": lambda it: replace(it, head_version=it.head_version + 1),
    "events that it does not have": lambda it: replace(it, tail=replace(it.tail, seq=it.tail.seq - 1)),
    "events that there are not": lambda it: replace(it, tail=replace(it.tail, seq=it.tail.seq + 1)),
}
WRONG_OF_A_SERVER = {  # on a file these are looked up in the same transaction, whatever the owner believes
    "another chain": lambda it: replace(it, tail=replace(it.tail, last_hash="0" * 64)),
    "other ordinals given out": lambda it: replace(it, tail=replace(it.tail, responses=it.tail.responses + 1)),
    "a response with another ordinal": lambda it: replace(it, ordinals={"answer a": 1, "answer b": 0}),
    "a response that there is not": lambda it: replace(it, ordinals=it.ordinals | {"answer z": 1}),
    "a response that it does not know": lambda it: replace(it, ordinals={}),
}


async def check_refused(database, bank, wrong) -> None:
    await go(database, bank, draft("q1", "answer a"), draft("q2", "answer b"))
    what, before = await believed(database, bank), await everything(database)
    with pytest.raises(NotOwner):
        await go(database, bank, draft("q3", "answer a"), draft("q4", "answer z"), what=wrong(what))
    assert await everything(database) == before
    assert (await go(database, bank, draft("q3", "answer a"), what=what))[0].seq == 3


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_owner_that_believes_something_else_writes_nothing(database, bank, wrong):
    await check_refused(database, bank, wrong)


@on_postgresql
@pytest.mark.parametrize("wrong", WRONG_OF_A_SERVER.values(), ids=WRONG_OF_A_SERVER.keys())
async def test_owner_that_believes_something_else_of_what_is_looked_up_writes_nothing(database, bank, wrong):
    await check_refused(database, bank, wrong)


async def test_stranger_appends_nothing_to_a_bank_of_somebody_else(database, bank):
    stranger, what = await new_tenant(database), await believed(database, bank)
    before = await everything(database)
    with pytest.raises(NotOwner):
        await go(database, bank, draft(), what=what, tenant=stranger)
    assert await everything(database) == before


async def test_correction_that_is_there_already_is_told_and_nothing_is_kept(database, bank):
    first = draft("q1", "answer a")
    await go(database, bank, first)
    before = await everything(database)
    with pytest.raises(AlreadyTaught):
        await go(database, bank, draft("q2", "answer b"), first)
    assert await everything(database) == before


async def test_what_the_check_refuses_is_not_kept(database, bank):
    await go(database, bank, draft("q1", "answer a"))
    before, shown = await everything(database), []

    def refuse(rows) -> None:
        shown.extend((row.seq, row.response) for row in rows)
        raise Quota("too many")

    with pytest.raises(Quota):
        await go(database, bank, draft("q2", "answer b"), draft("q3", "answer a"), check=refuse)
    assert shown == [(2, 1), (3, 0)]
    assert await everything(database) == before


async def begun(database, tenant, key="key", at=0.0):
    how = {"request_hash": b"1" * 32, "now": later(at), "lease_s": 60.0, "quotes": False}
    return await Keyed(database).begin(tenant, key, **how)


async def test_key_is_marked_with_the_append_and_an_append_without_its_key_is_none(database, bank):
    await begun(database, bank.tenant)
    await go(database, bank, draft("q1"), draft("q2"), key="key")
    assert await begun(database, bank.tenant) == Committed(bank.id, 1, 2)
    before = await everything(database)
    for key in ("key", "a key that nobody has begun"):
        with pytest.raises(IdempotencyInFlight):
            await go(database, bank, draft("q3"), key=key)
    assert await everything(database) == before


async def test_fence_that_does_not_hold_leaves_the_key_as_it_was(database, bank):
    await begun(database, bank.tenant)
    what = await believed(database, bank)
    before = await everything(database)
    with pytest.raises(NotOwner):
        await go(database, bank, draft(), what=replace(what, epoch=7), key="key")
    assert await everything(database) == before
    assert (await go(database, bank, draft(), what=what, key="key"))[0].seq == 1


async def test_keys_step_by_step_mean_what_they_mean_in_one_transaction(database, tenant):
    assert await begun(database, tenant) == idempotency.Fresh()
    with pytest.raises(IdempotencyInFlight):
        await begun(database, tenant, at=59)
    assert await begun(database, tenant, at=61) == idempotency.Fresh()
    told = {"status": 201, "reply": b"{}", "now": later(62)}
    await Keyed(database).finish(tenant, "key", **told, quotes_since=None)
    assert await begun(database, tenant, at=63) == idempotency.Done(201, b"{}")


async def test_reply_that_may_quote_what_was_forgotten_since_is_not_kept(database, bank):
    (row,) = await append(database, bank, draft())
    for key, since in (("before", later(-100)), ("after", later(100)), ("no matter", None)):
        await begun(database, bank.tenant, key)
        if key == "before":
            async with database.write(bank.tenant) as conn:
                how = {"mode": "suppress", "exact": False, "reason": None, "created_by": "k", "job_id": None, "now": NOW}
                await forgets.add_forget(conn, bank.tenant, bank.id, event_ids=[row.id], **how)
        await Keyed(database).finish(bank.tenant, key, status=200, reply=b"quoted", now=later(101), quotes_since=since)
    async with database.read(bank.tenant) as conn:
        rows = (await conn.execute(text("SELECT key, reply FROM idempotency"))).all()
    assert {key: bytes(reply) for key, reply in rows} == {"before": idempotency.ERASED, "after": b"quoted", "no matter": b"quoted"}


async def test_contending_owners_lose_and_repeat_no_position(database, bank):
    """Each reads, acquires and appends; whoever was overtaken is refused and reads again."""
    acked: list[tuple[int, str]] = []

    async def own(which: int) -> None:
        for number in range(6):
            async with database.write(bank.tenant) as conn:
                await banks.acquire(conn, bank.tenant, bank.id, f"worker-{which}")
            what = await believed(database, bank)
            with contextlib.suppress(NotOwner):
                rows = await go(database, bank, draft(f"q{which}.{number}", f"answer {number % 3}"), what=what)
                acked.extend((row.seq, row.id) for row in rows)

    await asyncio.gather(*(own(which) for which in range(5)))
    async with database.read(bank.tenant) as conn:
        rows = await history.page(conn, bank.tenant, bank.id, None, 1_000)
    assert sorted(acked) == [(row.seq, row.id) for row in rows]
    assert await chain_length(database, bank) == len(rows) > 0


@on_postgresql
async def test_response_whose_erasure_is_under_way_is_not_said_again_under_its_old_ordinal(database, bank):
    """The append waits for who erases, and has to see what that one has written."""
    (first,) = await append(database, bank, draft("q1", "answer a"))
    what = await believed(database, bank)
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, [first.seq], NOW)
        waiting = asyncio.create_task(go(database, bank, draft("q2", "answer a"), what=what))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    with pytest.raises(NotOwner):
        await waiting
    assert (await go(database, bank, draft("q2", "answer a")))[0].response == 1
    async with database.read(bank.tenant) as conn:
        said = {row.ordinal for row in await conn.execute(select(response.c.ordinal))}
        live = {row.response for row in await conn.execute(select(event.c.response).where(event.c.redacted_at.is_(None)))}
    assert live == said == {1}


@on_postgresql
async def test_append_whose_connection_breaks_is_told_as_unknown_and_the_next_one_is_taken(database, postgres, bank):
    what = await believed(database, bank)
    async with database.write(bank.tenant) as conn:
        await banks.lock(conn, bank.tenant, bank.id)
        waiting = asyncio.create_task(go(database, bank, draft("q1"), what=what))
        pid = await waiting_for_a_lock(database)
        postgres.kill_backend(pid)
        with pytest.raises(CommitUnknown):
            await asyncio.wait_for(waiting, PATIENCE_S)
    assert (await find(database, bank)).seq == 0
    assert (await go(database, bank, draft("q1"), what=what))[0].seq == 1


@on_postgresql
async def test_append_survives_that_the_server_has_closed_every_idle_connection(database, postgres, bank):
    await go(database, bank, draft("q1"))
    async with behind_its_back(database) as conn:
        query = text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'")
        idle = [row[0] for row in await conn.execute(query)]
    for pid in idle:
        postgres.kill_backend(pid)

    async def heard_of_it() -> bool:
        return not any(map(_is_silent, database._senders._idle))

    await until(heard_of_it, "the end of every connection is heard of here")
    assert (await go(database, bank, draft("q2")))[0].seq == 2


@on_postgresql
async def test_process_with_many_open_sockets_appends_as_well(database, bank):
    """As an api with a thousand clients: the numbers of its connections are high."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, before[1]), before[1]))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        for _ in range(1_100):
            stack.enter_context(Path(os.devnull).open())  # noqa: ASYNC230 (of no disk)
        for number in range(3):
            await go(database, bank, draft(f"q{number}"))
    assert await chain_length(database, bank) == 3


@on_postgresql
async def test_message_for_which_no_connection_is_free_is_refused_in_time(database, bank, monkeypatch):
    what = await believed(database, bank)
    async with database.write(bank.tenant) as conn:
        await banks.lock(conn, bank.tenant, bank.id)
        waiting = [asyncio.create_task(go(database, bank, draft(f"q{number}"), what=what)) for number in range(SENDERS)]

        async def all_taken() -> bool:
            return len(await all_waiting_for_a_lock(database)) == SENDERS

        await until(all_taken, "every connection is in use")
        with monkeypatch.context() as impatient:
            impatient.setattr("service.store.sending.WAIT_S", 0.2)
            with pytest.raises(Capacity):
                await begun(database, bank.tenant)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert sorted(type(each).__name__ for each in told) == ["NotOwner"] * (SENDERS - 1) + ["list"]


@on_postgresql
async def test_other_banks_do_not_wait_for_one_that_is_locked(database, tenant, bank):
    other, what = await new_bank(database, tenant, "other"), await believed(database, bank)
    async with database.write(tenant) as conn:
        await banks.lock(conn, tenant, bank.id)
        waiting = asyncio.create_task(go(database, bank, draft(), what=what))
        for number in itertools.count(1):
            rows = await asyncio.wait_for(go(database, other, draft(f"q{number}")), PATIENCE_S)
            if rows[0].seq == 20:
                break
        assert not waiting.done()
    assert (await waiting)[0].seq == 1


# --- transactions in one go on SQLite

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_work_that_raises_keeps_nothing(database, bank):
    async def half(conn) -> None:
        await conn.execute(update(bank_table).values(epoch=9))
        raise LookupError("the caller's own error comes through")

    with pytest.raises(LookupError, match="own error"):
        await database.at_once(bank.tenant, half)
    assert (await find(database, bank)).epoch == 0


@on_sqlite
async def test_work_may_wait_for_nothing_but_its_connection(database, bank):
    async def waits(conn) -> None:
        await conn.execute(update(bank_table).values(epoch=9))
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="nothing else"):
        await database.at_once(bank.tenant, waits)
    assert (await find(database, bank)).epoch == 0


@on_sqlite
async def test_its_connection_is_as_sure_as_the_others(database):
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}

    async def settings(conn) -> dict:
        return {name: (await conn.execute(text(f"PRAGMA {name}"))).scalar() for name in wanted}

    assert await database.at_once("ten_1", settings) == wanted


@on_sqlite
async def test_it_waits_its_turn_and_gives_up_in_time(database, bank, monkeypatch):
    async def nothing(conn) -> None:
        await conn.execute(text("SELECT 1"))

    async with database.write(bank.tenant):
        waiting = asyncio.create_task(database.at_once(bank.tenant, nothing))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    await waiting
    async with database.write(bank.tenant):
        monkeypatch.setattr("service.store.db.WAIT_S", 0.05)
        with pytest.raises(Capacity):
            await database.at_once(bank.tenant, nothing)


@on_sqlite
async def test_rows_have_the_types_of_their_columns(database, bank):
    async def read(conn):
        return (await conn.execute(select(bank_table.c.created_at, bank_table.c.debt_since, bank_table.c.seq))).first()

    assert tuple(await database.at_once(bank.tenant, read)) == (NOW, None, 0)

"""Turns of conversations in the ledger: in order and in the chain with corrections, fenced like them, and no correction to anybody."""

from datetime import timedelta

import pytest
from keeping import NOW, append, behind_its_back, chain_length, draft, find
from sqlalchemy import text

from service.errors import NotOwner
from service.ids import new_id
from service.store import forgets, history, sessions, turns
from service.store.ledger import AlreadyTaught
from service.store.turns import EVER, Said, TurnDraft


@pytest.fixture
def read(database, bank):
    async def ask(function, *arguments, **more):
        async with database.read(bank.tenant) as conn:
            return await function(conn, bank.tenant, bank.id, *arguments, **more)

    return ask


async def say(database, bank, said="Hello.", right=None, *, id=None, session=None, epoch=0, head_version=0):
    turn = TurnDraft(id or new_id("trn"), session, said, right, 4, "key_1")
    async with database.write(bank.tenant) as conn:
        return await turns.append(conn, bank.tenant, bank.id, turn, epoch=epoch, head_version=head_version, now=NOW)


async def test_turns_and_corrections_stand_in_one_order_and_one_chain(database, bank, read):
    await append(database, bank, draft("a"))
    place = await say(database, bank, "Hello.", "Good day.")
    await append(database, bank, draft("b"))
    assert await chain_length(database, bank) == 3
    assert [row.seq for row in await read(history.page, None, 10)] == [1, 3]
    rows = await read(history.page, None, 10, turns=True)
    assert [(row.seq, row.kind, row.input, row.right, row.hash) for row in rows[1:2]] == [(2, "turn", "Hello.", "Good day.", place.hash)]
    assert await read(turns.seqs, 3) == [2]
    assert await read(turns.said, 1, 3, 10) == [Said(2, True, "Hello.", "Good day."), Said(3, False, "b", "card_arrival")]
    assert (await find(database, bank)).debt_events == 3


async def test_what_reads_corrections_meets_no_turn(database, bank, read):
    await say(database, bank)
    assert await read(history.lessons, 0, 9, 9) == []
    assert await read(history.spoken, ((0, 9),)) == []
    assert await read(history.by_seqs, [1]) == []
    assert len(await read(history.by_seqs, [1], turns=True)) == 1


@pytest.mark.parametrize("stale", [{"epoch": 1}, {"head_version": 1}])
async def test_overtaken_writer_says_nothing(database, bank, stale):
    with pytest.raises(NotOwner):
        await say(database, bank, **stale)
    assert (await find(database, bank)).seq == 0


async def test_id_is_said_once(database, bank, read):
    await say(database, bank, id="trn_1")
    with pytest.raises(AlreadyTaught):
        await say(database, bank, "again", id="trn_1")
    assert (await find(database, bank)).seq == 1
    assert await read(turns.known, ["trn_1"], since=NOW) == ("trn_1", 1)


async def test_other_name_of_a_turn_counts_for_as_long_as_it_is_known(database, bank, read):
    await say(database, bank, id="trn_yesterday")
    names = ["trn_today", "trn_yesterday"]
    assert await read(turns.known, names, since=NOW) == ("trn_yesterday", 1)
    assert await read(turns.known, names, since=NOW + timedelta(seconds=1)) is None
    await say(database, bank, id="trn_today")
    assert await read(turns.known, names, since=NOW + timedelta(seconds=1)) == ("trn_today", 2)


async def test_turn_uses_its_session_and_is_found_as_of_that_source(database, bank, read):
    await say(database, bank, session="chat")
    async with database.read(bank.tenant) as conn:
        assert (await sessions.get_session(conn, bank.tenant, bank.id, "chat", before=EVER)).last_used_at == NOW
    assert await read(history.seqs_of_source, session="chat", key=None) == [1]
    assert await read(history.seqs_of_source, session=None, key="key_1") == [1]


async def test_erased_turn_says_nothing_and_the_chain_holds(database, bank, read):
    await say(database, bank, "the canary sings", id="trn_1")
    async with database.write(bank.tenant) as conn:
        told = {"event_ids": ["trn_1"], "mode": "erase", "exact": True, "reason": None, "created_by": "key_1", "job_id": None, "now": NOW}
        await forgets.add_forget(conn, bank.tenant, bank.id, **told)
        assert await forgets.texts_of(conn, bank.tenant, bank.id, [1]) == ["the canary sings"]
        assert await forgets.redact(conn, bank.tenant, bank.id, [1], NOW) == {"redacted_events": 1, "responses": 0}
    assert await read(turns.said, 0, 1, 10) == []
    assert await read(turns.seqs, 1) == [1]
    assert await chain_length(database, bank) == 1
    assert [mark.seq for mark in await read(forgets.tombstones)] == [1]


async def test_turns_of_a_bank_of_corrections_are_found_without_reading_these(database, bank):
    if database.dialect == "postgresql":
        async with behind_its_back(database) as conn:
            await conn.execute(text("TRUNCATE event CASCADE"))  # the pages that the rows of tests before had would count as well
    async with database.read(bank.tenant) as conn:
        if database.dialect == "postgresql":  # which goes by figures, and has none of a table this small
            await conn.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
        query = f"{explain} SELECT seq FROM event WHERE tenant = 't' AND bank = 'b' AND kind = 'turn' AND seq <= 9 ORDER BY seq"
        plan = " ".join(str(row) for row in await conn.execute(text(query)))
    assert "ix_event_turns" in plan

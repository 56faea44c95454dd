"""Tombstones and redaction: a mark is raised and never lowered, and an erased text is nowhere in the bank."""

import pytest
from keeping import NOW, append, append_many, chain_length, draft, forget, later, new_bank
from sqlalchemy import func, select

from service.errors import NotFound
from service.store import forgets, history
from service.store.tables import event, response, tombstone
from service.store.tables import forget as forget_table

MODES = ("suppress", "rebuild", "erase")


async def marks(database, bank):
    async with database.read(bank.tenant) as conn:
        return await forgets.tombstones(conn, bank.tenant, bank.id)


async def redact(database, bank, *seqs: int, now=NOW) -> None:
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, seqs, now)


async def responses(database, bank) -> list[str]:
    async with database.read(bank.tenant) as conn:
        return [row.text for row in await history.responses(conn, bank.tenant, bank.id)]


async def test_forget_marks_its_corrections_once_each_in_order(database, bank):
    rows = await append_many(database, bank, 5)
    told = await forget(database, bank, rows[3], rows[1], rows[3], mode="rebuild", now=later(1))
    assert (told.seqs, told.event_ids, told.mode) == ((2, 4), (rows[1].id, rows[3].id), "rebuild")
    assert [(mark.seq, mark.event_id, mark.response, mark.forget_id, mark.embedding) for mark in await marks(database, bank)] == [
        (row.seq, row.id, row.response, told.id, row.embedding) for row in (rows[1], rows[3])
    ]


@pytest.mark.parametrize("second", MODES)
@pytest.mark.parametrize("first", MODES)
async def test_later_forget_raises_a_mark_and_never_lowers_it(database, bank, first, second):
    (row,) = await append(database, bank, draft())
    told = [await forget(database, bank, row, mode=mode, now=later(n)) for n, mode in enumerate((first, second))]
    (mark,) = await marks(database, bank)
    heavier = max(first, second, key=MODES.index)
    assert (mark.mode, mark.exact) == (heavier, heavier != "suppress")
    assert mark.forget_id == told[heavier != first].id
    assert mark.created_at == NOW


@pytest.mark.parametrize("foreign", ["unknown", "of another bank"])
async def test_forget_with_one_foreign_correction_marks_nothing(database, bank, foreign):
    rows = await append_many(database, bank, 2)
    (elsewhere,) = await append(database, await new_bank(database, bank.tenant, "other"), draft())
    wanted = [rows[0].id, "cor_unknown" if foreign == "unknown" else elsewhere.id, rows[1].id]
    given = {"mode": "erase", "exact": True, "reason": None, "created_by": "k", "job_id": None, "now": NOW}
    async with database.write(bank.tenant) as conn:
        with pytest.raises(NotFound, match=wanted[1]):
            await forgets.add_forget(conn, bank.tenant, bank.id, event_ids=wanted, **given)
    assert await marks(database, bank) == []
    async with database.read(bank.tenant) as conn:
        assert await forgets.list_forgets(conn, bank.tenant, bank.id, None, 10) == []
        assert (await conn.execute(select(func.count()).select_from(tombstone))).scalar() == 0


async def test_forgets_are_listed_newest_first_with_their_job(database, bank):
    rows = await append_many(database, bank, 3)
    made = sorted([await forget(database, bank, row) for row in rows], key=lambda told: told.id, reverse=True)
    async with database.write(bank.tenant) as conn:
        await forgets.set_job(conn, bank.tenant, made[1].id, "job_1")
    async with database.read(bank.tenant) as conn:
        first = await forgets.list_forgets(conn, bank.tenant, bank.id, None, 2)
        rest = await forgets.list_forgets(conn, bank.tenant, bank.id, first[-1].id, 2)
    assert [told.id for told in first + rest] == [told.id for told in made]
    assert [told.job_id for told in first + rest] == [None, "job_1", None]
    assert first[0] == made[0]


async def test_redaction_takes_every_text_and_the_chain_holds(database, bank):
    rows = await append(
        database,
        bank,
        draft("my secret", "secret answer", wrong="secret mistake", metadata={"note": "secret"}),
        draft("plain", "plain answer"),
    )
    async with database.read(bank.tenant) as conn:
        assert await forgets.texts_of(conn, bank.tenant, bank.id, [1]) == ["my secret", "secret answer", "secret mistake"]
    await redact(database, bank, 1, now=later(5))
    async with database.read(bank.tenant) as conn:
        gone, kept = (await conn.execute(select(event).order_by(event.c.seq))).all()
        assert await forgets.texts_of(conn, bank.tenant, bank.id, [1]) == []
    assert (gone.body, gone.embedding, gone.salt, gone.input_hash, gone.words_hash, gone.redacted_at) == (*[None] * 5, later(5))
    assert (gone.hash, gone.content_hash) == (rows[0].hash, rows[0].content_hash)
    assert None not in (kept.body, kept.embedding, kept.salt, kept.input_hash, kept.words_hash)
    assert await responses(database, bank) == ["plain answer"]
    assert await chain_length(database, bank) == 2


async def test_response_text_goes_with_the_last_correction_that_says_it(database, bank):
    await append(database, bank, draft("1", "shared"), draft("2", "alone"), draft("3", "shared"), draft("4", "kept"))
    await redact(database, bank, 1, 2)
    assert await responses(database, bank) == ["shared", "kept"]
    await redact(database, bank, 3)
    assert await responses(database, bank) == ["kept"]


async def test_response_of_several_redacted_at_once_goes(database, bank):
    await append(database, bank, draft("1", "shared"), draft("2", "shared"))
    await redact(database, bank, 1, 2)
    assert await responses(database, bank) == []


async def test_same_words_in_another_bank_stay(database, bank):
    other = await new_bank(database, bank.tenant, "other")
    for each in (bank, other):
        await append(database, each, draft("q", "shared"))
    await redact(database, bank, 1)
    assert await responses(database, bank) == []
    assert await responses(database, other) == ["shared"]


async def test_redaction_twice_is_as_once(database, bank):
    await append_many(database, bank, 3)
    await redact(database, bank, 1, 2, now=later(5))
    async with database.read(bank.tenant) as conn:
        before = [(await conn.execute(select(table))).all() for table in (event, response)]
    await redact(database, bank, 1, 2, 99, now=later(9))
    async with database.read(bank.tenant) as conn:
        assert [(await conn.execute(select(table))).all() for table in (event, response)] == before


async def test_tombstone_of_a_redacted_correction_stays_without_its_embedding(database, bank):
    (row,) = await append(database, bank, draft())
    await forget(database, bank, row, mode="erase")
    await redact(database, bank, 1)
    (mark,) = await marks(database, bank)
    assert (mark.seq, mark.event_id, mark.mode, mark.embedding) == (1, row.id, "erase", None)
    await forget(database, bank, row, mode="suppress")  # may be asked for again, and changes nothing
    assert await marks(database, bank) == [mark]


async def test_reason_of_a_forget_is_kept(database, bank):
    (row,) = await append(database, bank, draft())
    given = {"event_ids": [row.id], "mode": "erase", "exact": True, "reason": "asked by the customer", "created_by": "key_7"}
    async with database.write(bank.tenant) as conn:
        told = await forgets.add_forget(conn, bank.tenant, bank.id, **given, job_id="job_1", now=later(2))
        assert await forgets.list_forgets(conn, bank.tenant, bank.id, None, 5) == [told]
        assert (await conn.execute(select(forget_table.c.created_by))).scalar() == "key_7"
    assert (told.reason, told.job_id, told.created_at) == ("asked by the customer", "job_1", later(2))

"""The fenced append and the hash chain: positions without gaps, no write of a writer that was overtaken, and no quiet change of a row."""

import pytest
from keeping import NOW, append, append_many, behind_its_back, chain_length, commit, draft, find, forget, later, new_bank, new_tenant, state
from sqlalchemy import delete, func, insert, select, update

from service.errors import ChecksumMismatch, NotFound, NotOwner
from service.store import banks, forgets, history, ledger
from service.store.tables import bank as bank_table
from service.store.tables import event, lookup, response, session


async def test_positions_have_no_gap_over_appends_and_batches(database, bank):
    rows = await append(database, bank, draft("a"))
    rows += await append(database, bank, draft("b"), draft("c"), draft("d"))
    rows += await append(database, bank, draft("e"))
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert [row.input for row in rows] == ["a", "b", "c", "d", "e"]
    assert (await find(database, bank)).seq == await chain_length(database, bank) == 5


async def test_append_returns_what_the_ledger_holds(database, bank):
    saved = draft("Où est ma carte ?", "carte 💳", wrong="x", metadata={"a": [1, None, {"b": 2.5}]}, session_id="s", tokens=7)
    (told,) = await append(database, bank, saved, now=later(0.123456))
    async with database.read(bank.tenant) as conn:
        (kept,) = await history.by_seqs(conn, bank.tenant, bank.id, [1])
    assert kept == told
    assert (kept.input, kept.right, kept.wrong, kept.metadata, kept.tokens) == (
        saved.input,
        saved.right,
        "x",
        {"a": [1, None, {"b": 2.5}]},
        7,
    )
    assert kept.created_at == later(0.123456)


async def test_each_row_links_to_the_one_before(database, bank):
    rows = await append_many(database, bank, 4)
    assert [row.prev_hash for row in rows] == [banks.genesis_hash(bank.id), *(row.hash for row in rows[:-1])]
    assert (await find(database, bank)).last_hash == rows[-1].hash


async def test_equal_corrections_have_hashes_that_tell_nothing(database, bank):
    one, two = await append(database, bank, draft("same", "same"), draft("same", "same"))
    assert one.content_hash != two.content_hash


async def test_empty_chain_is_whole(database, bank):
    assert await chain_length(database, bank) == 0


async def test_chain_longer_than_a_page_is_read_to_its_end(database, bank, monkeypatch):
    monkeypatch.setattr(ledger, "PAGE", 4)
    for count in (8, 3):  # a whole number of pages, then a part of one
        await append_many(database, bank, count)
    assert await chain_length(database, bank) == 11


STALE = {
    "older epoch": {"epoch": 0},
    "epoch from nowhere": {"epoch": 2},
    "older head": {"head_version": 0},
    "later head": {"head_version": 2},
}


@pytest.mark.parametrize("stale", STALE.values(), ids=STALE.keys())
async def test_overtaken_writer_writes_nothing(database, bank, stale):
    await commit(database, bank, state(), head=0)
    async with database.write(bank.tenant) as conn:
        taken = await banks.acquire(conn, bank.tenant, bank.id, "worker-1")
    current = {"epoch": taken.epoch, "head_version": taken.head_version}
    assert current == {"epoch": 1, "head_version": 1}
    await append(database, bank, draft("before"), **current)
    before = await everything(database, bank.tenant)
    with pytest.raises(NotOwner):
        await append(database, bank, draft("late", "new answer", session_id="late"), **current | stale)
    assert await everything(database, bank.tenant) == before
    (row,) = await append(database, bank, draft("after"), **current)  # the fence is for the other one only
    assert (row.seq, row.epoch) == (2, 1)


async def test_append_to_a_bank_that_is_gone_is_refused(database, bank):
    await append(database, bank, draft())
    async with database.write(bank.tenant) as conn:
        await banks.delete_bank(conn, bank.tenant, bank.id, NOW)
    with pytest.raises(NotOwner):
        await append(database, bank, draft())


async def test_responses_are_numbered_in_order_of_first_use(database, bank):
    rights = ["b", "a", "b", "c", "a"]
    rows = await append(database, bank, *(draft(f"q{n}", right) for n, right in enumerate(rights)))
    rows += await append(database, bank, draft("q", "c"), draft("q", "d"))
    assert [row.response for row in rows] == [0, 1, 0, 2, 1, 2, 3]
    async with database.read(bank.tenant) as conn:
        told = await history.responses(conn, bank.tenant, bank.id)
        some = await history.responses(conn, bank.tenant, bank.id, [3, 1, 9])
    assert [(row.ordinal, row.text) for row in told] == [(0, "b"), (1, "a"), (2, "c"), (3, "d")]
    assert [(row.ordinal, row.text) for row in some] == [(1, "a"), (3, "d")]


async def test_words_of_a_response_stay_those_that_it_was_first_given_with(database, bank):
    rows = await append(database, bank, draft("q1", "a", words=b"first"), draft("q2", "b"), draft("q3", "a", words=b"second"))
    rows += await append(database, bank, draft("q4", "b", words=b"late"), draft("q5", "a", words=b"third"), draft("q6", "c", words=b"new"))
    expected = [b"first", None, b"first", None, b"first", b"new"]
    assert [row.words for row in rows] == expected
    async with database.read(bank.tenant) as conn:
        lessons = await history.lessons(conn, bank.tenant, bank.id, 0, 6, 10)
        found = await history.by_seqs(conn, bank.tenant, bank.id, list(range(1, 7)))
    assert [row.words for row in lessons] == [row.words for row in found] == expected


async def test_words_of_an_erased_response_are_gone(database, bank):
    (secret,) = await append(database, bank, draft("q", "secret", words=b"what it says"))
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, [secret.seq], NOW)
    async with database.read(bank.tenant) as conn:
        (row,) = await history.by_seqs(conn, bank.tenant, bank.id, [secret.seq])
    assert row.words is None


async def test_responses_are_told_apart_to_the_last_space_and_letter(database, bank):
    rights = ["pin", "Pin", "pin ", "pín", "pi\u0301n"]
    rows = await append(database, bank, *(draft("q", right) for right in rights))
    assert [row.response for row in rows] == [0, 1, 2, 3, 4]


async def test_number_of_an_erased_response_is_never_given_again(database, bank):
    first, second = await append(database, bank, draft("q", "secret"), draft("q", "plain"))
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, [first.seq], NOW)
    again, new = await append(database, bank, draft("q", "secret"), draft("q", "other"))
    assert (second.response, again.response, new.response) == (1, 2, 3)


async def test_sessions_note_their_first_and_last_use(database, bank):
    await append(database, bank, draft(session_id="one"), draft(), draft(session_id="two"))
    await append(database, bank, draft(session_id="two"), draft(session_id="two"), now=later(60))
    async with database.read(bank.tenant) as conn:
        found = (await conn.execute(select(session).order_by(session.c.id))).all()
    assert [(row.id, row.created_at, row.last_used_at) for row in found] == [("one", NOW, NOW), ("two", NOW, later(60))]


# --- what was changed behind the ledger's back is found, and where


def changed(**values):
    return update(event).where(event.c.seq == 3).values(**values)


def at(seq: int):
    return event.c.seq == seq


async def swap_rows(conn) -> None:
    """Rows 3 and 4 change places, each with its own hashes."""
    for was, becomes in ((3, 99), (4, 3), (99, 4)):
        await conn.execute(update(event).where(at(was)).values(seq=becomes))


async def swap_contents(conn) -> None:
    names = ("body", "embedding", "salt", "content_hash")
    rows = {seq: (await conn.execute(select(*(event.c[name] for name in names)).where(at(seq)))).one()._mapping for seq in (3, 4)}
    for seq, other in ((3, 4), (4, 3)):
        await conn.execute(update(event).where(at(seq)).values(**rows[other]))


async def put_a_row_in(conn) -> None:
    row = dict((await conn.execute(select(event).where(at(6)))).one()._mapping)
    await conn.execute(insert(event).values(row | {"seq": 7, "id": "cor_forged", "prev_hash": row["hash"]}))


async def renumber_after_removal(conn) -> None:
    await conn.execute(delete(event).where(at(3)))
    for seq in (4, 5, 6):
        await conn.execute(update(event).where(at(seq)).values(seq=seq - 1))


async def shorten(conn) -> None:
    await conn.execute(delete(event).where(at(6)))


async def swallow(conn) -> None:
    """The last row is removed and the bank's counter follows."""
    await shorten(conn)
    await conn.execute(update(bank_table).where(bank_table.c.seq == 6).values(seq=5))


TAMPERINGS = {
    "body": (changed(body=b"other"), 3),
    "embedding": (changed(embedding=b"other"), 3),
    "salt": (changed(salt=b"0" * 16), 3),
    "hash": (changed(hash="0" * 64), 3),
    "link to the row before": (changed(prev_hash="0" * 64), 3),
    "hash of the content": (changed(content_hash="0" * 64), 3),
    "id": (changed(id="cor_other"), 3),
    "response": (changed(response=0), 3),
    "tokens": (changed(tokens=1_000), 3),
    "epoch": (changed(epoch=9), 3),
    "time": (changed(created_at=later(1)), 3),
    "first row removed": (delete(event).where(at(1)), 1),
    "row removed": (delete(event).where(at(3)), 3),
    "row removed, the rest moved up": (renumber_after_removal, 3),
    "last row removed": (shorten, 5),
    "last row removed and the counter set back": (swallow, 5),
    "all rows removed": (delete(event), 0),
    "rows swapped": (swap_rows, 3),
    "contents swapped": (swap_contents, 3),
    "row put in": (put_a_row_in, 7),
}


@pytest.mark.parametrize("page", [1_000, 2], ids=["one page", "pages of two"])
async def test_each_kind_of_tampering_is_found_and_its_place_is_named(database, monkeypatch, page):
    monkeypatch.setattr(ledger, "PAGE", page)
    tenant = await new_tenant(database)
    for name, (how, seq) in TAMPERINGS.items():
        bank = await new_bank(database, tenant, name)
        await append_many(database, bank, 6)
        assert await chain_length(database, bank) == 6
        async with behind_its_back(database) as conn:
            await conn.execute(delete(lookup))  # what is beside the ledger refers to it
            await (how(conn) if callable(how) else conn.execute(how))
        with pytest.raises(ChecksumMismatch, match=rf"{bank.id}.*seq {seq}\b") as found:
            await chain_length(database, bank)
        assert found.value.code == "checksum-mismatch", name
        async with database.write(tenant) as conn:
            await banks.delete_bank(conn, tenant, bank.id, NOW)


async def test_chain_of_an_unknown_bank_is_not_found(database, bank):
    async with database.read(bank.tenant) as conn:
        with pytest.raises(NotFound):
            await ledger.verify_chain(conn, bank.tenant, "bnk_unknown")


async def test_chain_still_holds_over_redacted_rows_and_tampering_beside_them_is_found(database, bank):
    rows = await append_many(database, bank, 6)
    await forget(database, bank, rows[1], rows[5], mode="erase")
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, [2, 6], NOW)
    assert await chain_length(database, bank) == 6
    async with behind_its_back(database) as conn:
        await conn.execute(update(event).where(at(2)).values(content_hash="0" * 64))
    with pytest.raises(ChecksumMismatch, match=r"seq 2\b"):
        await chain_length(database, bank)


async def everything(database, tenant: str) -> dict:
    """What an append could have changed."""
    async with database.read(tenant) as conn:
        bank = (await conn.execute(select(bank_table))).all()
        counts = {
            table.name: (await conn.execute(select(func.count()).select_from(table))).scalar() for table in (event, response, session)
        }
    return counts | {"bank": bank}

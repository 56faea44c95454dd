"""What is looked up of the ledger: found by any part of its texts on both dialects alike, gone with what was erased, counted by time."""

from datetime import timedelta

import pytest
from keeping import NOW, append, append_many, behind_its_back, commit, draft, forget, later, new_bank, new_tenant, state
from sqlalchemy import text

from service.errors import Conflict
from service.ids import new_id
from service.store import forgets, lookup, probe_sets
from service.store.lookup import Before
from service.wire import Probe


async def found(database, bank, asked: str, before=None, limit=50) -> list[int]:
    async with database.read(bank.tenant) as conn:
        return await lookup.search(conn, bank.tenant, bank.id, lookup.words_of(asked), before, limit)


@pytest.fixture
async def bank(database):
    return await new_bank(database, await new_tenant(database))


TOLD = [
    {"input": "Wo ist meine KARTE?", "right": "Im Briefkasten", "wrong": "Weg"},
    {"input": "Straße 50% off_now", "right": "ﬁnal answer", "metadata": {"Kanal": ["Telefon", {"Nummer": 42}]}},
    {"input": "карта", "right": "КАРТА\\x"},
]


@pytest.mark.parametrize(
    ("asked", "seqs"),
    [
        ("karte", [1]),
        ("KARTE briefkasten", [1]),
        ("briefkasten karte weg", [1]),
        ("karte straße", []),
        ("strasse", [2]),
        ("STRASSE", [2]),
        ("final", [2]),
        ("telefon 42", [2]),
        ("kanal", [2]),
        ("50%", [2]),
        ("5_%", []),
        ("off_now", [2]),
        ("offxnow", []),
        ("%", [2]),
        ("_", [2]),
        ("КАРТА", [3]),
        ("\\x", [3]),
        ("ar", [1]),
        ("'; drop table lookup; --", []),
        ("a", [2, 1]),
    ],
)
async def test_correction_is_found_by_any_part_of_its_texts_whatever_the_case(database, bank, asked, seqs):
    await append(database, bank, *(draft(**told) for told in TOLD))
    assert await found(database, bank, asked) == seqs


async def test_newest_come_first_and_pages_follow_each_other(database, bank):
    await append_many(database, bank, 7)
    assert await found(database, bank, "question", limit=3) == [7, 6, 5]
    assert await found(database, bank, "question", before=5, limit=3) == [4, 3, 2]
    assert await found(database, bank, "answer question 1") == [5, 2], "the fifth is question 4, answer 1"


async def test_nothing_of_another_bank_or_tenant_is_found(database, bank):
    await append(database, bank, draft("my secret"))
    beside = await new_bank(database, bank.tenant, "beside")
    stranger = await new_bank(database, await new_tenant(database))
    assert await found(database, bank, "secret") == [1]
    assert await found(database, beside, "secret") == await found(database, stranger, "secret") == []


@pytest.mark.parametrize("mode", ["suppress", "rebuild", "erase"])
async def test_forgotten_correction_is_not_found(database, bank, mode):
    events = await append(database, bank, draft("my secret"), draft("my secret, too"))
    await forget(database, bank, events[0], mode=mode)
    assert await found(database, bank, "secret") == [2]


async def note(database, bank, *measured: Before) -> None:
    await database.send(bank.tenant, lookup.notes(bank.tenant, bank.id, measured))


async def test_redacted_text_is_in_no_row(database, bank):
    events = await append(database, bank, draft("tell me 0x7f3aQ", "zzTopSecret9", metadata={"k": "mEta77"}), draft("other"))
    await forget(database, bank, events[0], mode="erase")
    await note(database, bank, Before(1, "wrong", 0.75))
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, [1], NOW)
    async with behind_its_back(database) as conn:
        rows = (await conn.execute(text("SELECT seq, text, said_before, surprise FROM lookup ORDER BY seq"))).all()
    assert [tuple(row) for row in rows] == [(1, None, "wrong", 0.75), (2, "other\ncard_arrival", None, None)]


async def test_what_was_said_before_is_noted_once(database, bank):
    await append_many(database, bank, 2)
    await note(database, bank, Before(1, "right", 0.1), Before(2, "nothing", 1.0))
    await note(database, bank, Before(1, "wrong", 0.9))
    async with database.read(bank.tenant) as conn:
        (counted,) = await lookup.course(conn, bank.tenant, bank.id, "day", NOW, later(1))
    assert counted[1:] == (2, 2, 0, 1, pytest.approx(0.55))


async def test_stranger_notes_nothing_in_a_bank_of_somebody_else(database, bank):
    await append_many(database, bank, 1)
    stranger = await new_tenant(database)
    await database.send(stranger, lookup.notes(stranger, bank.id, [Before(1, "wrong", 0.9)]))
    await database.send(bank.tenant, lookup.notes(stranger, bank.id, [Before(1, "wrong", 0.9)]))
    if database.dialect == "postgresql":  # where the transaction's tenant is held to his rows as well
        await database.send(stranger, lookup.notes(bank.tenant, bank.id, [Before(1, "wrong", 0.9)]))
    async with database.read(bank.tenant) as conn:
        (counted,) = await lookup.course(conn, bank.tenant, bank.id, "day", NOW, later(1))
    assert counted.measured == 0


async def test_course_is_counted_in_buckets_of_its_own_time(database, bank):
    for hours in (0, 0, 1, 30):
        await append(database, bank, draft(), now=NOW + timedelta(hours=hours))
    async with database.read(bank.tenant) as conn:
        for bucket, counts in (("hour", [2, 1, 1]), ("day", [3, 1]), ("week", [3, 1])):  # the first of November is a Sunday
            found = await lookup.course(conn, bank.tenant, bank.id, bucket, NOW, NOW + timedelta(days=9))
            assert [each.corrections for each in found] == counts, bucket
            begins = [lookup.beginning(each.place, bucket) for each in found]
            assert begins[0] <= NOW
            assert [lookup.place_of(at, bucket) for at in begins] == [each.place for each in found]
        assert lookup.beginning(lookup.place_of(NOW, "week"), "week").isoweekday() == 1
        part = await lookup.course(conn, bank.tenant, bank.id, "hour", NOW + timedelta(hours=1), NOW + timedelta(hours=30))
        assert [each.corrections for each in part] == [1], "from the first time on, up to the second"


async def test_drifts_are_told_of_the_time_that_is_asked_for(database, bank):
    await append_many(database, bank, 1)
    for seconds in (0, 60):
        saved = await commit(database, bank, state(1, kind="auto"))
        async with database.write(bank.tenant) as conn:
            await lookup.add_drift(conn, bank.tenant, bank.id, saved.id, {"fast": seconds / 100}, later(seconds))
    async with database.read(bank.tenant) as conn:
        assert [each.levels for each in await lookup.drifts(conn, bank.tenant, bank.id, NOW, later(60))] == [{"fast": 0.0}]
        assert [each.levels for each in await lookup.drifts(conn, bank.tenant, bank.id, NOW, later(61))] == [{"fast": 0.0}, {"fast": 0.6}]


async def saved(database, bank, name: str, *probes: Probe):
    async with database.write(bank.tenant) as conn:
        given = {"id": new_id("prb"), "name": name, "probes": probes, "created_by": "key_1"}
        return await probe_sets.add_probe_set(conn, bank.tenant, bank.id, **given, now=NOW)


async def test_names_of_probe_sets_are_their_banks_own(database, bank):
    await saved(database, bank, "first", Probe(input="a", expected="b"))
    with pytest.raises(Conflict, match="first"):
        await saved(database, bank, "first", Probe(input="a", expected="b"))
    await saved(database, await new_bank(database, bank.tenant, "beside"), "first", Probe(input="a", expected="b"))


async def test_probes_that_quote_what_was_erased_leave_their_set(database, bank):
    kept = Probe(input="other", expected=None)
    quoting = await saved(database, bank, "quoting", Probe(input="secret", expected="x"), kept, Probe(input="y", expected="secret"))
    async with database.write(bank.tenant) as conn:
        await probe_sets.scrub(conn, bank.tenant, bank.id, ["secret"])
        assert (await probe_sets.get_probe_set(conn, bank.tenant, quoting.id)).probes == [kept]

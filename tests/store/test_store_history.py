"""The ledger's read side: pages, lessons, supports, and what was said later to the same input."""

import pytest
from keeping import NOW, append, append_many, draft, later, new_bank
from sqlalchemy import update

from service.store import forgets, history
from service.store.lineage import holds
from service.store.tables import event


@pytest.fixture
def read(database, bank):
    async def ask(function, *arguments, **more):
        async with database.read(bank.tenant) as conn:
            return await function(conn, bank.tenant, bank.id, *arguments, **more)

    return ask


async def redact(database, bank, *seqs: int) -> None:
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, seqs, NOW)


@pytest.mark.parametrize("descending", [False, True], ids=["oldest first", "newest first"])
async def test_ledger_is_paged_without_gap_or_repetition_while_it_grows(database, bank, read, descending):
    await append_many(database, bank, 7)
    told, after = [], None
    while page := await read(history.page, after, 3, descending):
        told += [row.seq for row in page]
        after = told[-1]
        if len(told) == 3:
            await append_many(database, bank, 2)
    assert told == ([7, 6, 5, 4, 3, 2, 1] if descending else [1, 2, 3, 4, 5, 6, 7, 8, 9])


async def test_inputs_of_the_same_words_are_found_by_each_of_them(database, bank, read):
    await append(database, bank, draft("Where is the PIN?", "a"), draft("where is pin", "b"), draft("where is the card", "c"))
    found = await read(history.same_inputs, ["Where is a PIN", "where is the pin?", "Where is the card?", "elsewhere"], 8)
    assert {text: [row.seq for row in rows] for text, rows in found.items()} == {
        "Where is a PIN": [2, 1],
        "where is the pin?": [2, 1],
        "Where is the card?": [3],
        "elsewhere": [],
    }
    for text, rows in found.items():
        assert await read(history.same_input, text, 8) == rows


async def test_what_was_taught_before_words_were_compared_is_found_by_its_letters(database, bank, read):
    """Or by a process of the version before, while an upgrade is on its way."""
    await append(database, bank, draft("Where is it?", "a"), draft("where is it", "b"), draft("Where is it?", "c"))
    async with database.write(bank.tenant) as conn:
        await conn.execute(update(event).where(event.c.seq == 1).values(words_hash=None))
    both = ["Where is it?", "where is it"]
    for text, seqs in zip(both, ([3, 2, 1], [3, 2]), strict=True):
        assert [row.seq for row in await read(history.same_input, text, 8)] == seqs
        assert [row.seq for row in await read(history.same_input, text, 2)] == seqs[:2]
    found = await read(history.same_inputs, both, 8)
    assert [[row.seq for row in found[text]] for text in both] == [[3, 2, 1], [3, 2]]


async def test_lessons_are_the_unredacted_events_of_a_span_in_order(database, bank, read):
    rows = await append(database, bank, *(draft(f"q{n}", f"a{n % 2}", tokens=n) for n in range(1, 8)))
    await redact(database, bank, 4)
    lessons = await read(history.lessons, 2, 6, 100)
    assert [lesson.seq for lesson in lessons] == [3, 5, 6]
    for lesson in lessons:
        row = rows[lesson.seq - 1]
        assert (lesson.embedding, lesson.tokens, lesson.response, lesson.right) == (row.embedding, row.tokens, row.response, row.right)
    assert [lesson.seq for lesson in await read(history.lessons, 2, 6, 2)] == [3, 5]
    assert await read(history.lessons, 6, 6, 100) == []
    assert [lesson.seq for lesson in await read(history.lessons, 0, 10**9, 100)] == [1, 2, 3, 5, 6, 7]


@pytest.mark.parametrize("ranges", [64, 1])
async def test_responses_are_counted_within_spans_however_many_these_are(database, bank, read, monkeypatch, ranges):
    monkeypatch.setattr(history, "RANGES", ranges)
    said = "bacbabcab"
    await append(database, bank, *(draft(f"q{place}", right) for place, right in enumerate(said)))
    await redact(database, bank, 4)
    for spans in ((), ((0, 9),), ((1, 4),), ((0, 2), (3, 5), (6, 9)), ((8, 9),)):
        inside = [(seq, right) for seq, right in enumerate(said, start=1) if holds(spans, seq)]
        found = {each.response: (each.times, each.first) for each in await read(history.spoken, spans)}
        rights = [right for _, right in inside]
        assert found == {
            "bac".index(right): (rights.count(right), next(seq for seq, one in inside if one == right)) for right in dict.fromkeys(rights)
        }
        for limit in (1, 3, 100):
            newest = [(seq, "bac".index(right)) for seq, right in inside][-limit:]
            assert await read(history.newest_said, spans, limit) == newest


async def test_supports_of_a_response_are_newest_first(database, bank, read):
    rows = await append(database, bank, *(draft(f"q{n}", "ab"[n % 2]) for n in range(8)))
    assert [row.seq for row in await read(history.newest_of, 0, 10)] == [7, 5, 3, 1]
    assert [row.seq for row in await read(history.newest_of, 0, 2)] == [7, 5]
    await redact(database, bank, 5)
    (support,) = await read(history.newest_of, 0, 1, below=7)
    assert (support.seq, support.id, support.embedding, support.input) == (3, rows[2].id, rows[2].embedding, "q2")
    assert await read(history.newest_of, 9, 10) == []


async def test_corrections_of_an_input_are_newest_first(database, bank, read):
    rows = await append(database, bank, draft("q", "a"), draft("r", "b"), draft("q", "c"), draft("q", "a"), draft("q s", "d"))
    found = await read(history.same_input, "q", 10)
    assert [(row.seq, row.id, row.response) for row in found] == [(seq, rows[seq - 1].id, rows[seq - 1].response) for seq in (4, 3, 1)]
    assert [row.seq for row in await read(history.same_input, "q", 2)] == [4, 3]
    assert [row.seq for row in await read(history.same_input, "q", 2, below=4)] == [3, 1]
    await redact(database, bank, 3)
    assert [row.seq for row in await read(history.same_input, "q", 10)] == [4, 1]
    assert await read(history.same_input, "never", 10) == []
    for limit in (1, 10):
        many = await read(history.same_inputs, ["q", "r", "never"], limit)
        assert many == {text: await read(history.same_input, text, limit) for text in ("q", "r", "never")}


async def test_events_are_found_by_ids_and_by_positions_more_than_fit_in_one_list(database, bank, read, monkeypatch):
    monkeypatch.setattr(history, "CHUNK", 3)
    rows = await append_many(database, bank, 8)
    backwards = [row.id for row in reversed(rows)]
    assert await read(history.by_ids, [*backwards, "cor_unknown"]) == rows
    assert await read(history.by_seqs, [8, 1, 99, 5, 4]) == [rows[0], rows[3], rows[4], rows[7]]
    assert await read(history.by_ids, []) == await read(history.by_seqs, []) == []


async def test_later_corrections_of_the_same_input_are_found_and_no_others(database, bank, read):
    other = await new_bank(database, bank.tenant, "other")
    await append(database, other, draft("same", "elsewhere"))
    await append(database, bank, draft("same", "a"), draft("Same", "b"), draft("same", "b"), draft("x", "a"), draft("same", "a"))
    assert await read(history.later_same_input, [1, 2, 3, 5]) == {1: [(3, 1), (5, 0)], 2: [], 3: [(5, 0)], 5: []}
    await redact(database, bank, 3)
    assert await read(history.later_same_input, [1, 3]) == {1: [(5, 0)], 3: []}


async def test_redacted_event_keeps_its_place_and_says_nothing(database, bank, read):
    await append(database, bank, draft("secret", "secret", wrong="secret", metadata={"s": 1}), draft())
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, [1], later(9))
    row, other = await read(history.page, None, 10)
    assert (row.seq, row.redacted_at) == (1, later(9))
    assert (row.input, row.right, row.wrong, row.metadata, row.embedding) == (None,) * 5
    assert (other.input, other.redacted_at) == ("Where is my card?", None)

"""Looking into a bank by the client, of both kinds, against a running service."""

from datetime import UTC, datetime, timedelta

import pytest
from either_kind import got, listed
from saying import PIN, SPAIN
from waiting import PATIENCE_S

from palimpsest import errors

REWORDED = "How can I change the PIN of my card?"
FIRST, SECOND = "in the app", "at any cash machine"


async def test_levels_tell_what_each_would_know_alone(either):
    await got(either.correct(PIN, FIRST))
    levels = await got(either.levels(sample=8))
    assert (levels.corrections, levels.sample) == (1, 1)
    assert [level.name for level in levels.levels] == [level.name for level in (await got(either.memory())).levels]
    fast = next(level for level in levels.levels if level.alone == 1)
    assert fast.drift_start > 0
    assert fast.strength > 0.5


async def test_trace_follows_a_correction_until_it_is_superseded_and_forgotten(either):
    first = await got(either.correct(PIN, FIRST))
    saved = await got(either.take_snapshot())
    alive = await got(either.trace(first.id))
    assert (alive.status, alive.right_now, alive.rank, alive.superseded_by) == ("active", True, 1, None)
    assert saved.id in {one.snapshot for one in alive.snapshots}
    second = await got(either.correct(PIN, SECOND))
    assert (await got(either.trace(first.id))).superseded_by == second.id
    forgotten = await got(either.forget([first.id], "suppress"))
    gone = await got(either.trace(first.id))
    assert (gone.status, gone.removed.by, gone.removed.id, gone.right_now) == ("forgotten", "forget", forgotten.id, None)


async def test_probe_has_a_row_for_each_input_and_a_cell_for_each_version(either):
    empty = await got(either.take_snapshot())
    await got(either.correct(PIN, FIRST))
    probed = await got(either.probe([REWORDED, "What colour is the sea?"], ["head", empty.id]))
    assert [version.at for version in probed.versions] == ["head", empty.id]
    assert [[cell.abstained for cell in row] for row in probed.rows] == [[False, True], [True, True]]
    assert probed.rows[0][0].value == FIRST
    assert (await got(either.probe([PIN]))).rows[0][0].value == FIRST
    with pytest.raises(errors.NotFound):
        await got(either.probe([PIN], ["snap_none"]))


async def test_probe_sets_are_saved_listed_run_and_deleted(either):
    empty = await got(either.take_snapshot())
    await got(either.correct(PIN, FIRST))
    made = await got(either.save_probe_set("smoke", {REWORDED: FIRST, "What colour is the sea?": None}))
    assert (made.size, [probe.expected for probe in made.probes]) == (2, [FIRST, None])
    assert await got(either.get_probe_set(made.id)) == made
    assert [(one.id, one.probes) for one in await listed(either.probe_sets())] == [(made.id, None)]
    changed = await got(either.change_probe_set(made.id, {"What colour is the sea?": None}))
    assert (changed.id, changed.name, changed.size) == (made.id, "smoke", 1)
    assert await got(either.change_probe_set(made.id, {REWORDED: FIRST, "What colour is the sea?": None})) == made
    ran = await got(either.run_probe_set(made.id, ["head", empty.id]))
    assert [(version.passed, version.failed) for version in ran.versions] == [(2, 0), (1, 1)]
    assert ran.versions[1].failures[0].input == REWORDED
    await got(either.delete_probe_set(made.id))
    with pytest.raises(errors.NotFound):
        await got(either.run_probe_set(made.id))


async def test_explanation_names_what_carries_an_answer_and_what_speaks_against_it(either):
    carrying = await got(either.correct(PIN, FIRST))
    await got(either.correct(SPAIN, "one day"))
    said = await got(either.explain(REWORDED, sample=2))
    assert (said.value, said.abstained, said.carriers[0].correction) == (FIRST, False, carrying.id)
    assert said.carriers[0].carries > said.carriers[1].carries
    assert said.counter.value == "one day"
    assert said.score == pytest.approx(sum(level.score for level in said.levels), abs=1e-4)


async def test_corrections_are_found_by_their_words_and_read_from_either_end(either):
    taught = [await got(either.correct(f"{text} {number}", "x", metadata={"n": number})) for number, text in enumerate((PIN, SPAIN, PIN))]
    assert [one.id for one in await listed(either.search("change pin"))] == [taught[2].id, taught[0].id]
    assert await listed(either.search("nowhere")) == []
    assert [one.seq for one in await listed(either.corrections(order="newest"))] == [3, 2, 1]


async def test_course_of_a_bank_counts_what_was_taught(either):
    await got(either.correct(PIN, FIRST))
    now = datetime.now(UTC)
    course = await got(either.stats("hour", since=now - timedelta(hours=2), until=now + timedelta(minutes=1)))
    assert (course.bucket, sum(moment.corrections for moment in course.series)) == ("hour", 1)
    assert len(course.series) in (3, 4)
    assert len((await got(either.stats())).series) in (30, 31)
    with pytest.raises(errors.Invalid) as refused:
        await got(either.stats(since=datetime(2026, 1, 1)))  # of no zone
    assert refused.value.errors[0]["field"] == "since"


async def test_bisection_finds_the_correction_that_brought_an_answer(either):
    await got(either.correct_many([{"input": f"question {place}", "right": f"answer {place}"} for place in range(12)]))
    before = await got(either.take_snapshot())
    planted = await got(either.correct(PIN, FIRST))
    await got(either.correct_many([{"input": f"question {place}", "right": f"answer {place}"} for place in range(12, 20)]))
    found = (await got((await got(either.bisect(REWORDED))).wait(timeout_s=PATIENCE_S))).result
    assert (found["changed"], found["correction"], found["last_snapshot_before"]) == (True, planted.id, before.id)
    await got(either.correct(SPAIN, "a day"))
    since = await got(either.take_snapshot())
    assert (await got((await got(either.bisect(REWORDED, since=since.id))).wait(timeout_s=PATIENCE_S))).result["changed"] is False


async def test_outcome_that_the_memory_knew_is_not_taught_again(either):
    new = await got(either.observe(PIN, FIRST, "nowhere"))
    assert (new.surprise, new.taught.seq) == (1, 1)
    assert (await got(either.get_correction(new.taught.id))).wrong == "nowhere"
    known = await got(either.observe(PIN, FIRST))
    assert known.taught is None
    assert known.surprise < 0.5
    other = await got(either.observe(PIN, SECOND))
    assert other.taught.receipt.item.after.value == SECOND
    assert other.surprise > 0.5
    assert len(await listed(either.corrections())) == 2

"""Versions of a bank by the client, of both kinds, against a running service: compared, checked, carried, gone back to, branched."""

from datetime import UTC, datetime

import pytest
from either_kind import got, listed
from saying import PIN, SPAIN
from waiting import PATIENCE_S

from palimpsest import errors

REWORDED = "How can I change the PIN of my card?"
FIRST, SECOND = "in the app", "at any cash machine"


async def test_snapshots_are_labelled_pinned_and_given_up(either):
    saved = await got(either.take_snapshot(note="first"))
    named = await got(either.change_snapshot(saved.id, label="stable", pinned=True))
    assert (named.label, named.note, named.pinned) == ("stable", "first", True)
    with pytest.raises(errors.Conflict):
        await got(either.delete_snapshot(saved.id))
    bare = await got(either.change_snapshot(saved.id, label=None, note=None, pinned=False))
    assert (bare.label, bare.note, bare.pinned) == (None, None, False)
    await got(either.delete_snapshot(saved.id))
    assert saved.id not in {one.id for one in await listed(either.snapshots())}


async def test_difference_tells_corrections_answers_and_levels(either):
    first = await got(either.correct(PIN, FIRST))
    before = await got(either.take_snapshot())
    second = await got(either.correct(PIN, SECOND))
    after = await got(either.take_snapshot())
    found = await got(either.diff(before.id, after.id))
    assert ([one.id for one in found.gained], found.lost_total) == ([second.id], 0)
    assert (FIRST, SECOND) in {(flip.before.value, flip.after.value) for flip in found.flips}
    assert max(level.drift for level in found.levels) > 0
    back = await got(either.diff(after.id, before.id))
    assert ([one.id for one in back.lost], back.gained_total) == ([second.id], 0)
    assert (await got(either.diff(after.id))).flips == []
    assert first.id not in {one.id for one in found.gained}


async def test_rollback_that_a_job_has_to_prepare_is_waited_for(either, monkeypatch):
    monkeypatch.setattr("workers.preparing.LONG", 1)
    for number in range(4):
        await got(either.correct(f"question {number}", f"answer {number}", session_id=f"s{number % 2}"))
    preview = await got(either.rollback(source={"session_id": "s1"}, dry_run=True, probes=3))
    moved = await got(either.rollback(source={"session_id": "s1"}))
    assert (preview.removed, preview.probes, preview.probes_of) == (2, 3, 4)
    assert (moved.removed, moved.job_id, moved.head is None) == (2, None, False)
    assert (await got(either.recall("question 1"))).value != "answer 1"
    assert [job.kind for job in await listed(either.jobs())] == ["preparation"]
    assert (await got(either.diff(moved.pre_rollback, probes=2))).probes == 2


async def test_snapshot_is_verified_exported_to_a_file_and_imported_again(either, tmp_path):
    await got(either.correct(PIN, FIRST))
    saved = await got(either.take_snapshot())
    verified = await got(either.verify_snapshot(saved.id))
    assert verified.ok
    assert all(check.ok for check in verified.checks)
    exported = await got(either.export(saved.id, ledger=True))
    file, seen = tmp_path / "bundle.tar", []
    assert await got(exported.save(str(file), progress=seen.append, timeout_s=PATIENCE_S)) == file
    assert seen[-1].status == "succeeded"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.tar"]
    imported = await got(either.import_bundle(file))
    assert (imported.snapshot.kind, imported.snapshot.digest, imported.snapshot.is_head) == ("import", saved.digest, False)
    assert imported.probes == imported.agreeing == 1
    file.write_bytes(file.read_bytes().replace(b"probes", b"prubes", 1))
    with pytest.raises(errors.BundleRefused):
        await got(either.import_bundle(file))
    with pytest.raises(FileNotFoundError):
        await got(either.import_bundle(tmp_path / "nowhere.tar"))
    with pytest.raises(FileNotFoundError):
        await got(exported.save(tmp_path / "no folder" / "bundle.tar"))


async def test_rollback_to_a_moment_and_past_a_source_and_with_what_is_kept(either):
    await got(either.correct(PIN, FIRST))
    moment = datetime.now(UTC)
    wrong = await got(either.correct(PIN, SECOND, session_id="chat-7"))
    later = await got(either.correct(SPAIN, "one day"))
    preview = await got(either.rollback(source={"session_id": "chat-7"}, dry_run=True))
    assert (preview.removed, preview.restored, preview.head) == (1, 0, None)
    past = await got(either.rollback(source={"session_id": "chat-7"}, reason="a bad conversation"))
    assert past.flips == preview.flips
    assert [(await got(either.recall(text))).value for text in (REWORDED, SPAIN)] == [FIRST, "one day"]
    back = await got(either.rollback(to_time=moment))
    assert [(await got(either.recall(text))).value for text in (REWORDED, SPAIN)] == [FIRST, None]
    await got(either.rollback(back.pre_rollback))
    await got(either.rollback(to_time=moment, keep=[later.id, wrong.id]))
    assert [(await got(either.recall(text))).value for text in (REWORDED, SPAIN)] == [SECOND, "one day"]
    saved = await got(either.take_snapshot())
    await got(either.correct("And the fees?", "none"))
    await got(either.rollback(saved.id, keep="corrections_after"))
    assert (await got(either.recall("And the fees?"))).value == "none"
    assert (await got(either.get_correction(wrong.id))).status == "active"
    with pytest.raises(errors.Invalid) as refused:
        await got(either.rollback())
    assert refused.value.errors[0]["field"] == "to"
    with pytest.raises(errors.Invalid) as refused:
        await got(either.rollback(saved.id, levels=["fast"]))
    assert refused.value.errors[0]["field"] == "levels"


async def test_branch_is_taught_compared_promoted_or_dropped(either, bank):
    await got(either.correct(PIN, FIRST))
    branch = await got(either.create_branch(f"what if {bank}"))
    assert (branch.bank, branch.corrections) == ((await got(either.get_bank(bank))).id, 1)
    assert [one.id for one in await listed(either.branches())] == [branch.id]
    await got(either.correct(PIN, SECOND, bank=branch.id))
    found = await got(either.diff_branch(branch.id))
    assert ([one.right for one in found.gained], found.lost_total) == ([SECOND], 0)
    await got(either.correct(SPAIN, "one day"))
    with pytest.raises(errors.HeadMoved):
        await got(either.promote_branch(branch.id))
    promoted = await got(either.promote_branch(branch.id, refold=True))
    assert [(await got(either.recall(text))).value for text in (REWORDED, SPAIN)] == [SECOND, "one day"]
    assert [one.id for one in await listed(either.corrections())][-1] == promoted.corrections[-1]
    assert await listed(either.branches()) == []
    await got(either.rollback(promoted.before))
    assert (await got(either.recall(REWORDED))).value == FIRST
    other = await got(either.create_branch(f"another {bank}", at=promoted.before))
    await got(either.delete_branch(other.id))
    with pytest.raises(errors.NotFound):
        await got(either.diff_branch(other.id))

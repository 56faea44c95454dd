"""No call reads or changes another tenant's rows (I6): every store function that takes a tenant, called with the wrong one.

Here the argument has to do it alone: on PostgreSQL as the superuser, for whom there is no row-level security (its tests are beside these).

Each is called with the owner's ids: by the owner, which must do or tell something (or the case shows nothing); by a stranger, for whom
nothing may come of it; and by a tenant whose bank has the very same id, who may only ever meet his own rows.
"""

import inspect
from importlib import import_module
from pkgutil import iter_modules

import pytest
from keeping import NOW, append, behind_its_back, draft, forget, later, new_tenant, sha, state
from msgspec import structs
from sqlalchemy.exc import IntegrityError
from world import BANK, World, hook, key, owned, proposed, signing_in

import service.store
from service.errors import PalimpsestError
from service.store import (
    audit,
    banks,
    blob_rows,
    branches,
    bundles,
    changes,
    corrections,
    debt,
    erasure,
    fences,
    forgets,
    history,
    idempotency,
    jobs,
    ledger,
    lookup,
    probe_sets,
    proposals,
    quarantines,
    sessions,
    sign_ins,
    snapshots,
    tenants,
    turns,
    webhooks,
)
from service.store.quarantines import Source
from service.store.rows import BankRow, HeadMove
from service.wire import Probe

SILENT = {"banks.lock"}  # tells nothing and changes nothing; the contention tests show that it locks
SILENT |= {"tenants.create_tenant", "erasure.was_erased"}  # refuses an id that there is; tells of none that there is


async def told(work, nothing):
    """What the work says, None where that is nothing."""
    said = await work
    return None if said == nothing else said


async def kept(conn, work) -> None:
    """Do the work, unless a row would belong to one of somebody else."""
    try:
        async with conn.begin_nested():
            await work
    except IntegrityError:
        return


class Undo(Exception):
    """Ends a try without a trace."""


MOVE = HeadMove(expected_version=1, moved_by="k", reason="r")
FORGET = {"mode": "erase", "exact": True, "reason": None, "created_by": "k", "job_id": None, "now": NOW}
BEGIN = {"request_hash": b"r" * 32, "now": later(99), "lease_s": 9}
QUARANTINE = {"reason": None, "created_by": "k", "now": NOW}
ENDED = {"attempt": 0, "status": "failed", "answered": 500, "error": None, "due_at": NOW, "now": later(9)}
CARRIED = {"spans": (), "manifest": b"m", "data": b"d", "now": NOW}
RECORD = {"actor": "a", "request_id": "r", "action": "x", "target": "t", "detail": {}, "now": NOW}

PROBES = {"id": "prb_new", "name": "new", "probes": [Probe(input="a", expected=None)], "created_by": "k", "now": NOW}


def headed(world: World) -> BankRow:
    """The bank as it is, with its head."""
    return structs.replace(world.bank, head=world.head.id, seq=len(world.events))


CASES = {
    "audit.record": lambda c, t, w: audit.record(c, t, **RECORD),
    "audit.happened": lambda c, t, w: audit.happened(c, t, "x"),
    "audit.verify": lambda c, t, w: told(audit.verify(c, t), audit.Verified(0, "")),
    "audit.page": lambda c, t, w: audit.page(c, t, None, 9),
    "banks.create_bank": lambda c, t, w: banks.create_bank(c, t, "new", id="bnk_new", **BANK),
    "banks.find_bank": lambda c, t, w: banks.find_bank(c, t, w.bank.id),
    "banks.list_banks": lambda c, t, w: banks.list_banks(c, t, None, 9, [w.bank.id]),
    "banks.acquire": lambda c, t, w: banks.acquire(c, t, w.bank.id, "stranger"),
    "banks.repay": lambda c, t, w: banks.repay(c, t, w.bank.id, tokens=1, events=1, now=NOW),
    "debt.owe": lambda c, t, w: debt.owe(c, t, w.bank.id, seq=0, tokens=1, events=1, now=NOW),
    "banks.by_encoder": lambda c, t, w: banks.by_encoder(c, t),
    "banks.lock": lambda c, t, w: banks.lock(c, t, w.bank.id),
    "banks.delete_bank": lambda c, t, w: banks.delete_bank(c, t, w.bank.id, NOW),
    "blob_rows.stage": lambda c, t, w: blob_rows.stage(c, t, [(sha("unused"), 1)], NOW),
    "blob_rows.revive": lambda c, t, w: blob_rows.revive(c, t, [sha("pending")], w.births),
    "blob_rows.condemn_unused": lambda c, t, w: blob_rows.condemn_unused(c, t, [sha("pending")]),
    "blob_rows.in_use": lambda c, t, w: blob_rows.in_use(c, t),
    "blob_rows.begin_delete": lambda c, t, w: blob_rows.begin_delete(c, t, [sha("unused")], now=NOW, before=NOW),
    "blob_rows.strike": lambda c, t, w: blob_rows.strike(c, t, [sha("going")]),
    "blob_rows.give_up": lambda c, t, w: blob_rows.give_up(c, t, [sha("going")]),
    "blob_rows.unneeded": lambda c, t, w: blob_rows.unneeded(c, t),
    "changes.emit": lambda c, t, w: changes.emit(c, t, "rollback.done", w.bank.id, {}, NOW),
    "changes.waiting": lambda c, t, w: changes.waiting(c, t),
    "changes.publish": lambda c, t, w: changes.publish(c, t, NOW),
    "changes.last": lambda c, t, w: changes.last(c, t),
    "changes.first": lambda c, t, w: changes.first(c, t),
    "changes.page": lambda c, t, w: changes.page(c, t, 0, 9),
    "changes.get_change": lambda c, t, w: changes.get_change(c, t, w.change),
    "changes.purge": lambda c, t, w: changes.purge(c, t, later(9)),
    "branches.add": lambda c, t, w: branches.add(c, t, w.bank.id, id=w.empty.id, spans=(), created_by="k", now=NOW),
    "branches.get": lambda c, t, w: branches.get(c, t, w.bank.id),
    "branches.origin": lambda c, t, w: branches.origin(c, t, w.bank.id),
    "branches.copies": lambda c, t, w: branches.copies(c, t, w.empty.id, [1]),
    "branches.list_branches": lambda c, t, w: branches.list_branches(c, t, w.empty.id),
    "bundles.add": lambda c, t, w: bundles.add(c, t, w.bank.id, id="exp_2", **CARRIED),
    "bundles.get": lambda c, t, w: bundles.get(c, t, w.bundle, NOW),
    "bundles.part": lambda c, t, w: bundles.part(c, t, w.bundle, 0),
    "bundles.drop": lambda c, t, w: bundles.drop(c, t, [w.bundle]),
    "bundles.drop_holding": lambda c, t, w: bundles.drop_holding(c, t, w.bank.id, [2]),
    "corrections.standing": lambda c, t, w: corrections.standing(c, t, headed(w)),
    "corrections.shown": lambda c, t, w: corrections.shown(c, t, headed(w), w.events),
    "corrections.removal": lambda c, t, w: corrections.removal(c, t, w.bank.id, 0),
    "erasure.erase_tenant": lambda c, t, w: erasure.erase_tenant(c, t, NOW),
    "erasure.was_erased": lambda c, t, w: erasure.was_erased(c, t),
    "fences.fence": lambda c, t, w: fences.fence(c, t, w.bank.id),
    "forgets.add_forget": lambda c, t, w: forgets.add_forget(c, t, w.bank.id, event_ids=w.ids, **FORGET),
    "forgets.tombstones": lambda c, t, w: forgets.tombstones(c, t, w.bank.id),
    "forgets.any_since": lambda c, t, w: forgets.any_since(c, t, NOW),
    "forgets.set_job": lambda c, t, w: forgets.set_job(c, t, w.forget.id, "job_x"),
    "forgets.texts_of": lambda c, t, w: forgets.texts_of(c, t, w.bank.id, [1, 2]),
    "forgets.redact": lambda c, t, w: forgets.redact(c, t, w.bank.id, [1, 2, 3], NOW),
    "forgets.get_forget": lambda c, t, w: forgets.get_forget(c, t, w.forget.id),
    "forgets.certify": lambda c, t, w: forgets.certify(c, t, w.forget, {"a": 1}),
    "forgets.complete": lambda c, t, w: forgets.complete(c, t, w.forget, {}, NOW),
    "forgets.list_forgets": lambda c, t, w: forgets.list_forgets(c, t, w.bank.id, None, 9),
    "history.lessons": lambda c, t, w: history.lessons(c, t, w.bank.id, 0, 9, 9),
    "history.spoken": lambda c, t, w: history.spoken(c, t, w.bank.id, ((0, 99),)),
    "history.newest_said": lambda c, t, w: history.newest_said(c, t, w.bank.id, ((0, 1),), 9),
    "history.newest_of": lambda c, t, w: history.newest_of(c, t, w.bank.id, 0, 9),
    "history.same_input": lambda c, t, w: history.same_input(c, t, w.bank.id, "same Olga", 9),
    "history.same_inputs": lambda c, t, w: told(history.same_inputs(c, t, w.bank.id, ["same Olga"], 9), {"same Olga": []}),
    "history.responses": lambda c, t, w: history.responses(c, t, w.bank.id),
    "history.by_ids": lambda c, t, w: history.by_ids(c, t, w.bank.id, w.ids),
    "history.by_id": lambda c, t, w: history.by_id(c, t, w.ids[0]),
    "history.with_its_input": lambda c, t, w: history.with_its_input(c, t, w.bank.id, 1),
    "history.by_seqs": lambda c, t, w: history.by_seqs(c, t, w.bank.id, [1, 2]),
    "history.page": lambda c, t, w: history.page(c, t, w.bank.id, None, 9),
    "history.ids_of_source": lambda c, t, w: history.ids_of_source(c, t, w.bank.id, session="s", key=None, limit=9),
    "history.seqs_of_source": lambda c, t, w: history.seqs_of_source(c, t, w.bank.id, session="s", key=None),
    "history.newest_before": lambda c, t, w: history.newest_before(c, t, w.bank.id, NOW),
    "history.chain_at": lambda c, t, w: history.chain_at(c, t, w.bank.id, 1),
    "history.later_same_input": lambda c, t, w: history.later_same_input(c, t, w.bank.id, [1]),
    "history.worded": lambda c, t, w: history.worded(c, t, w.bank.id),
    "idempotency.begin": lambda c, t, w: idempotency.begin(c, t, "done", **BEGIN),
    "idempotency.mark_committed": lambda c, t, w: idempotency.mark_committed(c, t, "pending", bank=w.bank.id, first_seq=1, last_seq=1),
    "idempotency.committed": lambda c, t, w: idempotency.committed(c, t, "committed"),
    "idempotency.finish": lambda c, t, w: idempotency.finish(c, t, "pending", status=200, reply=b"x", now=NOW),
    "idempotency.renew": lambda c, t, w: idempotency.renew(c, t, "pending", now=later(99), lease_s=60),
    "idempotency.abandon": lambda c, t, w: idempotency.abandon(c, t, "pending"),
    "idempotency.scrub": lambda c, t, w: idempotency.scrub(c, t, ["same Olga"]),
    "jobs.enqueue": lambda c, t, w: jobs.enqueue(c, t, kind="gc", bank=None, payload={}, dedupe="d", now=NOW),
    "jobs.cancel": lambda c, t, w: jobs.cancel(c, t, w.job.id, NOW),
    "jobs.get_job": lambda c, t, w: jobs.get_job(c, t, w.job.id),
    "jobs.list_jobs": lambda c, t, w: jobs.list_jobs(c, t, w.bank.id, None, 9),
    "jobs.scrub": lambda c, t, w: jobs.scrub(c, t, w.bank.id),
    "jobs.pending_for": lambda c, t, w: jobs.pending_for(c, t, w.bank.id, ["gc"]),
    "ledger.append": lambda c, t, w: ledger.append(c, t, w.bank.id, [draft()], epoch=0, head_version=1, now=NOW),
    "ledger.verify_chain": lambda c, t, w: ledger.verify_chain(c, t, w.bank.id),
    "quarantines.add": lambda c, t, w: quarantines.add(c, t, w.bank.id, source=Source(), event_ids=w.ids, **QUARANTINE),
    "quarantines.lift": lambda c, t, w: quarantines.lift(c, t, w.quarantine.id, by="k", now=NOW),
    "quarantines.set_job": lambda c, t, w: quarantines.set_job(c, t, w.quarantine.id, "job_x"),
    "quarantines.get": lambda c, t, w: quarantines.get(c, t, w.quarantine.id),
    "quarantines.seqs": lambda c, t, w: quarantines.seqs(c, t, w.quarantine.id),
    "quarantines.page": lambda c, t, w: quarantines.page(c, t, w.bank.id, None, 9),
    "quarantines.held": lambda c, t, w: quarantines.held(c, t, w.bank.id),
    "quarantines.hidden": lambda c, t, w: quarantines.hidden(c, t, w.bank.id),
    "quarantines.closed": lambda c, t, w: quarantines.closed(c, t, w.bank.id),
    "lookup.search": lambda c, t, w: lookup.search(c, t, w.bank.id, ["same"], None, 9),
    "lookup.course": lambda c, t, w: lookup.course(c, t, w.bank.id, "day", NOW, later(9)),
    "lookup.add_drift": lambda c, t, w: lookup.add_drift(c, t, w.bank.id, w.head.id, {"fast": 0.1}, NOW),
    "lookup.drifts": lambda c, t, w: lookup.drifts(c, t, w.bank.id, NOW, later(9)),
    "probe_sets.add_probe_set": lambda c, t, w: probe_sets.add_probe_set(c, t, w.bank.id, **PROBES),
    "probe_sets.get_probe_set": lambda c, t, w: probe_sets.get_probe_set(c, t, w.probe_set.id),
    "probe_sets.list_probe_sets": lambda c, t, w: probe_sets.list_probe_sets(c, t, w.bank.id, None, 9),
    "probe_sets.change_probe_set": lambda c, t, w: probe_sets.change_probe_set(c, t, w.probe_set.id, PROBES["probes"]),
    "probe_sets.delete_probe_set": lambda c, t, w: probe_sets.delete_probe_set(c, t, w.probe_set.id),
    "probe_sets.scrub": lambda c, t, w: probe_sets.scrub(c, t, w.bank.id, ["same Olga"]),
    "proposals.propose": lambda c, t, w: proposals.propose(c, t, w.bank.id, **proposed("prp_new", "new")),
    "proposals.get_proposal": lambda c, t, w: proposals.get_proposal(c, t, w.proposal.id),
    "proposals.list_proposals": lambda c, t, w: proposals.list_proposals(c, t, w.bank.id, None, 9),
    "proposals.drop_proposal": lambda c, t, w: proposals.drop_proposal(c, t, w.proposal.id),
    "proposals.scrub": lambda c, t, w: proposals.scrub(c, t, w.bank.id, ["same Olga"]),
    "sessions.open_session": lambda c, t, w: sessions.open_session(c, t, w.bank.id, "s", now=later(9), before=NOW),
    "sessions.use_session": lambda c, t, w: sessions.use_session(c, t, w.bank.id, "s", now=later(9), before=NOW),
    "sessions.get_session": lambda c, t, w: sessions.get_session(c, t, w.bank.id, "s", before=NOW),
    "sessions.list_sessions": lambda c, t, w: sessions.list_sessions(c, t, w.bank.id, None, 9, before=NOW),
    "sessions.close_session": lambda c, t, w: sessions.close_session(c, t, w.bank.id, "s", before=NOW),
    "sessions.purge": lambda c, t, w: sessions.purge(c, t, later(9), 9),
    "sign_ins.add_sign_in": lambda c, t, w: sign_ins.add_sign_in(c, t, **signing_in("sgn_new")),
    "sign_ins.end_sign_in": lambda c, t, w: sign_ins.end_sign_in(c, t, "sgn_1"),
    "snapshots.commit_snapshot": lambda c, t, w: snapshots.commit_snapshot(c, t, w.bank.id, state(), now=NOW, epoch=None, move_head=MOVE),
    "snapshots.get_snapshot": lambda c, t, w: snapshots.get_snapshot(c, t, w.head.id),
    "snapshots.get_kept": lambda c, t, w: snapshots.get_kept(c, t, w.head.id, w.bank.id),
    "snapshots.is_kept": lambda c, t, w: snapshots.is_kept(c, t, w.head.id, w.bank.id),
    "snapshots.head_at": lambda c, t, w: snapshots.head_at(c, t, w.bank.id, NOW),
    "snapshots.amend": lambda c, t, w: snapshots.amend(c, t, w.bank.id, w.head.id, {"pinned": True}),
    "snapshots.retire": lambda c, t, w: snapshots.retire(c, t, w.bank.id, w.auto.id, NOW),
    "snapshots.list_snapshots": lambda c, t, w: snapshots.list_snapshots(c, t, w.bank.id, None, 9),
    "snapshots.usable": lambda c, t, w: snapshots.usable(c, t, w.bank.id),
    "snapshots.heads": lambda c, t, w: snapshots.heads(c, t, w.bank.id),
    "snapshots.destroy_snapshots": lambda c, t, w: snapshots.destroy_snapshots(c, t, w.bank.id, [w.head.id, w.auto.id], NOW),
    "snapshots.spare_autos": lambda c, t, w: snapshots.spare_autos(c, t, w.bank.id, 0),
    "tenants.create_tenant": lambda c, t, w: tenants.create_tenant(c, t, "again", NOW),
    "tenants.any_key": lambda c, t, w: tenants.any_key(c, t),
    "tenants.add_key": lambda c, t, w: tenants.add_key(c, t, **key("key_new")),
    "tenants.get_key": lambda c, t, w: tenants.get_key(c, t, "key_1"),
    "tenants.list_keys": lambda c, t, w: tenants.list_keys(c, t, None, 9),
    "tenants.revoke_key": lambda c, t, w: tenants.revoke_key(c, t, "key_1", NOW),
    "tenants.expire_key": lambda c, t, w: tenants.expire_key(c, t, "key_1", NOW),
    "webhooks.add_webhook": lambda c, t, w: webhooks.add_webhook(c, t, **hook("whk_new")),
    "webhooks.list_webhooks": lambda c, t, w: webhooks.list_webhooks(c, t, None, 9),
    "webhooks.get_webhook": lambda c, t, w: webhooks.get_webhook(c, t, "whk_1"),
    "webhooks.delete_webhook": lambda c, t, w: webhooks.delete_webhook(c, t, "whk_1"),
    "webhooks.send": lambda c, t, w: kept(c, webhooks.send(c, t, [(w.change, "correction.created")], NOW)),
    "webhooks.list_deliveries": lambda c, t, w: webhooks.list_deliveries(c, t, "whk_1", None, 9),
    "webhooks.get_delivery": lambda c, t, w: webhooks.get_delivery(c, t, w.delivery),
    "webhooks.deliver_again": lambda c, t, w: webhooks.deliver_again(c, t, w.delivery, later(5)),
    "webhooks.take": lambda c, t, w: webhooks.take(c, t, w.delivery, now=later(9), until=later(99)),
    "webhooks.ended": lambda c, t, w: webhooks.ended(c, t, w.delivery, **ENDED),
    "turns.append": lambda c, t, w: turns.append(c, t, w.bank.id, w.turn("trn_new"), epoch=0, head_version=1, now=NOW),
    "turns.said": lambda c, t, w: turns.said(c, t, w.empty.id, 0, 9, 9),
    "turns.seqs": lambda c, t, w: turns.seqs(c, t, w.empty.id, 9),
    "turns.known": lambda c, t, w: turns.known(c, t, w.empty.id, [f"trn_{w.name}"], since=NOW),
    "tenants.touch_key": lambda c, t, w: tenants.touch_key(c, t, "key_1", NOW),
}
HIS_OWN = {"banks.create_bank", "jobs.enqueue", "tenants.add_key", "webhooks.add_webhook"}  # a stranger is told of rows that he made
HIS_OWN |= {"blob_rows.condemn_unused", "blob_rows.stage"}  # and of the digests that he named


OF_ALL_TENANTS = {  # what a sweep does, whose role reads no memory, and what finds out who somebody is
    "blob_rows.left_over",
    "changes.tenants_waiting",
    "changes.tenants_with_old",
    "blob_rows.release_deletions",
    "bundles.purge",
    "debt.due",
    "erasure.erased_since",
    "idempotency.purge",
    "idempotency.release_leases",
    "jobs.claim",
    "jobs.extend",
    "jobs.finish",
    "jobs.ready",
    "jobs.release",
    "jobs.release_claims",
    "sign_ins.find_sign_in",
    "tenants.all_ids",
    "tenants.ensure_tenant",
    "tenants.find_key",
    "tenants.find_tenant",
    "webhooks.due",
}


def test_every_store_function_takes_a_tenant_and_is_tried_or_is_known_to_be_of_all():
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for module in iter_modules(service.store.__path__):
        loaded = import_module(f"service.store.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.iscoroutinefunction):
            if function.__module__ == loaded.__name__ and not name.startswith("_"):
                found["tenant" in inspect.signature(function).parameters].add(f"{module.name}.{name}")
    assert found == {True: set(CASES), False: OF_ALL_TENANTS}


async def attempt(database, name: str, caller: str, world: World, before: dict) -> tuple[object, bool]:
    """What a case told the caller (an error's class stands for a refusal), and whether the owner's rows changed. Leaves nothing."""
    told: object = None
    changed = False
    try:
        async with behind_its_back(database) as conn:
            try:
                told = await CASES[name](conn, caller, world)
            except PalimpsestError as error:
                told = type(error)
            changed = await owned(conn, world.tenant) != before
            raise Undo
    except Undo:
        return told, changed


def says_something(told: object) -> bool:
    if isinstance(told, type) or told == idempotency.Fresh():
        return False
    return any(told.values()) if isinstance(told, dict) else bool(told)


@pytest.mark.timeout(900)  # every function of the store, three times
async def test_foreign_tenant_sees_and_changes_nothing(database):
    owner = await World("Olga").build(database)
    stranger = await new_tenant(database)
    twin = await World("Tom").build(database, owner.bank.id)
    async with database.read(owner.tenant) as conn:
        before = await owned(conn, owner.tenant)
    assert [name for name in before if not before[name]] == ["erased_tenant"], "the owner has something in every table"
    hers = [
        owner.tenant,
        *owner.ids,
        owner.head.id,
        owner.auto.id,
        owner.forget.id,
        owner.job.id,
        owner.quarantine.id,
        owner.change,
        owner.delivery,
        "Olga",
    ]
    wrong = {}
    for name in CASES:
        told, changed = await attempt(database, name, owner.tenant, owner, before)
        if name not in SILENT and not (changed or says_something(told)):
            wrong[name] = f"nothing came of it for the owner, so the case shows nothing: {told!r}"
        told, changed = await attempt(database, name, stranger, owner, before)
        if changed:
            wrong[name] = "a stranger changed the owner's rows"
        if name not in HIS_OWN and says_something(told):
            wrong[name] = f"a stranger was told {told!r}"
        told_twin, changed = await attempt(database, name, twin.tenant, owner, before)
        if changed or any(word in repr(each) for word in hers for each in (told, told_twin)):
            wrong[name] = f"one whose bank has the same id met the owner's rows: {told_twin!r}"
    assert wrong == {}


async def test_writes_into_a_bank_of_the_same_id_stay_with_their_tenant(database):
    owner = await World("Olga").build(database)
    twin = await World("Tom").build(database, owner.bank.id)
    async with database.read(owner.tenant) as conn:
        before = await owned(conn, owner.tenant)
    (row,) = await append(database, twin.bank, draft("new", "a Olga"), head_version=1)
    assert (row.seq, row.response) == (4, 2), "his bank never heard that response"
    await forget(database, twin.bank, twin.events[0], mode="erase")
    async with database.write(twin.tenant) as conn:
        await forgets.redact(conn, twin.tenant, twin.bank.id, [1, 2, 3], NOW)
        await banks.delete_bank(conn, twin.tenant, twin.bank.id, NOW)
    async with database.read(owner.tenant) as conn:
        assert await owned(conn, owner.tenant) == before

"""Forgetting, quarantine, keys, the audit, webhooks and the change feed by the client, of both kinds, against a running service."""

import asyncio
import contextlib
import threading
import time

import pytest
from doors import Told, cutting, problem, saying
from either_kind import got, listed
from fixtures_service import ADMIN_KEY, Lab
from listening import listening
from saying import PIN, SPAIN
from waiting import PATIENCE_S, until

from palimpsest import AsyncClient, Client, errors

FIRST, SECOND = "in the app", "at any cash machine"
KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient], ids=["waiting", "awaiting"])


async def test_forgetting_a_source_is_previewed_confirmed_and_certified(either):
    mine = [(await got(either.correct(text, "x", session_id="chat-7"))).id for text in (PIN, SPAIN)]
    kept = await got(either.correct("And the fees?", "none"))
    preview = await got(either.forget(source={"session_id": "chat-7"}, mode="erase", dry_run=True))
    assert (preview.id, preview.dry_run, preview.effective_now, sorted(preview.corrections)) == (None, True, False, sorted(mine))
    assert {flip.input for flip in preview.flips} == {PIN, SPAIN}
    assert await got(preview.wait()) is None
    assert (await got(either.recall(PIN))).value == "x"
    late = await got(either.correct("And the limit?", "x", session_id="chat-7"))
    with pytest.raises(errors.Conflict):
        await got(either.forget(source={"session_id": "chat-7"}, mode="erase", confirm_token=preview.confirm_token))
    await got(either.forget([late.id]))
    again = await got(either.forget(mine, "erase", dry_run=True))
    done = await got(either.forget(mine, "erase", confirm_token=again.confirm_token, reason="asked to"))
    await got(done.wait(timeout_s=PATIENCE_S))
    certificate = await got(either.certificate(done.id))
    assert (certificate.complete, certificate.passed, sorted(certificate.corrections)) == (True, True, sorted(mine))
    assert certificate.removed.redacted_events == 2
    certified = {one.id: one.bank_deleted_at for one in await listed(either.certificates())}
    assert (len(certified), certified[done.id]) == (2, None), "of the late one, too"
    assert certificate.weights.digest_before != certificate.weights.digest_after
    assert (await got(either.get_correction(kept.id))).status == "active"


async def test_quarantine_holds_a_source_out_until_it_is_lifted(either):
    await got(either.correct(PIN, FIRST, session_id="chat-7"))
    digest = (await got(either.memory())).digest
    held = await got(either.quarantine(source={"session_id": "chat-7"}, reason="leaked"))
    assert (held.corrections, held.reason, held.lifted_at) == (1, "leaked", None)
    assert (await got(either.recall(PIN))).value is None
    with pytest.raises(errors.Conflict):
        await got(either.correct(SPAIN, "x", session_id="chat-7"))
    await got(either.wait(held.job_id, timeout_s=PATIENCE_S))
    assert [one.id for one in await listed(either.quarantines())] == [held.id]
    lifted = await got(either.lift_quarantine(held.id))
    assert lifted.lifted_at is not None
    await got(either.wait(lifted.job_id, timeout_s=PATIENCE_S))
    assert (await got(either.memory())).digest == digest
    assert await got(either.lift_quarantine(held.id)) == lifted
    one = await got(either.quarantine([(await got(either.correct(SPAIN, "x"))).id]))
    assert one.corrections == 1


async def test_key_with_a_rate_is_rotated_and_both_work_for_a_while(either, url):
    minted = await got(either.mint_key("worker", ["recall:read"], rate=100))
    assert minted.rate == 100
    successor = await got(either.rotate_key(minted.id, overlap_s=60))
    assert (successor.replaces, successor.scopes, successor.rate) == (minted.id, ["recall:read"], 100)
    for key in (minted.key, successor.key):
        with Client(url, api_key=key) as worker:
            assert worker.whoami().scopes == ["recall:read"]
    assert successor.replaced_until == next(key for key in await listed(either.keys()) if key.id == minted.id).expires_at


async def test_secret_whose_reply_was_lost_is_said_to_be_lost(either, url):
    minted = await got(either.mint_key("worker", ["recall:read"]))
    with cutting(url, 0, 2) as door:
        client = type(either)(door.url, api_key=ADMIN_KEY)
        with pytest.raises(errors.SecretLost, match="rotate"):
            await got(client.rotate_key(minted.id))
        with pytest.raises(errors.SecretLost, match="revoke"):
            await got(client.mint_key("another", ["recall:read"]))
        await got(client.close())


async def test_audit_holds_and_tells_its_chain(either):
    await got(either.create_bank(f"audited {time.time_ns()}"))
    verified = await got(either.verify_audit())
    entries = await listed(either.audit())
    assert (verified.ok, verified.broken, verified.hash) == (True, None, entries[0].hash)
    assert entries[0].prev_hash == entries[1].hash
    assert entries[0].seq == verified.entries


async def test_webhook_to_an_address_inside_the_network_is_refused(either):
    with pytest.raises(errors.Invalid) as refused:
        await got(either.create_webhook("http://127.0.0.1:9/", ["rollback.done"]))
    assert refused.value.errors[0]["field"] == "url"


@pytest.fixture(scope="module")
def calling(tmp_path_factory, encoder):
    """Where a service listens that may call addresses of this machine."""
    lab = Lab(tmp_path_factory.mktemp("calling") / "var", encoder, webhook_private=True)
    with listening(lab) as base:
        yield base
    lab.close()


@KINDS
async def test_webhook_is_told_its_deliveries_are_listed_and_made_again(kind, calling):
    with saying(Told(200)) as door:
        client = kind(calling, api_key=ADMIN_KEY)
        made = await got(client.create_webhook(door.url, ["snapshot.created"]))
        assert made.secret.startswith("whsec_")
        assert [(one.id, one.events) for one in await listed(client.webhooks())] == [(made.id, ["snapshot.created"])]
        await got(client.take_snapshot())
        (first,) = await delivered(client, made.id)
        assert (first.event, first.attempts, first.answered) == ("snapshot.created", 1, 200)
        assert (await got(client.redeliver(made.id, first.id))).status == "pending"
        await delivered(client, made.id)
        assert [asked.headers["palimpsest-event"] for asked in door.asked] == ["snapshot.created"] * 2
        with cutting(calling, 0) as cut:
            losing = kind(cut.url, api_key=ADMIN_KEY)
            with pytest.raises(errors.SecretLost, match="delete it"):
                await got(losing.create_webhook(door.url, ["rollback.done"]))
            await got(losing.close())
        for one in await listed(client.webhooks()):
            await got(client.delete_webhook(one.id))
        assert await listed(client.webhooks()) == []
        await got(client.close())


async def delivered(client, webhook_id) -> list:
    """The deliveries once all have been made."""

    async def all_made() -> list | None:
        found = await listed(client.deliveries(webhook_id))
        return found if all(one.status == "delivered" for one in found) else None

    return await until(all_made, "all deliveries are made", every_s=0.05)


async def test_feed_tells_what_happens_and_is_taken_up_behind_a_place(either):
    await got(either.correct("And the limit?", "none"))
    assert await listed(either.changes(wait_s=0)) == []
    since = (await listed(either.changes(since="0", wait_s=0)))[-1].place
    taught = await got(either.correct(PIN, FIRST))
    saved = await got(either.take_snapshot())
    both = await listed(either.changes(since=since, wait_s=0, bank=either.bank))
    assert [(one.change.event, one.change.data.get("snapshot")) for one in both[1:]] == [("snapshot.created", saved.id)]
    assert both[0].change.data["corrections"] == [taught.id]
    assert await listed(either.changes(since=both[0].place, events=["rollback.done"], wait_s=0)) == []
    assert await listed(either.changes(since=both[0].place, events=["snapshot.created"], wait_s=0, bank=either.bank)) == both[1:]
    with pytest.raises(errors.Invalid):
        await listed(either.changes(events=["never.heard"], wait_s=0))


async def test_feed_tells_at_once_what_happens_while_it_is_read(memory, url, bank):
    """It would not end by itself; it is taught again and again, since nobody knows from when on it is read."""
    heard, taught = threading.Event(), []

    def teach():
        while not heard.wait(0.5):
            taught.append(memory.correct(PIN, FIRST).id)

    def read():
        with Client(url, api_key=ADMIN_KEY) as reader:
            return next(reader.changes(events=["correction.created"], bank=bank))

    async def read_awaiting():
        async with (
            AsyncClient(url, api_key=ADMIN_KEY) as reader,
            contextlib.aclosing(reader.changes(bank=bank, events=["correction.created"])) as changes,
        ):
            return await anext(changes)

    for reading in (asyncio.to_thread(read), read_awaiting()):
        heard.clear()
        teaching = asyncio.ensure_future(asyncio.to_thread(teach))
        try:
            first = await asyncio.wait_for(reading, PATIENCE_S)
        finally:
            heard.set()
            await teaching
        assert first.change.event == "correction.created"
        assert first.change.data["corrections"][0] in taught


CHANGE = b'{"id": "chg_%d", "event": "rollback.done", "bank": "bank_1", "data": {}, "created_at": "2026-11-29T12:00:00Z"}'


def stream(*parts: bytes) -> Told:
    return Told(200, b"".join(parts), {"Content-Type": "text/event-stream"})


def event(place: int) -> bytes:
    return b"id: %d\nevent: rollback.done\ndata: %b\n\n" % (place, CHANGE % place)


@KINDS
async def test_feed_that_breaks_anywhere_goes_on_behind_the_last_place(kind):
    with (
        saying(
            stream(b": here\nid: 6\n\n"),  # ended in order before anything happened
            stream(b": here\nid: 6\n\n", event(7), event(8)[:40]),
            None,
            problem(503, "capacity"),
            stream(b": here\nid: 7\n\n", event(8), b"id: 9\nevent: missed\ndata: {}\n\n"),
            problem(403, "forbidden"),
        ) as door
    ):
        client, heard = kind(door.url, api_key="k"), []
        with pytest.raises(errors.Forbidden):
            await each(client.changes(), heard)
        await got(client.close())
    assert [asked.headers.get("last-event-id") for asked in door.asked] == [None, "6", "7", "7", "7", "9"]
    assert [(one.place, one.change and one.change.id) for one in heard] == [("7", "chg_7"), ("8", "chg_8"), ("9", None)]


async def each(items, heard: list) -> None:
    """Keep what is heard, also when it ends with an error."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            heard.append(item)
    else:
        for item in items:
            heard.append(item)


@KINDS
async def test_feed_is_not_asked_for_ever_where_there_is_none(kind):
    for answer, wanted in (
        (Told(200, b"<html>"), errors.VersionMismatch),
        (problem(503, "capacity"), errors.Capacity),
        (None, errors.Unreachable),
    ):
        with saying(answer) as door:
            client = kind(door.url, api_key="k", retries=2)
            with pytest.raises(wanted):
                await listed(client.changes())
            await got(client.close())
        assert len([asked for asked in door.asked if asked.path != "/openapi.json"]) == (1 if wanted is errors.VersionMismatch else 3)

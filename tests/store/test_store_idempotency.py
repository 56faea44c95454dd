"""Idempotency keys: of all requests with a key one is done, and what it did is told to the others."""

import json

import pytest
from keeping import NOW, append, draft, find, later, new_bank, new_tenant

from service.api.replies import encode
from service.errors import IdempotencyInFlight, IdempotencyMismatch
from service.store import idempotency, ledger
from service.store.idempotency import Committed, Done, Fresh
from service.wire import Said

ONE, OTHER = b"1" * 32, b"2" * 32
LEASE = 60


async def begin(database, tenant, *, at=0.0, request=ONE, key="key"):
    async with database.write(tenant) as conn:
        return await idempotency.begin(conn, tenant, key, request_hash=request, now=later(at), lease_s=LEASE)


async def in_flight(database, tenant, **how) -> bool:
    try:
        await begin(database, tenant, **how)
    except IdempotencyInFlight:
        return True
    return False


async def commit(database, tenant, bank, first=1, last=1):
    async with database.write(tenant) as conn:
        await idempotency.mark_committed(conn, tenant, "key", bank=bank, first_seq=first, last_seq=last)


async def finish(database, tenant, reply=b"{}", *, key="key", at=0.0):
    async with database.write(tenant) as conn:
        await idempotency.finish(conn, tenant, key, status=201, reply=reply, now=later(at))


async def test_first_request_goes_on_and_the_next_waits_for_it(database, tenant):
    assert await begin(database, tenant) == Fresh()
    assert await in_flight(database, tenant, at=LEASE)
    assert await begin(database, tenant, key="another key") == Fresh()


async def test_key_of_a_request_that_died_is_free_after_its_lease(database, tenant):
    await begin(database, tenant)
    assert await begin(database, tenant, at=LEASE + 1) == Fresh()
    assert await in_flight(database, tenant, at=LEASE + 2), "the new lease holds from the second request on"
    assert await in_flight(database, tenant, at=2 * LEASE)
    assert not await in_flight(database, tenant, at=2 * LEASE + 2)


async def test_another_request_with_the_key_is_refused_in_every_state(database, tenant, bank):
    await begin(database, tenant)
    for step in (None, commit(database, tenant, bank.id), finish(database, tenant)):
        if step is not None:
            await step
        for at in (1, LEASE + 1):
            with pytest.raises(IdempotencyMismatch):
                await begin(database, tenant, request=OTHER, at=at)


async def test_committed_request_is_known_by_its_rows_for_good(database, tenant, bank):
    await begin(database, tenant)
    await commit(database, tenant, bank.id, 4, 7)
    for at in (1, LEASE + 1, 10 * LEASE):
        assert await begin(database, tenant, at=at) == Committed(bank.id, 4, 7)


async def test_done_request_is_answered_the_same(database, tenant, bank):
    await begin(database, tenant)
    await commit(database, tenant, bank.id)
    await finish(database, tenant, b'{"id":"cor_1"}')
    for at in (1, 10 * LEASE):
        assert await begin(database, tenant, at=at) == Done(201, b'{"id":"cor_1"}')


async def test_commit_of_a_request_that_outlived_its_lease_is_kept_once(database, tenant, bank):
    """The first request is slow, not dead: the second goes on after the lease, and one of their appends must fail."""
    assert await begin(database, tenant) == Fresh()
    assert await begin(database, tenant, at=LEASE + 1) == Fresh()

    async def teach(right: str) -> None:
        async with database.write(tenant) as conn:
            rows = await ledger.append(conn, tenant, bank.id, [draft("q", right)], epoch=0, head_version=0, now=NOW)
            await idempotency.mark_committed(conn, tenant, "key", bank=bank.id, first_seq=rows[0].seq, last_seq=rows[0].seq)

    await teach("second")
    with pytest.raises(IdempotencyInFlight):
        await teach("first")
    assert (await find(database, bank)).seq == 1
    assert await begin(database, tenant, at=LEASE + 2) == Committed(bank.id, 1, 1)


async def test_append_that_is_rolled_back_leaves_the_key_pending(database, tenant, bank):
    await begin(database, tenant)

    async def fail_after_append() -> None:
        async with database.write(tenant) as conn:
            await ledger.append(conn, tenant, bank.id, [draft()], epoch=0, head_version=0, now=NOW)
            await idempotency.mark_committed(conn, tenant, "key", bank=bank.id, first_seq=1, last_seq=1)
            raise LookupError

    with pytest.raises(LookupError):
        await fail_after_append()
    assert await in_flight(database, tenant, at=1)
    assert await begin(database, tenant, at=LEASE + 1) == Fresh()
    assert (await find(database, bank)).seq == 0


async def test_failed_request_frees_its_key_and_a_committed_one_keeps_it(database, tenant, bank):
    async def abandon() -> None:
        async with database.write(tenant) as conn:
            await idempotency.abandon(conn, tenant, "key")

    await begin(database, tenant)
    await abandon()
    assert await begin(database, tenant, request=OTHER) == Fresh()
    await commit(database, tenant, bank.id)
    await abandon()
    assert await begin(database, tenant, request=OTHER) == Committed(bank.id, 1, 1)
    await finish(database, tenant)
    await abandon()
    assert await begin(database, tenant, request=OTHER) == Done(201, b"{}")


async def test_released_leases_are_those_of_pending_keys(database, tenant, bank):
    await begin(database, tenant, key="pending")
    await begin(database, tenant)
    await commit(database, tenant, bank.id)
    async with database.sweep() as conn:
        await idempotency.release_leases(conn)
    assert await begin(database, tenant, key="pending") == Fresh()
    assert await begin(database, tenant) == Committed(bank.id, 1, 1)


QUOTED = ["my number is 12", 'she said "no"', "Où ? 💳", "two\nlines", "C:\\cards", "a/b <b> & 'c'", "tab\tand\x7f"]


async def test_reply_that_quotes_an_erased_text_is_emptied_and_others_are_kept(database, tenant):
    harmless = b'{"value":"something else"}'
    await begin(database, tenant, key="pending")
    await begin(database, tenant, key="harmless")
    await finish(database, tenant, harmless, key="harmless")
    for text in QUOTED:
        await begin(database, tenant, key=text)
        await finish(database, tenant, encode(Said(value=f"before {text} after", confidence=0.5)), key=text)
    for place, text in enumerate(QUOTED):
        async with database.write(tenant) as conn:
            await idempotency.scrub(conn, tenant, [text, "nobody says this"])
        replies = [(await begin(database, tenant, key=other)).reply for other in QUOTED]
        assert [reply == idempotency.ERASED for reply in replies] == [other <= place for other in range(len(QUOTED))], text
    json.loads(idempotency.ERASED)
    assert await begin(database, tenant, key="harmless") == Done(201, harmless)
    assert await in_flight(database, tenant, key="pending")


async def test_purge_forgets_old_answered_keys_and_no_others(database, tenant, bank):
    for key, at in (("old", 0.0), ("new", 100.0)):
        await begin(database, tenant, key=key)
        await finish(database, tenant, key=key, at=at)
    await begin(database, tenant, key="pending")
    await begin(database, tenant)
    await commit(database, tenant, bank.id)
    async with database.sweep() as conn:
        assert await idempotency.purge(conn, later(100)) == 1
    assert await begin(database, tenant, key="old", request=OTHER) == Fresh()
    assert isinstance(await begin(database, tenant, key="new"), Done)
    assert await in_flight(database, tenant, key="pending")
    assert isinstance(await begin(database, tenant), Committed)


async def test_key_belongs_to_its_tenant(database, tenant, bank):
    stranger = await new_tenant(database)
    theirs = await new_bank(database, stranger)
    await begin(database, tenant)
    assert await begin(database, stranger, request=OTHER) == Fresh()
    await append(database, theirs, draft())
    await commit(database, stranger, theirs.id)
    assert await in_flight(database, tenant)

"""When something goes wrong between client and service: refusals, lost answers, slow ones, other versions; real sockets throughout."""

import asyncio
import threading
import time
from types import SimpleNamespace

import httpx
import pytest
from doors import Door, Told, cutting, problem, saying, told
from either_kind import got, listed
from fixtures_service import ADMIN_KEY
from saying import PIN
from waiting import PATIENCE_S, until

from palimpsest import AsyncClient, Client, errors, steps

KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient], ids=["waiting", "awaiting"])
ME = {"tenant": "ten_1", "key_id": "key_1", "scopes": ["admin"], "banks": None}
RECALLED = {"id": "rec_1", "answers": [], "abstained": True, "state": {"snapshot_id": "snap_1", "seq": 0}, "usage": {}}


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """How long a client of either kind paused, by what it asked for: it may have slept longer."""
    seen, really, really_async = [], time.sleep, asyncio.sleep

    def sleep(seconds):
        seen.append(seconds)
        really(seconds)

    async def sleep_async(seconds):
        seen.append(seconds)
        await really_async(seconds)

    monkeypatch.setattr(steps, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(steps, "asyncio", SimpleNamespace(sleep=sleep_async, to_thread=asyncio.to_thread))
    return seen


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
@KINDS
async def test_every_code_raises_its_class_with_what_the_service_said(kind, code):
    passing = issubclass(errors.BY_CODE[code], errors.NotNow)
    with saying(problem(418, code, "because", Retry_After="7")) as door:
        client = kind(door.url, api_key="k", retries=0)
        wanted = errors.VersionMismatch if code == "method-not-allowed" else errors.BY_CODE[code]
        with pytest.raises(wanted) as refused:
            await got(client.whoami())
        await got(client.close())
    if code != "method-not-allowed":
        error = refused.value
        assert (error.code, error.status, error.detail, error.request_id) == (code, 418, "because", "req_1")
        assert error.errors == [{"field": "x", "message": "because"}]
        assert error.retry_after_s == 7
        assert str(error) == f"{code}: because [request req_1]"
        assert isinstance(error, errors.NotNow) == passing


async def test_code_that_a_newer_service_invented_is_raised_with_its_name():
    with saying(problem(409, "never-heard-of")) as door, Client(door.url, api_key="k") as client:
        with pytest.raises(errors.Refused) as refused:
            client.whoami()
        assert (type(refused.value), refused.value.code) == (errors.Refused, "never-heard-of")


async def test_refusals_of_a_running_service_raise_their_classes(url, bank, either):
    stranger = type(either)(url, api_key="pal_nobody")
    with pytest.raises(errors.Unauthenticated):
        await got(stranger.whoami())
    await got(stranger.close())
    with pytest.raises(errors.Conflict):
        await got(either.create_bank(bank))
    with pytest.raises(errors.NotFound):
        await got(either.get_correction("cor_none"))
    with pytest.raises(errors.Invalid) as refused:
        await got(either.recall(" "))
    assert refused.value.errors[0]["field"] == "input"
    with pytest.raises(errors.TooLarge):
        await got(either.recall("x" * 1_000_001))
    await got(either.correct(PIN, "in the app", idempotency_key=f"mine {bank}"))
    with pytest.raises(errors.IdempotencyMismatch):
        await got(either.correct(PIN, "elsewhere", idempotency_key=f"mine {bank}"))


@pytest.mark.parametrize("code", ["quota", "capacity", "writer-busy", "state-unavailable", "idempotency-in-flight"])
@KINDS
async def test_what_passes_is_tried_again_after_the_time_that_the_service_advises(kind, code, pauses):
    with saying(problem(429, code, Retry_After="1"), told(200, ME)) as door:
        client = kind(door.url, api_key="k")
        assert (await got(client.whoami())).key_id == "key_1"
        assert 1 <= sum(pauses) < 3
        assert len(door.asked) == 2
        await got(client.close())


@KINDS
async def test_tries_are_bounded_in_number_and_in_time(kind):
    with saying(problem(503, "capacity")) as door:
        client = kind(door.url, api_key="k", retries=3)
        with pytest.raises(errors.Capacity):
            await got(client.whoami())
        assert len(door.asked) == 4
        await got(client.close())
    with saying(problem(429, "quota", Retry_After="3600")) as door:
        client = kind(door.url, api_key="k")
        with pytest.raises(errors.Quota) as refused:
            await got(client.whoami())
        assert (len(door.asked), refused.value.retry_after_s) == (1, 3600)
        await got(client.close())


@pytest.mark.parametrize("code", ["internal", "storage-full", "validation", "conflict", "forbidden"])
async def test_what_does_not_pass_is_asked_once(code):
    with saying(problem(500, code)) as door, Client(door.url, api_key="k") as client:
        with pytest.raises(errors.BY_CODE[code]):
            client.correct(PIN, "x")
        assert len(door.asked) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_refusal_of_a_gateway_without_a_problem_passes_too(status):
    with saying(Told(status, b"<html>bad gateway</html>"), told(200, ME)) as door, Client(door.url, api_key="k") as client:
        assert client.whoami().key_id == "key_1"


async def test_waits_differ_from_try_to_try_so_that_clients_do_not_come_together(pauses):
    with saying(problem(503, "capacity")) as door, Client(door.url, api_key="k", retries=4) as client:
        for _ in range(3):
            with pytest.raises(errors.Capacity):
                client.whoami()
    seconds = [sum(pauses[4 * walk : 4 * walk + 4]) for walk in range(3)]
    assert len(pauses) == 12
    assert len({round(waited, 2) for waited in seconds}) > 1
    assert max(seconds) < 0.1 + 0.2 + 0.4 + 0.8


async def test_correction_whose_answer_was_cut_off_is_taught_once(url, bank, either):
    with cutting(url, 0, 1) as door:
        client = type(either)(door.url, api_key=ADMIN_KEY, bank=bank)
        taught = await got(client.correct(PIN, "in the app"))
        await got(client.close())
    assert taught.seq == 1
    assert len(door.asked) == 3
    keys = {asked.headers["idempotency-key"] for asked in door.asked}
    assert len(keys) == 1
    assert [one.id for one in await listed(either.corrections())] == [taught.id]


async def test_rollback_forget_and_bank_whose_answers_were_cut_off_are_done_once(url, bank, either):
    taught = await got(either.correct(PIN, "in the app"))
    saved = await got(either.take_snapshot())
    with cutting(url, 0, 2, 4, 6, 8) as door:
        client = type(either)(door.url, api_key=ADMIN_KEY, bank=bank)
        moved = await got(client.rollback(saved.id))
        forgotten = await got(client.forget([taught.id]))
        made = await got(client.create_bank(f"another of {bank}"))
        await got(client.delete_bank(made.name))
        async_or_not = client.session("chat")
        await got(async_or_not.open())
        await got(async_or_not.close())
        await got(client.close())
    kinds = [one.kind for one in await listed(either.snapshots())]
    assert (kinds.count("pre_rollback"), kinds.count("rollback")) == (1, 1)
    assert moved.head in {one.id for one in await listed(either.snapshots())}
    assert len([job for job in await listed(either.jobs()) if job.id == forgotten.job_id]) == 1
    with pytest.raises(errors.NotFound):
        await got(either.get_bank(made.name))


@KINDS
async def test_secret_of_a_key_whose_answer_was_cut_off_is_said_to_be_lost(url, kind):
    with cutting(url, 0) as door:
        client = kind(door.url, api_key=ADMIN_KEY)
        name = f"lost by {kind.__name__}"
        with pytest.raises(errors.SecretLost, match="revoke it") as told_so:
            await got(client.mint_key(name, ["recall:read"]))
        assert [key.id in str(told_so.value) for key in await listed(client.keys()) if key.name == name] == [True]
        await got(client.close())


@KINDS
async def test_nobody_at_the_address_is_told_with_the_address(kind):
    with saying(told()) as door:
        gone = door.url
    client = kind(gone, api_key="k", retries=1)
    with pytest.raises(errors.Unreachable, match=gone):
        await got(client.whoami())
    await got(client.close())


@KINDS
async def test_service_that_does_not_answer_in_time_is_left(kind):
    left = threading.Event()

    def slow(_):
        left.wait(PATIENCE_S)
        return told(200, ME)

    with Door(slow) as door:
        client = kind(door.url, api_key="k", retries=1, timeout_s=0.5)
        with pytest.raises(errors.Unreachable, match=r"did not answer within 0\.5 s"):
            await got(client.whoami())

        async def heard_twice() -> bool:
            return len(door.asked) == 2

        await until(heard_twice, "both tries have arrived")
        left.set()
        await got(client.close())


def versioned(version: str | None):
    """A service of another version: it knows nothing but its own description."""

    def answer(asked):
        if asked.path == "/openapi.json" and version is not None:
            return told(200, {"openapi": "3.1.0", "info": {"title": "Palimpsest", "version": version}, "paths": {}})
        if asked.path == "/v1/memory":
            return told(200, {"another": "form"})
        if asked.path == "/v1/corrections":
            return problem(400, "validation", "paraphrases: Object contains unknown field `paraphrases`")
        return problem(404, "not-found", "no such path; the paths are listed at /openapi.json")

    return answer


@pytest.mark.parametrize("call", ["whoami", "memory", "correct"])
@pytest.mark.parametrize(
    ("version", "said"),
    [("0.9.0", "older .API 0.9.0. than this client.* upgrade the service"), ("2.0.0", "newer .API 2.0.0.* upgrade the client")],
)
@KINDS
async def test_older_and_newer_services_are_told_apart(kind, version, said, call):
    with Door(versioned(version)) as door:
        client = kind(door.url, api_key="k")
        with pytest.raises(errors.VersionMismatch, match=said):
            await got(client.correct(PIN, "x") if call == "correct" else getattr(client, call)())
        await got(client.close())


async def test_fault_of_the_caller_stays_one_where_the_versions_agree():
    with Door(versioned("1.0.0")) as door, Client(door.url, api_key="k") as client, pytest.raises(errors.Invalid):
        client.correct(PIN, "x")


@pytest.mark.parametrize(
    "page", [Told(200, b"<html>welcome</html>"), Told(404, b"<html>nothing here</html>"), Told(301, b"", {"Location": "/x"})]
)
async def test_something_else_at_the_address_is_said_to_be_no_palimpsest(page):
    wanted = pytest.raises(errors.VersionMismatch, match="does not answer like a Palimpsest")
    with saying(page) as door, Client(door.url, api_key="k") as client, wanted:
        client.whoami()


async def test_fields_that_a_newer_service_adds_are_passed_over():
    with saying(told(200, {**ME, "colour": "blue"})) as door, Client(door.url, api_key="k") as client:
        assert client.whoami().key_id == "key_1"


@KINDS
async def test_reads_carry_the_newest_state_that_was_seen_of_their_bank_and_of_no_other(kind):
    def answer(asked):
        seq = {b'"one"': 7, b'"two"': 3}.get(asked.body[asked.body.rfind(b":") + 1 : -1], 0)
        return told(200, RECALLED, Memory_State=f"snap_1:{seq}" if seq else "")

    with Door(answer) as door:
        client = kind(door.url, api_key="k")
        for bank in ("one", "two", "three", "one", "two", None):
            await got(client.recall(PIN, bank=bank))
        await got(client.recall(PIN, bank="one", at="snap_0"))
        await got(client.close())
    assert [asked.headers.get("memory-min-state") for asked in door.asked] == [None, None, None, "snap_1:7", "snap_1:3", None, None]


async def test_state_that_a_bank_does_not_reach_is_told_once_and_then_asked_anew(url, bank):
    def answer(asked):
        got = httpx.request(asked.method, url + asked.path, content=asked.body, headers={"authorization": f"Bearer {ADMIN_KEY}"} | {
            name: value for name, value in asked.headers.items() if name == "memory-min-state"
        }, timeout=PATIENCE_S)  # fmt: skip
        state = got.headers.get("memory-state", "").partition(":")[0]
        return Told(got.status_code, got.content, {"Memory-State": f"{state}:999"} if len(door.asked) == 1 else {"Retry-After": "0"})

    with Door(answer) as door, Client(door.url, api_key="k", bank=bank, retries=1) as client:
        client.recall(PIN)
        with pytest.raises(errors.StateUnavailable):
            client.recall(PIN)
        assert client.recall(PIN).value is None


async def test_state_of_a_bank_that_was_made_anew_is_forgotten_and_the_read_made_without_it(url):
    with Client(url, api_key=ADMIN_KEY) as client:
        bank = client.create_bank("made twice")
        for number in range(3):
            client.correct(f"{PIN} {number}", "change_pin", bank="made twice")
        with Client(url, api_key=ADMIN_KEY) as other:  # this one has not heard of it
            other.delete_bank(bank.id)
            other.create_bank("made twice")
            other.correct(PIN, "ask_the_branch", bank="made twice")
        assert client.recall(PIN, bank="made twice").value == "ask_the_branch"


async def test_what_one_task_wrote_the_next_read_of_any_task_sees(either):
    async def write_and_read(number):
        await got(either.correct(f"question {number}", f"answer {number}"))
        return (await got(either.recall(f"question {number}"))).value

    assert await asyncio.gather(*map(write_and_read, range(5))) == [f"answer {number}" for number in range(5)]


async def test_keys_and_sessions_never_show_the_secret_of_the_client():
    client = Client("http://127.0.0.1:9", api_key="pal_secret", retries=0)
    with pytest.raises(errors.Unreachable) as refused:
        client.whoami()
    assert "pal_secret" not in repr(refused.value) + repr(client) + repr(vars(client)["_exchange"])
    client.close()

"""Every error is one kind of answer; what nobody expected tells nothing of the inside; and no log or metric holds a taught text."""

import asyncio
import json
import logging

import pytest
import structlog
from fixtures_service import client_of, finished, serving
from saying import PIN, ask, snapshot, teach
from tenancy import CODES, JSON, client_over, deps_of, refused

from service import errors
from service.telemetry import configure_logging

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "xyzzy-canary-7f3a the safe is behind the third painting"
ANSWER = "plugh-canary-91bd"


class Raising:
    """An engine whose every call raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name):
        async def fail(*args, **kwargs):
            raise self.error

        return fail


class Stuck:
    """An engine that answers when it is let go."""

    def __init__(self) -> None:
        self.go, self.asked = asyncio.Event(), asyncio.Semaphore(0)

    async def recall(self, *args, **kwargs):
        self.asked.release()
        await self.go.wait()
        raise errors.Capacity()

    async def health(self):
        return []


def every_error() -> list[type[errors.PalimpsestError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PalimpsestError)]
    assert len(kinds) > 15
    return kinds


async def test_every_error_of_the_service_is_answered_with_its_status_code_and_advice(resident):
    key = await resident.key("admin")
    for kind in every_error():
        async with client_over(deps_of(resident.service, engine=Raising(kind())), key) as client:
            said = refused(await client.post("/v1/recall", json={"input": PIN}), kind.status, kind.code)
        assert said["detail"] == kind.__doc__.strip(), "without words of its own an error says what to do"
        async with client_over(deps_of(resident.service, engine=Raising(kind("said so", retry_after_s=7))), key) as client:
            response = await client.post("/v1/recall", json={"input": PIN})
        assert refused(response, kind.status, kind.code)["detail"] == "said so"
        assert response.headers["retry-after"] == "7"


async def test_every_code_is_explained_on_the_page_that_its_type_names(resident):
    page = (await resident.client.get("/docs")).text
    for kind in every_error():
        assert CODES[kind.code][0] == kind.status
        assert f'<tr id="{kind.code}">' in page
    assert '<tr id="method-not-allowed">' in page
    for code, (_, advice) in CODES.items():
        assert advice, code


@pytest.mark.parametrize(
    "error", [RuntimeError(CANARY), ValueError(CANARY), KeyError(CANARY), AssertionError(CANARY), ExceptionGroup(CANARY, [OSError(CANARY)])]
)
async def test_unexpected_error_tells_the_client_nothing_and_the_log_where_it_happened(resident, capsys, error):
    key = await resident.key("admin")
    async with client_over(deps_of(resident.service, engine=Raising(error)), key) as client:
        for response in (
            await client.post("/v1/recall", json={"input": PIN}),
            await client.get("/v1/memory"),
            await client.post("/v1/snapshots", json={}),
        ):
            said = refused(response, 500, "internal")
            assert said["errors"] == []
            for inside in (type(error).__name__, "canary", "Traceback", ".py", "engine", "Raising"):
                assert inside not in response.text
    captured = capsys.readouterr()
    log = captured.out + captured.err
    assert said["request_id"] in log
    assert type(error).__name__ in log
    assert "test_api_problems.py" in log, "the places that it passed"
    assert "canary" not in log


async def test_requests_above_the_cap_are_refused_at_once_and_health_is_not(resident, house):
    import msgspec

    engine = Stuck()
    settings = msgspec.structs.replace(house.settings, max_in_flight=2)
    deps = deps_of(house, engine=engine, settings=settings)
    async with client_over(deps, await resident.key("admin")) as client:
        waiting = [asyncio.ensure_future(client.post("/v1/recall", json={"input": PIN})) for _ in range(2)]
        for _ in waiting:
            await engine.asked.acquire()
        for method, path in (("POST", "/v1/recall"), ("GET", "/v1/whoami"), ("GET", "/nowhere")):
            response = await client.request(method, path, json={"input": PIN})
            said = refused(response, 503, "capacity")
            assert int(response.headers["retry-after"]) >= 1
            assert said["request_id"]
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await client.get(path)).status_code == 200, path
        assert "palimpsest_requests_in_flight 2.0" in (await client.get("/metrics")).text
        engine.go.set()
        assert {reply.status_code for reply in await asyncio.gather(*waiting)} == {503}
        assert (await client.get("/v1/whoami")).status_code == 200, "places are given back, also by requests that failed"
        assert "palimpsest_requests_in_flight 0.0" in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/whoami", 200), ("/nowhere", 404), ("/v1/memory?bank=none", 404), ("/health/live", 200), ("/docs", 200)]
)
async def test_request_id_is_taken_when_it_is_harmless_and_made_otherwise(resident, path, status):
    made = await resident.client.get(path)
    assert made.status_code == status
    assert made.headers["x-request-id"].startswith("req_")
    given = await resident.client.get(path, headers={"X-Request-ID": "Az09_.:-" * 16})
    assert given.headers["x-request-id"] == "Az09_.:-" * 16
    for bad in ("", "x" * 129, "a b", "a\tb", "é", "<script>", '"'):
        response = await resident.client.get(path, headers={"X-Request-ID": bad.encode()})
        assert response.headers["x-request-id"].startswith("req_"), bad
        assert response.headers["x-request-id"] != made.headers["x-request-id"]


async def test_every_answer_carries_the_security_headers(resident):
    for path in ("/v1/whoami", "/v1/nowhere", "/docs", "/openapi.json", "/metrics", "/health/live"):
        response = await resident.client.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert ("cache-control" in response.headers) == path.startswith("/v1")
    refusal = await resident.client.post("/v1/recall", json={})
    assert refusal.headers["cache-control"] == "no-store"


async def test_client_that_leaves_in_the_middle_of_a_body_is_no_error_of_the_service(resident, capsys):
    key = await resident.key("admin")
    heard = iter([{"type": "http.request", "body": b'{"input": ', "more_body": True}, {"type": "http.disconnect"}])
    said = []

    async def receive():
        return next(heard)

    async def send(message):
        said.append(message)

    headers = [(b"authorization", f"Bearer {key}".encode())]
    place = {"method": "POST", "scheme": "http", "path": "/v1/recall", "raw_path": b"/v1/recall", "root_path": "", "query_string": b""}
    ends = {"server": ("palimpsest", 80), "client": ("127.0.0.1", 1), "http_version": "1.1"}
    await resident.service.app({"type": "http", "asgi": {"version": "3.0"}, "headers": headers, **place, **ends}, receive, send)
    assert said[0]["status"] == 400
    captured = capsys.readouterr()
    assert "request failed" not in captured.out + captured.err


async def test_nothing_that_was_taught_or_asked_is_in_the_log_or_the_metrics(tmp_path, encoder, capsys):
    """A life with every kind of request, some of them refused, at the most talkative level."""
    configured, root = structlog.get_config(), logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        configure_logging("debug")
        structlog.configure(logger_factory=structlog.PrintLoggerFactory())
        root.setLevel(logging.DEBUG)
        async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
            given = {"paraphrases": [CANARY], "wrong": ANSWER, "session_id": "plugh-canary-session", "metadata": {"note": CANARY}}
            taught = await teach(client, CANARY, ANSWER, **given)
            for body in (
                {"input": CANARY},
                {"input": CANARY + "\x00"},
                {"input": CANARY, ANSWER: 1},
                {"input": [CANARY]},
                {"input": CANARY * 900},
            ):
                await client.post("/v1/recall", json=body, headers={"Idempotency-Key": "xyzzy-canary"})
            await client.post("/v1/recall", content=f'{{"input": "{CANARY}'.encode(), headers=JSON)
            await ask(client, CANARY, explain=True, top_k=5)
            saved = await snapshot(client)
            await client.get("/v1/memory", params={"bank": ANSWER})
            await client.get(f"/v1/banks/{ANSWER}")
            await client.get(f"/{ANSWER}")
            await client.post("/v1/rollback", json={"to": saved["id"], "reason": CANARY})
            await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
            for mode in ("suppress", "erase"):
                said = await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": mode, "reason": CANARY})
            await finished(client, said.json()["job_id"])
            metrics = (await client.get("/metrics")).text
    finally:
        structlog.configure(**configured)
        root.setLevel(level)
        root.handlers[:] = handlers
    captured = capsys.readouterr()
    log = captured.out + captured.err
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"request", "job ended"} <= {line["event"] for line in lines}
    assert {line["route"] for line in lines if line["event"] == "request"} >= {"/v1/corrections", "/v1/recall", "/v1/forget", "(none)"}
    for said in (log, metrics):
        assert "canary" not in said
        assert "third painting" not in said


async def test_log_line_of_a_request_names_route_status_and_key_but_no_secret(resident, capsys):
    key = await resident.key("admin")
    async with client_of(resident.service, key) as client:
        await client.get("/v1/banks/default", headers={"X-Request-ID": "the-request"})
        await client.get("/v1/whoami", headers={"Authorization": "Bearer wrong-secret"})
    captured = capsys.readouterr()
    log = captured.out + captured.err
    line = next(line for line in log.splitlines() if "the-request" in line)
    for part in ("/v1/banks/{bank_id}", "200", "GET", "key_"):
        assert part in line
    assert key not in log
    assert key.rpartition("_")[2] not in log
    assert "wrong-secret" not in log


async def test_problem_codes_are_those_of_the_contract():
    statuses = {"unauthenticated": 401, "forbidden": 403, "not-found": 404, "validation": 400}
    statuses |= {"idempotency-mismatch": 422, "idempotency-in-flight": 409, "head-moved": 412, "state-unavailable": 409, "writer-busy": 409}
    statuses |= {"state-unknown": 409, "other-encoder": 409}
    statuses |= {"quota": 429, "capacity": 503, "consolidation-gate-failed": 409, "tainted-snapshot": 409, "checksum-mismatch": 422}
    assert {code: CODES[code][0] for code in statuses} == statuses

"""Traces and logs of a cluster of real processes: one trace from the client to the store, ids in every line, and never a text."""

import asyncio
import json
import os
import tempfile
from pathlib import Path

import httpx
import pytest
from collecting import Collector, collecting
from fixtures_service import finished
from waiting import until

from bench.cluster.running import Cluster, Shape, cluster
from bench.running import client_of

pytestmark = [pytest.mark.serial, pytest.mark.timeout(1_200)]
CANARY, ANSWER = "xyzzy-canary-c41d the key is under the fourth stone", "plugh-canary-20e6"
CLIENT_SPAN = "00f067aa0ba902b7"
SHAPE = Shape(apis=1, workers=1, jobs=1, settings={"LOG_LEVEL": "debug"})
PROCESSES = {"api": "palimpsest-api", "worker": "palimpsest-worker", "jobs": "palimpsest-jobs"}


def trace_of(number: int) -> str:
    return f"4bf92f3577b34da6a3ce929d0e0e47{number:02}"


def headers_of(number: int) -> dict[str, str]:
    """A client's own trace and request id."""
    return {"traceparent": f"00-{trace_of(number)}-{CLIENT_SPAN}-01", "X-Request-ID": f"request-{number}"}


async def life(client: httpx.AsyncClient) -> None:
    """Every part of the service, some of it refused; requests 1 to 7 have traces of their own."""
    lesson = {"input": CANARY, "right": ANSWER, "wrong": CANARY, "paraphrases": [CANARY + "?"], "metadata": {"note": CANARY}}
    taught = await client.post("/v1/corrections", json=lesson, headers=headers_of(1) | {"Idempotency-Key": "plugh-canary-key"})
    assert taught.status_code == 201, taught.text
    asked = await client.post("/v1/recall", json={"input": CANARY, "explain": True}, headers=headers_of(2))
    assert asked.json()["answers"][0]["value"] == ANSWER
    assert (await client.post("/v1/snapshots", json={"note": CANARY}, headers=headers_of(3))).status_code == 201
    for body in ({"input": CANARY, ANSWER: 1}, {"input": CANARY * 900}, {"input": CANARY, "bank": ANSWER}):
        assert (await client.post("/v1/recall", json=body, headers=headers_of(4))).status_code >= 400
    assert (await client.get(f"/v1/banks/{ANSWER}", headers=headers_of(5))).status_code == 404
    assert (await client.get(f"/{ANSWER}?q={CANARY}")).status_code == 404
    erase = {"corrections": [taught.json()["id"]], "mode": "erase", "reason": CANARY}
    erased = await client.post("/v1/forget", json=erase, headers=headers_of(6))
    assert (await finished(client, erased.json()["job_id"]))["status"] == "succeeded"
    unsampled = headers_of(7) | {"traceparent": f"00-{trace_of(7)}-{CLIENT_SPAN}-00"}
    assert (await client.post("/v1/recall", json={"input": CANARY}, headers=unsampled)).status_code == 200


async def lived(home: Path, collector: Collector) -> tuple[Cluster, str]:
    """A cluster's life from start to stop, and what its metrics were."""
    environ = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    async with cluster(home, SHAPE, environ) as running, client_of(running.urls["api-1"], running.key) as client:
        await life(client)

        async def sent() -> bool:
            return {"POST /v1/forget", "palimpsest.Engine/forget", "process erase"} <= {span.name for span in collector.spans}

        await until(sent, "the last spans have come")  # a process that ends waits for a moment only until they have left
        shown = [(await client.get(f"{process.health}/metrics")).text for process in running.processes.values()]
    return running, "".join(shown)


@pytest.fixture(scope="module")
def told():
    """Spans, log lines by process, everything that was written, of one life."""
    with collecting() as collector, tempfile.TemporaryDirectory(prefix="traces-", dir="/tmp") as folder:
        running, metrics = asyncio.run(lived(Path(folder), collector))
        logs = {name.removesuffix("-1"): process.log.read_text() for name, process in running.processes.items()}
    lines = {name: [json.loads(line) for line in log.splitlines() if line.startswith("{")] for name, log in logs.items()}
    return collector, lines, "".join(logs.values()) + metrics, running.key


def test_a_request_is_one_trace_from_the_client_through_api_and_worker_to_the_store(told):
    spans, trace = told[0], trace_of(1)
    request = spans.one(trace, PROCESSES["api"], "POST /v1/corrections", "server")
    assert request.parent == CLIENT_SPAN
    asked = spans.one(trace, PROCESSES["api"], "palimpsest.Engine/teach", "client")
    assert asked.parent == request.id
    answered = spans.one(trace, PROCESSES["worker"], "palimpsest.Engine/teach", "server")
    assert answered.parent == asked.id
    append = spans.one(trace, PROCESSES["worker"], "append")
    assert append.parent == answered.id
    stored = [span for span in spans.of(trace) if span.parent == append.id]
    assert [(span.name, span.kind, span.attributes["db.system.name"]) for span in stored] == [("write_transaction", "client", "postgresql")]
    assert spans.one(trace, PROCESSES["worker"], "apply").parent == answered.id
    assert {span.parent for span in spans.of(trace) if span.name == "encode"} == {answered.id}
    assert not any(span.failed for span in spans.of(trace))


def test_a_question_has_spans_for_encoding_fence_and_memory(told):
    spans, trace, worker = told[0], trace_of(2), PROCESSES["worker"]
    answered = spans.one(trace, worker, "palimpsest.Engine/recall", "server")
    assert spans.one(trace, worker, "encode").parent == answered.id
    read = spans.one(trace, worker, "read")
    assert read.parent == answered.id
    assert spans.one(trace, worker, "answer").parent == read.id
    fence = spans.one(trace, worker, "fence")
    assert fence.parent == answered.id
    assert "question" in {span.name for span in spans.of(trace) if span.parent == fence.id}


def test_a_snapshot_has_spans_for_each_blob(told):
    spans, trace = told[0], trace_of(3)
    snapshot = spans.one(trace, PROCESSES["worker"], "snapshot")
    puts = [span for span in spans.of(trace) if span.name == "blob_put"]
    assert puts
    assert {(span.parent, span.kind) for span in puts} == {(snapshot.id, "client")}
    assert all(span.attributes["palimpsest.bytes"] > 0 for span in puts)


def test_a_job_has_a_trace_of_its_own_that_points_to_the_request_which_caused_it(told):
    spans = told[0]
    (job,) = [span for span in spans.spans if span.name == "process erase"]
    assert (job.process, job.kind, job.parent) == (PROCESSES["jobs"], "consumer", "")
    assert job.links == [trace_of(6)]
    assert job.attributes["messaging.message.id"].startswith("job_")
    below = {span.name for span in spans.of(job.trace)}
    assert {"fold", "snapshot", "write_transaction"} <= below
    assert {span.process for span in spans.of(job.trace)} == {PROCESSES["jobs"]}


def test_spans_carry_the_conventions_attributes_and_the_ids(told):
    spans, trace = told[0], trace_of(1)
    request = spans.one(trace, PROCESSES["api"], "POST /v1/corrections").attributes
    assert (request["http.request.method"], request["http.route"], request["url.scheme"]) == ("POST", "/v1/corrections", "http")
    assert request["http.response.status_code"] == 201
    call = spans.one(trace, PROCESSES["worker"], "palimpsest.Engine/teach").attributes
    assert (call["rpc.system.name"], call["rpc.method"]) == ("palimpsest", "palimpsest.Engine/teach")
    for attributes in (request, call):
        assert attributes["palimpsest.request"] == "request-1"
        assert attributes["palimpsest.tenant"].startswith("ten_")
        assert attributes["palimpsest.bank"].startswith("bank_")


def test_what_the_caller_did_wrong_is_told_but_is_no_failure_of_the_service(told):
    spans = told[0]
    refused = [span for span in spans.of(trace_of(5)) if span.kind == "server"]
    assert [(span.name, span.attributes["http.response.status_code"], span.failed) for span in refused] == [
        ("GET /v1/banks/{bank_id}", 404, False)
    ]


def test_no_span_of_a_trace_that_its_client_does_not_sample_nor_of_heartbeats_probes_and_sweeps(told):
    spans = told[0]
    assert spans.of(trace_of(7)) == []
    assert {span.kind for span in spans.spans if not span.parent} <= {"server", "consumer"}
    assert not any("health" in span.name or "metrics" in span.name for span in spans.spans)


def test_every_log_line_is_json_with_its_action_level_and_time_and_those_of_a_request_with_its_ids(told):
    lines = told[1]
    assert lines.keys() == PROCESSES.keys()
    for process, said in lines.items():
        assert said, process
        assert all({"event", "action", "level", "timestamp"} <= line.keys() for line in said)
    (taught,) = [line for line in lines["api"] if line.get("request") == "request-1" and line["action"] == "request"]
    (call,) = [line for line in lines["worker"] if line.get("request") == "request-1" and line["action"] == "call"]
    assert call["method"] == "teach"
    for name in ("tenant", "bank", "trace_id"):
        assert taught[name] == call[name], name
    assert taught["trace_id"] == trace_of(1)
    (ended,) = [line for line in lines["jobs"] if line["action"] == "job_end"]
    assert (ended["request"], ended["tenant"], ended["bank"]) == ("request-6", taught["tenant"], taught["bank"])


def test_nothing_that_was_taught_or_asked_and_no_key_is_in_a_span_a_log_line_or_a_metric(told):
    collector, _, written, key = told
    assert len(collector.spans) > 20
    assert len(written) > 1_000
    for secret in ("canary", "fourth stone", key, key[:12]):
        assert secret.encode() not in collector.raw
        assert secret not in written

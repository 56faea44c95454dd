"""Tracing inside one process: what is a span, what its status says, and what it costs to be without it."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest
from fixtures_service import client_of, finished, serving
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from saying import teach
from waiting import PATIENCE_S, lasted

from service import spans, tracing
from service.errors import Capacity, NotFound
from service.store import jobs
from service.telemetry import Metrics

SECRET = "the safe is behind the third painting"
CLIENTS = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


@pytest.fixture
def made():
    """The spans that were made."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with tracing.using(provider):
        yield exporter.get_finished_spans
    provider.shutdown()


def request():
    return tracing.request("GET", [], {})


def names(found) -> list[str]:
    return [span.name for span in found]


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (RuntimeError(SECRET), "RuntimeError", StatusCode.ERROR),
        (asyncio.CancelledError(SECRET), "CancelledError", StatusCode.ERROR),
        (Capacity(SECRET), "capacity", StatusCode.ERROR),
        (NotFound(SECRET), "not-found", StatusCode.UNSET),
    ],
)
def test_an_error_is_the_spans_status_by_its_kind_and_never_by_its_message(made, error, kind, status):
    with contextlib.suppress(type(error)), request(), tracing.span("part"):
        raise error
    assert names(made()) == ["part", "GET"]
    for span in made():
        assert (span.attributes["error.type"], span.status.status_code) == (kind, status)
        assert SECRET not in span.to_json()


def test_only_requests_calls_and_jobs_begin_a_trace(made):
    with tracing.span("heartbeat"):
        assert tracing.traceparent() == ""
        assert tracing.ids() == {}
    with tracing.call("recall", ""):
        pass
    assert made() == ()
    with request(), tracing.span("part", "client"):
        assert tracing.ids()["trace_id"] in tracing.traceparent()
    with tracing.job("process erase", "", {}):
        pass
    assert names(made()) == ["part", "GET", "process erase"]
    assert len({span.context.trace_id for span in made()}) == 2


def test_a_call_goes_on_with_the_trace_of_its_caller_and_with_its_decision_not_to_sample(made):
    with tracing.call("recall", f"00-{'-'.join(CLIENTS)}-01"):
        pass
    with tracing.call("recall", f"00-{'-'.join(CLIENTS)}-00"), tracing.span("part"):
        assert tracing.traceparent().endswith("-00"), "the next process is told so, too"
    (call,) = made()
    assert (f"{call.context.trace_id:032x}", f"{call.parent.span_id:016x}") == CLIENTS
    assert call.kind is SpanKind.SERVER


def test_a_stage_is_measured_and_is_a_span_and_one_that_failed_is_not_measured(made):
    metrics = Metrics()
    with request():
        with metrics.stage("append"):
            pass
        with contextlib.suppress(NotFound), metrics.stage("append"):
            raise NotFound()
    assert names(made()) == ["append", "append", "GET"]
    assert 'palimpsest_stage_seconds_count{stage="append"} 1.0' in metrics.render().decode()


async def test_one_process_that_is_everything_traces_a_request_down_to_its_store_and_a_job_apart(made, tmp_path, encoder):
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        headers = {"traceparent": f"00-{'-'.join(CLIENTS)}-01", "Idempotency-Key": "k"}
        await client.post("/v1/corrections", json={"input": SECRET, "right": "yes"}, headers=headers)
        taught = [span for span in made() if f"{span.context.trace_id:032x}" == CLIENTS[0]]
        job = (await client.post("/v1/consolidations", json={})).json()["job_id"]
        await finished(client, job)
    by_name = {span.name: span for span in taught}
    root = by_name["POST /v1/corrections"]
    assert f"{root.parent.span_id:016x}" == CLIENTS[1]
    assert {"encode", "append", "apply", "write_transaction"} <= by_name.keys()
    assert by_name["append"].parent.span_id == root.context.span_id
    assert root.attributes["palimpsest.bank"].startswith("bank_")
    caused = next(span for span in made() if span.name == "POST /v1/consolidations")
    worked = next(span for span in made() if span.name == "process consolidation")
    assert [link.context.trace_id for link in worked.links] == [caused.context.trace_id]
    assert {"fold", "train", "gate", "snapshot", "blob_put"} <= {
        span.name for span in made() if span.context.trace_id == worked.context.trace_id
    }
    assert SECRET not in "".join(span.to_json() for span in made())


async def test_unexpected_error_fails_the_requests_span_and_leaves_nothing_of_itself_there(made, service, client, monkeypatch):
    async def fail(*_args, **_kwargs) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(service.engine, "recall", fail)
    assert (await client.post("/v1/recall", json={"input": SECRET})).status_code == 500
    (span,) = [span for span in made() if span.name == "POST /v1/recall"]
    assert (span.status.status_code, span.attributes["error.type"], span.attributes["http.response.status_code"]) == (
        StatusCode.ERROR,
        "500",
        500,
    )
    assert SECRET not in span.to_json()


async def test_without_tracing_a_job_names_its_request_and_no_trace(service, client):
    await teach(client, "a", "b")
    job = (await client.post("/v1/consolidations", json={}, headers={"X-Request-ID": "the-request"})).json()["job_id"]
    async with service.database.sweep() as conn:
        row = await jobs.get_job(conn, service.tenant, job)
    assert row.payload["request"] == "the-request"
    assert "traceparent" not in row.payload
    await finished(client, job)


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * PATIENCE_S, env=kept | environ)


LIVED = """
import sys
{before}
from service import serving, tracing
from service.telemetry import configure_logging
import service.embedded, service.processes.api, service.processes.worker, service.processes.jobs
configure_logging("info")
with tracing.exported("api"), tracing.request("GET", [], {{}}), tracing.span("part"):
    print(bool(tracing.traceparent()), "service.spans" in sys.modules)
"""


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=["no endpoint", "disabled", "no traces"],
)
def test_who_wants_no_traces_gets_none_and_our_part_is_not_even_loaded(environ):
    done = run(LIVED.format(before=""), **environ)
    assert (done.stdout, done.stderr, done.returncode) == ("False False\n", "", 0)


@pytest.mark.parametrize(
    ("before", "environ", "why"),
    [
        ("sys.modules['opentelemetry'] = None", {}, "pip install 'palimpsest[otel]'"),
        ("", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "not as grpc"),
    ],
)
def test_traces_that_are_wanted_and_cannot_be_had_are_told_of_and_the_service_runs(before, environ, why):
    done = run(LIVED.format(before=before), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", **environ)
    assert (done.stdout, done.returncode) == ("False False\n", 0)
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["action"], line["level"]) == ("tracing", "warning")
    assert why in line["why"]


async def test_a_collector_that_does_not_answer_holds_up_neither_the_work_nor_the_end(monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=by-hand,deployment.environment.name=test")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10")  # seconds, in Python's SDK; longer than we wait
        exported = tracing.exported("api")

        def work() -> None:
            exported.__enter__()
            with request():
                assert tracing.traceparent()

        _, worked = await lasted(asyncio.to_thread(work))
        _, ending = await lasted(asyncio.to_thread(exported.__exit__, None, None, None))
    assert worked < spans.STOP_S
    assert ending < spans.STOP_S + 2
    assert not tracing.traceparent()


def test_the_process_is_named_unless_the_environment_names_it(monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    for given, expected in ((None, "palimpsest-worker"), ("memory", "memory")):
        if given:
            monkeypatch.setenv("OTEL_SERVICE_NAME", given)
        provider = spans.exporting("palimpsest-worker")
        assert provider.resource.attributes["service.name"] == expected
        assert provider.resource.attributes["service.namespace"] == "palimpsest"
        provider.shutdown()

"""What the service tells its operators: JSON log lines on standard error, and metrics for Prometheus. Its traces: `service.tracing`.

All carry ids, sizes and times, never a text that was taught or asked. The metrics live in a registry of their own, so that two
services in one process (tests, the doctor) do not count each other's requests.
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from service import tracing

_ids: ContextVar[dict[str, str]] = ContextVar("ids")
CONTENT_TYPE = "text/plain; version=0.0.4"  # the framework adds the charset
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 10.0)
_STAGE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 30.0)
_JOB_S = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0)
STAGES = (
    "read_transaction",
    "write_transaction",
    "question",
    "encode",
    "fence",
    "load",
    "append",
    "apply",
    "answer",
    "read",
    "snapshot",
    "blob_put",
    "blob_get",
    "blob_delete",
    "fold",
    "train",
    "gate",
    "upstream",
    "converse",
    "sweep",
    "tidy",
)


def configure_logging(level: str, *, libraries_too: bool = True) -> None:
    """One JSON object a line on standard error, from `level` (debug, info, warning, error) upwards; also for libraries' own logs.

    Raises:
        ValueError: no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}; the levels are {', '.join(LEVELS)}")
    structlog.configure(
        processors=[
            _add_ids,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if libraries_too:
        libraries = logging.StreamHandler(sys.stderr)
        libraries.setFormatter(_Library())
        logging.basicConfig(handlers=[libraries], level=max(LEVELS[level], logging.WARNING))


def begin(**ids: str) -> None:
    """From here on this task, and every task that it begins, works on these (request, tenant, bank, job): log lines name them."""
    _ids.set({name: value for name, value in ids.items() if value})


def bind(**ids: str) -> None:
    """What this task works on was found to be these, too; also for the task that began it."""
    known = _ids.get(None)
    if known is not None:
        known.update(ids)


def working_on() -> Mapping[str, str]:
    """What this task works on."""
    return _ids.get({})


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def places(error: BaseException) -> list[str]:
    """The lines that an unexpected error passed, last 20, for the log: unlike its message they cannot quote a memory."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)][-20:]


def _add_ids(_logger: object, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {**working_on(), **tracing.ids(), **line}


class _Library(logging.Formatter):
    """A library's own log line, as one of ours: where it comes from and how grave it is. What it says may quote anything."""

    def format(self, record: logging.LogRecord) -> str:
        """The JSON line."""
        line = {"event": "library", "action": "library", "logger": record.name, "place": f"{record.module}:{record.lineno}"}
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__qualname__
        return json.dumps({**line, **working_on(), **tracing.ids(), "level": record.levelname.lower(), "timestamp": _utc(record.created)})


class _Timed:
    """A stage that is measured and is a span; one that fails is not measured."""

    __slots__ = ("_begin", "_observe", "_span")

    def __init__(self, observe: Callable[[float], None], span: AbstractContextManager[None]) -> None:
        self._observe, self._span, self._begin = observe, span, 0.0

    def __enter__(self) -> None:
        self._span.__enter__()
        self._begin = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, places: TracebackType | None) -> None:
        if kind is None:
            self._observe(time.perf_counter() - self._begin)
        self._span.__exit__(kind, error, places)


class Metrics:
    """The numbers of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("palimpsest_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry)
        self._limited = Counter(
            "palimpsest_limited",
            "Requests above a limit: tenant-rate, key-rate, tenant-in-flight, tenant-streams, address.",
            ["reason"],
            registry=self.registry,
        )
        self._request_s = Histogram(
            "palimpsest_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route", "method"],
            buckets=_REQUEST_S,
            registry=self.registry,
        )
        self._in_flight = Gauge("palimpsest_requests_in_flight", "Requests being answered.", registry=self.registry)
        self._stage_s = Histogram(
            "palimpsest_stage_seconds",
            "Time of the stages of requests and jobs.",
            ["stage"],
            buckets=_STAGE_S,
            registry=self.registry,
        )
        self._stages = {stage: self._stage_s.labels(stage) for stage in STAGES}
        self._warm_banks = Gauge("palimpsest_warm_banks", "Banks kept in memory.", registry=self.registry)
        self._warm_bytes = Gauge("palimpsest_warm_bytes", "Bytes of banks kept in memory, by tier.", ["tier"], registry=self.registry)
        self._warm_hits = Counter(
            "palimpsest_warm_hits", "Requests by where their bank was: device, host, cold.", ["result"], registry=self.registry
        )
        self._job_s = Histogram(
            "palimpsest_job_seconds", "Time of jobs from their claim to their end.", ["kind"], buckets=_JOB_S, registry=self.registry
        )
        self._job_wait = Histogram(
            "palimpsest_job_wait_seconds", "Time of jobs until their first claim.", ["kind"], buckets=_JOB_S, registry=self.registry
        )
        self._jobs = Counter("palimpsest_jobs", "Jobs that ended, by kind and status.", ["kind", "status"], registry=self.registry)
        self._jobs_waiting = Gauge("palimpsest_jobs_waiting", "Jobs that nobody works on.", ["kind"], registry=self.registry)
        self._job_age = Gauge("palimpsest_job_age_seconds", "Age of the oldest job that nobody works on.", registry=self.registry)
        self._queue_wait = Histogram(
            "palimpsest_queue_wait_seconds",
            "Time a call waits in a worker before it is worked on.",
            buckets=_STAGE_S,
            registry=self.registry,
        )
        self._calls = Counter("palimpsest_calls", "Calls from api to workers.", ["method", "outcome"], registry=self.registry)
        self._call_s = Histogram(
            "palimpsest_call_seconds", "Time of calls from api to workers.", ["method"], buckets=_REQUEST_S, registry=self.registry
        )
        self._refused = Counter("palimpsest_refused", "Calls that a worker did not take, by reason.", ["reason"], registry=self.registry)
        self._snapshots_refused = Counter(
            "palimpsest_snapshots_refused",
            "Snapshots that could not be loaded; the bank was folded from an older one.",
            registry=self.registry,
        )
        self._workers = Gauge("palimpsest_workers_alive", "Workers whose heartbeat is fresh.", registry=self.registry)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request to the route (its template, never the path itself) was answered."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_s.labels(route, method).observe(seconds)

    def limited(self, reason: str) -> None:
        """A request was above a limit: tenant-rate, key-rate, tenant-in-flight, tenant-streams or address."""
        self._limited.labels(reason).inc()

    def in_flight(self, change: int) -> None:
        """A request came (+1) or went (-1)."""
        self._in_flight.inc(change)

    def stage(
        self, name: str, kind: tracing.Kind = "internal", attributes: tracing.Attributes | None = None, /
    ) -> AbstractContextManager[None]:
        """A stage of a request or job, one of `STAGES`: measured, and a span of its trace."""
        return _Timed(self._stages[name].observe, tracing.span(name, kind, attributes))

    def watch_warm_banks(self, number: Callable[[], int]) -> None:
        """Where to ask how many banks are in memory."""
        self._warm_banks.set_function(number)

    def watch_warm_bytes(self, tier: str, number: Callable[[], int]) -> None:
        """Where to ask how many bytes of a tier (device, host) are taken."""
        self._warm_bytes.labels(tier).set_function(number)

    def warm_hit(self, result: str) -> None:
        """A request found its bank on the device, in the host's memory, or cold."""
        self._warm_hits.labels(result).inc()

    def jobs_waiting(self, by_kind: Mapping[str, int], oldest_s: float) -> None:
        """What a sweep found: jobs that nobody works on, and the age of the oldest."""
        self._jobs_waiting.clear()
        for kind, number in by_kind.items():
            self._jobs_waiting.labels(kind).set(number)
        self._job_age.set(oldest_s)

    def queue_wait(self, seconds: float) -> None:
        """A call has waited so long before it was worked on."""
        self._queue_wait.observe(seconds)

    def call(self, method: str, outcome: str, seconds: float) -> None:
        """A call to a worker ended: done, refused, unknown or failed."""
        self._calls.labels(method, outcome).inc()
        self._call_s.labels(method).observe(seconds)

    def refused(self, reason: str) -> None:
        """A worker did not take a call: busy or draining."""
        self._refused.labels(reason).inc()

    def snapshot_refused(self) -> None:
        """A snapshot could not be loaded."""
        self._snapshots_refused.inc()

    def watch_workers(self, number: Callable[[], int]) -> None:
        """Where to ask how many workers are alive."""
        self._workers.set_function(number)

    def job_begun(self, kind: str, waited_s: float) -> None:
        """A job was claimed for the first time."""
        self._job_wait.labels(kind).observe(waited_s)

    def job_ended(self, kind: str, status: str, seconds: float) -> None:
        """A job ended with a status."""
        self._jobs.labels(kind, status).inc()
        self._job_s.labels(kind).observe(seconds)

    def render(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)

"""What the service tells its operators: JSON log lines on standard error, and metrics for Prometheus.

Both carry ids, sizes and times, never a text that was taught or asked. The metrics live in a registry of their own, so that two
services in one process (tests, the doctor) do not count each other's requests.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4"  # the framework adds the charset
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 10.0)
_STAGE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 30.0)


def configure_logging(level: str) -> None:
    """One JSON object a line on standard error, from `level` (debug, info, warning, error) upwards; also for libraries' own logs.

    Raises:
        ValueError: no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}; the levels are {', '.join(LEVELS)}")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=max(LEVELS[level], logging.WARNING), format='{"event": "library", "logger": "%(name)s"}')


def places(error: BaseException) -> list[str]:
    """The lines that an unexpected error passed, last 20, for the log: unlike its message they cannot quote a memory."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)][-20:]


class Metrics:
    """The numbers of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("palimpsest_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry)
        self._limited = Counter(
            "palimpsest_limited", "Requests above a limit: tenant-rate, tenant-in-flight, address.", ["reason"], registry=self.registry
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
            "Time of the engine's stages: encode, append, apply, read, load, snapshot.",
            ["stage"],
            buckets=_STAGE_S,
            registry=self.registry,
        )
        self._warm_banks = Gauge("palimpsest_warm_banks", "Banks kept in memory.", registry=self.registry)
        self._warm_bytes = Gauge("palimpsest_warm_bytes", "Bytes of banks kept in memory, by tier.", ["tier"], registry=self.registry)
        self._warm_hits = Counter(
            "palimpsest_warm_hits", "Requests by where their bank was: device, host, cold.", ["result"], registry=self.registry
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
        """A request was above a limit: tenant-rate, tenant-in-flight or address."""
        self._limited.labels(reason).inc()

    def in_flight(self, change: int) -> None:
        """A request came (+1) or went (-1)."""
        self._in_flight.inc(change)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """A stage of the engine took so long."""
        self._stage_s.labels(stage).observe(seconds)

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

    def job(self, kind: str, status: str) -> None:
        """A job ended with a status."""
        self._jobs.labels(kind, status).inc()

    def render(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)

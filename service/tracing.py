"""Tracing: what a request or a job passes, as spans of one trace across the processes, behind the extra `otel`.

It is off unless an OTLP endpoint is named (`OTEL_EXPORTER_OTLP_ENDPOINT`, see docs/operations.md) and the extra is installed. Off, nothing
of OpenTelemetry is imported (`service.spans` is the only module that does) and every function here returns at once.

Three things begin a trace or go on with their caller's: a request, a call to a worker, a job. All other spans are made inside one of these
alone, so heartbeats, probes and sweeps make no traces. Attributes hold ids, sizes and our own names, as the log does: no text that was
taught or asked, no path, no error's message.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from service.spans import Spans

T = TypeVar("T")

Kind = Literal["internal", "client"]
Attributes = Mapping[str, str | int]
Headers = Iterable[tuple[bytes, bytes]]
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN = "http/protobuf"
ENGINE = "palimpsest.Engine"  # the interface that a worker serves
NOTHING: AbstractContextManager[None] = contextlib.nullcontext()
log = structlog.get_logger()

_on: "Spans | None" = None  # of the whole process, as the log is


class Stage(Protocol):
    """What a part of the work is done in: `span`, or `Metrics.stage`, which measures it as well. The name is that of span and label."""

    def __call__(self, name: str, kind: Kind = "internal", attributes: Attributes | None = None, /) -> AbstractContextManager[None]:
        """A context for the work."""


def span(name: str, kind: Kind = "internal", attributes: Attributes | None = None, /) -> AbstractContextManager[None]:
    """A span around a part of a request or job; nothing outside of one. What it raises is its status: see `service.spans`."""
    return NOTHING if _on is None else _on.inside(name, kind, attributes)


def around(made: AbstractAsyncContextManager[T], stage: AbstractContextManager[None]) -> AbstractAsyncContextManager[T]:
    """An asynchronous context with a stage around it."""
    return made if stage is NOTHING else _around(made, stage)


def request(name: str, headers: Headers, attributes: Attributes) -> AbstractContextManager[None]:
    """The span of a request; its trace is the one that the client's headers name, else a new one."""
    return NOTHING if _on is None else _on.request(name, headers, attributes)


def call(method: str, traceparent: str) -> AbstractContextManager[None]:
    """The span of a call from an api, in the api's trace; nothing if the api has none."""
    return NOTHING if _on is None or not traceparent else _on.call(f"{ENGINE}/{method}", traceparent, rpc(method))


def job(name: str, cause: str, attributes: Attributes) -> AbstractContextManager[None]:
    """The span of a job, in a trace of its own with a link to the request that caused it (`cause`, its `traceparent`; '' for none)."""
    return NOTHING if _on is None else _on.job(name, cause, attributes)


def note(attributes: Attributes, *, name: str = "") -> None:
    """Tell more of the present span: attributes, its name."""
    if _on is not None:
        _on.note(attributes, name)


def failed(why: BaseException | str) -> None:
    """The present span's work failed, although nothing is raised through it."""
    if _on is not None:
        _on.failed(why)


def ours(ids: Mapping[str, str]) -> Attributes:
    """The ids of what is worked on as attributes."""
    return {f"palimpsest.{name}": value for name, value in ids.items()}


def rpc(method: str) -> Attributes:
    """A call from api to worker, as both sides tell it."""
    return {"rpc.system.name": "palimpsest", "rpc.method": f"{ENGINE}/{method}"}


def traceparent() -> str:
    """The present span as W3C's header names it, for whoever goes on with the trace; '' when there is none."""
    return "" if _on is None else _on.traceparent()


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the present span for a log line; nothing when there is none."""
    return {} if _on is None else _on.ids()


@contextlib.contextmanager
def exported(process: str) -> Iterator[None]:
    """Send the spans of this process to where the environment says; at the end what is left of them."""
    why_not = _why_not()
    if why_not is not None:
        if why_not:
            log.warning("no traces", action="tracing", why=why_not)
        yield
        return
    from service import spans

    provider = spans.exporting(f"palimpsest-{process}")
    try:
        with using(provider):
            yield
    finally:
        spans.stop(provider)


@contextlib.contextmanager
def using(provider: "TracerProvider") -> Iterator[None]:
    """Give the spans of this process to a provider."""
    global _on  # noqa: PLW0603
    from service.spans import Spans

    before, _on = _on, Spans(provider)
    try:
        yield
    finally:
        _on = before


def _why_not() -> str | None:
    """None if there is somewhere to send spans to and something to send them with; else why not, '' if nobody asked for it."""
    given = os.environ
    if not any(given.get(name) for name in ENDPOINTS) or given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    if given.get("OTEL_TRACES_EXPORTER", "otlp") not in ("otlp", ""):
        return ""
    protocol = next((given[name] for name in PROTOCOLS if given.get(name)), SPOKEN)
    if protocol != SPOKEN:
        return f"spans are sent as {SPOKEN}, not as {protocol}"
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ModuleNotFoundError:
        return "the packages are missing: pip install 'palimpsest[otel]'"
    return None


@contextlib.asynccontextmanager
async def _around(made: AbstractAsyncContextManager[T], stage: AbstractContextManager[None]):  # type: ignore[no-untyped-def]  # noqa: ANN202
    with stage:
        async with made as value:
            yield value

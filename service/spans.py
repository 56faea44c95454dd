"""OpenTelemetry behind `service.tracing`: spans are made, continued, linked and sent. The only module that imports it.

A span that ends with an exception says its kind in `error.type` (`code` for errors of ours) and never its message, which may quote a
memory. Its status is an error, but for what is the caller's doing (an error of ours below 500).
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.errors import PalimpsestError
from service.tracing import NOTHING, Attributes, Headers, Kind

STOP_S = 3.0  # for the last spans to leave: a collector that is gone must not hold up the end of a process
KINDS: dict[Kind, SpanKind] = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
TRACEPARENT = "traceparent"
_w3c = TraceContextTextMapPropagator()


def exporting(service: str) -> TracerProvider:
    """A provider that sends spans in batches, as the standard variables `OTEL_…` say; `service` unless they name it otherwise."""
    ours = {"service.namespace": "palimpsest", "service.name": service, "service.version": version("palimpsest")}
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def stop(provider: TracerProvider) -> None:
    """Send what is left, for a moment."""
    leaving = threading.Thread(target=provider.shutdown, name="spans", daemon=True)
    leaving.start()
    leaving.join(STOP_S)


class Spans:
    """Makes spans with a provider; see `service.tracing` for each."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("palimpsest", version("palimpsest"))

    def inside(self, name: str, kind: Kind, attributes: Attributes | None) -> AbstractContextManager[None]:
        """See `tracing.span`; nothing in a trace that is not sampled."""
        if not trace.get_current_span().is_recording():
            return NOTHING
        return self._span(name, KINDS[kind], attributes)

    def request(self, name: str, headers: Headers, attributes: Attributes) -> AbstractContextManager[None]:
        """See `tracing.request`. How the headers name a trace is told by `OTEL_PROPAGATORS`."""
        carrier = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in headers}
        return self._span(name, SpanKind.SERVER, attributes, context=propagate.extract(carrier, Context()))

    def call(self, name: str, traceparent: str, attributes: Attributes) -> AbstractContextManager[None]:
        """See `tracing.call`."""
        return self._span(name, SpanKind.SERVER, attributes, context=_w3c.extract({TRACEPARENT: traceparent}, Context()))

    def job(self, name: str, cause: str, attributes: Attributes) -> AbstractContextManager[None]:
        """See `tracing.job`."""
        origin = trace.get_current_span(_w3c.extract({TRACEPARENT: cause}, Context())).get_span_context()
        links = [Link(origin)] if origin.is_valid else []
        return self._span(name, SpanKind.CONSUMER, attributes, context=Context(), links=links)

    def note(self, attributes: Attributes, name: str) -> None:
        """See `tracing.note`."""
        present = trace.get_current_span()
        present.set_attributes(dict(attributes))
        if name:
            present.update_name(name)

    def failed(self, why: BaseException | str) -> None:
        """See `tracing.failed`."""
        _fail(trace.get_current_span(), why)

    def traceparent(self) -> str:
        """See `tracing.traceparent`."""
        carrier: dict[str, str] = {}
        _w3c.inject(carrier)
        return carrier.get(TRACEPARENT, "")

    def ids(self) -> dict[str, str]:
        """See `tracing.ids`."""
        present = trace.get_current_span().get_span_context()
        if not present.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(present.trace_id), "span_id": trace.format_span_id(present.span_id)}

    @contextlib.contextmanager
    def _span(
        self, name: str, kind: SpanKind, attributes: Attributes | None, *, context: Context | None = None, links: Sequence[Link] = ()
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            context,
            kind,
            dict(attributes or {}),
            links,
            record_exception=False,  # it would keep the message
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                _fail(span, error)
                raise


def _fail(span: trace.Span, why: BaseException | str) -> None:
    kind, callers = why if isinstance(why, str) else type(why).__qualname__, False
    if isinstance(why, PalimpsestError):
        kind, callers = why.code, why.status < 500
    span.set_attribute("error.type", kind)
    if not callers:
        span.set_status(Status(StatusCode.ERROR))

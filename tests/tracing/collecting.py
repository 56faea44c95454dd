"""A collector of OTLP over HTTP for tests: it keeps the spans that processes send, and the bytes that they came in."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """One span, as it arrived."""

    process: str  # its service.name
    name: str
    kind: str
    trace: str
    id: str
    parent: str  # '' for a root
    links: list[str]  # the traces it points to
    failed: bool
    attributes: dict[str, str | int]


@dataclass
class Collector:
    """What arrived so far."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""

    def took(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            process = _plain(resource.resource.attributes)["service.name"]
            self.spans += [_span(process, sent) for scope in resource.scope_spans for sent in scope.spans]

    def of(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace == trace]

    def one(self, trace: str, process: str, name: str, kind: str | None = None) -> Span:
        """The one such span of a trace."""
        found = [span for span in self.of(trace) if (span.process, span.name) == (process, name) and kind in (None, span.kind)]
        assert len(found) == 1, (name, kind, found, self.of(trace))
        return found[0]


def _span(process: str, sent: Sent) -> Span:
    return Span(
        process,
        sent.name,
        Sent.SpanKind.Name(sent.kind).removeprefix("SPAN_KIND_").lower(),
        sent.trace_id.hex(),
        sent.span_id.hex(),
        sent.parent_span_id.hex(),
        [link.trace_id.hex() for link in sent.links],
        sent.status.code == Status.STATUS_CODE_ERROR,
        _plain(sent.attributes),
    )


def _plain(attributes) -> dict[str, str | int]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.took(self.rfile.read(int(self.headers["content-length"])))
            body = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

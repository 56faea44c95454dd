"""Real HTTP servers that a client meets instead of a service, or before one: they answer what a test says, or cut the line."""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from waiting import PATIENCE_S


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Told:
    """An answer."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


def told(status: int = 200, said: object = None, **headers: str) -> Told:
    return Told(status, json.dumps(said).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def problem(status: int, code: str, detail: str = "because", **headers: str) -> Told:
    errors = [{"field": "x", "message": detail}]
    return told(status, {"code": code, "detail": detail, "request_id": "req_1", "status": status, "errors": errors}, **headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *about: object) -> None:
        """A client that went away, as those do which wait for a time only, is no fault here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*about)


class Door:
    """A server on a free port; `asked` has what came, in order. An answer of None cuts the line."""

    def __init__(self, answer: Callable[[Asked], Told | None]) -> None:
        self.asked: list[Asked] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                door.asked.append(asked)
                said = answer(asked)
                if said is None:
                    self.close_connection = True
                    return
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Door":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def saying(*answers: Told | None) -> Door:
    """A door that gives these answers in turn, the last one for ever."""
    left = list(answers)
    return Door(lambda _: left.pop(0) if len(left) > 1 else left[0])


@contextlib.contextmanager
def cutting(url: str, *cut: int) -> Iterator[Door]:
    """A door before the service at `url`: requests of these numbers, from 0, arrive, and instead of their answers the line is cut."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as behind:

        def answer(asked: Asked) -> Told | None:
            number = len(door.asked) - 1
            headers = {name: value for name, value in asked.headers.items() if name not in ("host", "content-length", "connection")}
            got = behind.request(asked.method, asked.path, content=asked.body, headers=headers)
            if number in cut:
                return None
            kept = {name: value for name, value in got.headers.items() if name in ("content-type", "memory-state", "idempotent-replayed")}
            return Told(got.status_code, got.content, kept)

        with Door(answer) as door:
            yield door

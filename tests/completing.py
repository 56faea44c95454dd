"""A server that completes conversations in the way of OpenAI's API, well or in every wrong way: what it does is the name of its model."""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from waiting import PATIENCE_S

KEY = "sk-upstream-canary-5d1f"
REFUSAL = {"message": f"maximum context length is 7 tokens (key {KEY})", "param": "messages", "code": "context_length_exceeded"}
ERRORS = {  # status, headers, body
    "refuses": (400, {}, json.dumps({"error": REFUSAL})),
    "refuses-wordless": (422, {}, "no"),
    "unauthorized": (401, {}, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})),
    "unknown-there": (404, {}, "{}"),
    "limits": (429, {"Retry-After": "7"}, "{}"),
    "overloaded": (503, {"Retry-After": "a while"}, "{}"),
    "breaks": (500, {}, f"Traceback: {KEY}"),
    "gives-up": (504, {}, ""),
    "redirects": (307, {"Location": "http://127.0.0.1:9/elsewhere"}, ""),
    "says-nonsense": (200, {"Content-Type": "application/json"}, "[1, 2"),
    "says-no-completion": (200, {"Content-Type": "application/json"}, '{"choices": "none"}'),
}
STREAMS = {  # what is sent after the first chunk, and whether the answer is ended properly
    "stream-cut": ([], False),
    "stream-ends-early": ([], True),
    "stream-error": ([b'data: {"error": {"message": "out of memory, said ' + KEY.encode() + b'"}}\n\n'], True),
    "stream-nonsense": ([b"data: {nonsense\n\n"], True),
    "stream-too-long": ([b"data: " + b"x" * 1_100_000], True),
    "stream-no-done": ([b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'], True),
}
MODELS = ("echo", "silent", "silent-in-stream", "endless", "huge", "page", *ERRORS, *STREAMS)


@dataclass
class Upstream:
    """The running server: what it was asked, and whether somebody left while it spoke."""

    url: str
    asked: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)  # lets the second word of an echo be said

    def said(self) -> list[dict]:
        """The messages that it was asked last."""
        return self.asked[-1]["messages"]

    def system(self) -> str:
        """The system message among them; '' without one."""
        first = self.said()[0]
        return first["content"] if first["role"] == "system" else ""


class Answering(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else what it sends in two pieces takes 40 ms
    upstream: Upstream

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.upstream.asked.append(body)
        self.upstream.headers.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
        model = body["model"]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if model in ERRORS:
                self.whole(*ERRORS[model])
            elif model == "silent":
                self.wait_until_left()
            elif body.get("stream"):
                self.streamed(model, body)
            elif model == "huge":
                self.whole(200, {"Content-Type": "application/json"}, json.dumps("x" * 17_000_000))
            else:
                self.whole(200, {"Content-Type": "application/json"}, json.dumps(completion(body)))

    def whole(self, status: int, headers: dict, text: str) -> None:
        raw = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def streamed(self, model: str, body: dict) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if model == "page" else "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.part(b": a comment\r\n\r\n")
        self.part(chunk({"role": "assistant", "content": ""}))
        if model in STREAMS:
            more, ended = STREAMS[model]
            for part in more:
                self.part(part)
            if not ended:
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                return
        elif model == "silent-in-stream":
            self.wait_until_left()
            return
        elif model == "endless":
            self.endless()
            return
        else:
            said = completion(body)["choices"][0]["message"]["content"]
            self.part(chunk({"content": said[:1]}))
            assert self.upstream.go_on.wait(PATIENCE_S)
            event = chunk({"content": said[1:]}) + chunk({}, "stop") + b"data: [DONE]\n\n"
            for begin in range(0, len(event), 7):  # events are not cut where the network cuts
                self.part(event[begin : begin + 7])
        self.part(b"")

    def part(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def endless(self) -> None:
        try:
            while True:
                self.part(chunk({"content": "word "}))
                time.sleep(0.01)
        except (BrokenPipeError, ConnectionResetError):
            self.upstream.left.set()
        self.close_connection = True

    def wait_until_left(self) -> None:
        ready, _, _ = select.select([self.connection], [], [], PATIENCE_S)
        if ready and not self.connection.recv(1):
            self.upstream.left.set()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Listening(ThreadingHTTPServer):
    """The server's socket."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: that clients leave is what is tested."""


def completion(body: dict) -> dict:
    """What `echo` says: what it was asked, as JSON, as whoever read the whole conversation could."""
    message = {"role": "assistant", "content": json.dumps(body["messages"])}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    made = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "echo-2026", "choices": [choice], "usage": usage}
    return {**made, "x_upstreams_own": {"kept": True}}


def chunk(delta: dict, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "echo-2026", "choices": [choice]}
    return b"data: " + json.dumps(made).encode() + b"\n\n"


@contextlib.contextmanager
def completing() -> Iterator[Upstream]:
    """The server while it listens on a free port of this machine."""
    server = Listening(("127.0.0.1", 0), Answering)
    upstream = Upstream(f"http://127.0.0.1:{server.server_address[1]}/v1")
    upstream.go_on.set()
    server.RequestHandlerClass = type("Asked", (Answering,), {"upstream": upstream})
    running = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    running.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        running.join()

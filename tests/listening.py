"""A service that listens on a port of 127.0.0.1, as people's programs and browsers meet it."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fixtures_service import Lab
from waiting import PATIENCE_S


@contextlib.contextmanager
def listening(lab: Lab) -> Iterator[str]:
    """The base URL of the lab's service while it listens."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: else asyncio leaves Nagle on, 40 ms a reply
    sock.bind(("127.0.0.1", 0))
    sock.listen()  # so that nobody is refused before the server runs
    server = uvicorn.Server(uvicorn.Config(lab.service.app, log_config=None, access_log=False, lifespan="off", server_header=False))
    served = asyncio.run_coroutine_threadsafe(server._serve([sock]), lab.loop)  # `serve` would install signal handlers
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        served.result(PATIENCE_S)
        sock.close()

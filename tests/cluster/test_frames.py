"""Calls between two ends of a real socket: what arrives, what is refused, and what becomes of a call whose other side is lost."""

import asyncio
import itertools
import os
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import PATIENCE_S, lasted

from service import telemetry
from service.cluster import client as client_module
from service.cluster.client import FrameClient, Refused, Unknown
from service.cluster.frames import FrameServer, tls_context
from service.cluster.link import FRAME_MAX, VERSION, Busy, Call, Cancel, Failure, Frame, Goodbye, Hello, Ping, Pong, Reply, pack
from service.cluster.sockets import dial
from service.errors import NotFound, OutcomeUnknown, PalimpsestError, TooLarge

CANARY = "the text of somebody's memory"
LENGTH = struct.Struct(">I")
LONG = PATIENCE_S  # for a call
numbers = itertools.count()


class Desk:
    """A handler whose calls wait until they are let go, and which remembers what became of each."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, call: Call) -> bytes:
        self.begun.append(call.method)
        try:
            if call.method.startswith("wait"):
                await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.method)
            raise
        if call.method == "raise":
            raise self.error
        if call.method == "large":
            return bytes(FRAME_MAX + 1)
        self.ended.append(call.method)
        return call.tenant.encode() + b":" + call.body

    async def until(self, done, *calls: asyncio.Future) -> None:
        """Wait until something is so; a call that must go on meanwhile and has ended tells why."""
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                for call in calls:
                    assert not call.done(), call.exception()
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a machine with much else to do a second may pass before a worker says hello, and its calls would be refused."""
    monkeypatch.setattr(client_module, "HELLO_S", PATIENCE_S)


@asynccontextmanager
async def serving(tmp_path, handler, *, address=None, tls=None, **limits):
    server = FrameServer(handler, **{"max_in_flight": 100, "worker": "w1", **limits})
    await server.start(address or f"unix://{tmp_path}/{next(numbers)}.sock", tls)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def asking(server, tls=None, **more):
    client = FrameClient(server.address, tls, **more)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def both(tmp_path, handler, **limits):
    async with serving(tmp_path, handler, **limits) as server, asking(server) as client:
        yield server, client


def ask(client, method, body=b"", *, deadline_s=LONG):
    return asyncio.ensure_future(client.call(method, "tnt_1", body, deadline_s))


# --- what arrives


async def test_call_arrives_with_all_its_parts_and_its_reply_comes_back(tmp_path):
    seen = []

    async def handler(call: Call) -> bytes:
        seen.append(call)
        seen.append(telemetry.working_on())
        return b"answer"

    async with both(tmp_path, handler) as (_, client):
        assert await client.call("recall", "tnt_1", b"\x00\xffbody", 60.0, traceparent="00-ab-cd-01", request="req_1") == b"answer"
    call, ids = seen
    assert (call.method, call.tenant, call.body, call.traceparent) == ("recall", "tnt_1", b"\x00\xffbody", "00-ab-cd-01")
    assert 20_000 < call.deadline_ms <= 60_000
    assert ids == {"request": "req_1", "tenant": "tnt_1"}


async def test_thousand_calls_at_once_share_one_connection_and_get_their_own_answers(tmp_path):
    all_here = asyncio.Event()

    async def handler(call: Call) -> bytes:
        if server.in_flight == 1_000:
            all_here.set()
        await all_here.wait()
        await asyncio.sleep(0.02 * (hash(call.body) % 5))
        return call.body

    async with both(tmp_path, handler, max_in_flight=1_000) as (server, client):
        bodies = [f"{number}".encode() for number in range(1_000)]
        assert await asyncio.gather(*(ask(client, "echo", body) for body in bodies)) == bodies
        assert server.in_flight == 0


@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
async def test_bodies_of_any_size_up_to_the_limit_go_both_ways(tmp_path, size):
    async with both(tmp_path, Desk()) as (_, client):
        body = os.urandom(size)
        assert await client.call("echo", "t", body, LONG) == b"t:" + body


async def test_body_above_the_limit_is_told_and_the_connection_goes_on(tmp_path):
    async with both(tmp_path, Desk()) as (_, client):
        with pytest.raises(TooLarge):
            await client.call("echo", "t", bytes(FRAME_MAX), LONG)
        with pytest.raises(TooLarge):
            await client.call("large", "t", b"", LONG)
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


async def test_tcp_serves_as_well_and_tells_the_port_it_took(tmp_path):
    async with serving(tmp_path, Desk(), address="tcp://127.0.0.1:0") as server, asking(server) as client:
        assert server.address.startswith("tcp://127.0.0.1:")
        assert not server.address.endswith(":0")
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


frames = st.one_of(
    st.builds(Hello, st.integers(0, 99), st.text()),
    st.builds(Call, st.integers(0, 2**63), st.integers(0, 2**31), st.text(), st.text(), st.text(), st.binary()),
    st.builds(Reply, st.integers(0, 2**63), st.binary()),
    st.builds(
        Failure,
        st.integers(0, 2**63),
        st.lists(st.text()),
        st.integers(400, 599),
        st.text(),
        st.text(),
        st.lists(st.dictionaries(st.text(), st.text())),
        st.none() | st.integers(0, 99),
    ),
    st.builds(Cancel, st.integers(0, 2**63)),
    st.builds(Busy, st.integers(0, 2**63), st.integers(0, 9_999), st.booleans()),
    st.builds(Goodbye, st.integers(0, 2**63)),
    st.just(Ping()),
    st.just(Pong()),
)


@settings(deadline=None)
@given(frame=frames)
def test_every_frame_is_read_as_it_was_sent(frame):
    packed = pack(frame)
    assert LENGTH.unpack(packed[:4]) == (len(packed) - 4,)
    assert msgspec.msgpack.decode(packed[4:], type=Frame) == frame


def test_frame_of_a_newer_side_is_read_without_its_new_fields():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([0, 1, "w1", "a new field"]), type=Frame) == Hello(1, "w1")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([0, 1]), type=Frame) == Hello(1)


# --- errors


async def test_error_of_the_service_is_raised_at_the_other_side_as_it_was(tmp_path):
    desk = Desk()
    async with both(tmp_path, desk) as (_, client):
        desk.error = NotFound("no bank 'x'", errors=[{"field": "bank", "message": "unknown"}], retry_after_s=7)
        with pytest.raises(NotFound) as raised:
            await client.call("raise", "t", b"", LONG)
        assert type(raised.value) is NotFound
        assert (raised.value.detail, raised.value.errors, raised.value.retry_after_s) == ("no bank 'x'", desk.error.errors, 7)


async def test_unexpected_error_crosses_without_its_message_and_is_logged_without_it(tmp_path):
    desk = Desk()
    desk.error = ValueError(CANARY)
    async with both(tmp_path, desk) as (_, client):
        with structlog.testing.capture_logs() as logs, pytest.raises(PalimpsestError) as raised:
            await client.call("raise", "t", CANARY.encode(), LONG)
        assert (raised.value.status, raised.value.code) == (500, "internal")
        assert CANARY not in raised.value.detail
        told = [entry for entry in logs if entry["log_level"] != "debug"]
        assert [(entry["event"], entry["method"], entry["error"]) for entry in told] == [("call failed", "raise", "ValueError")]
        assert CANARY not in str(logs)


# --- limits, deadlines, cancelling


async def test_call_above_the_limit_is_refused_at_once_and_was_not_begun(tmp_path):
    desk = Desk()
    async with both(tmp_path, desk, max_in_flight=2) as (_, client):
        waiting = [ask(client, "wait"), ask(client, "wait")]
        await desk.until(lambda: len(desk.begun) == 2)
        with pytest.raises(Refused) as refused:
            await client.call("echo", "t", b"", LONG)
        assert 0 < refused.value.again_s < 1
        assert desk.begun == ["wait", "wait"]
        desk.go.set()
        await asyncio.gather(*waiting)
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


async def test_one_client_cannot_take_every_place(tmp_path):
    desk = Desk()
    async with both(tmp_path, desk, max_in_flight=3, per_connection=2) as (server, greedy), asking(server) as other:
        waiting = [ask(greedy, "wait"), ask(greedy, "wait")]
        await desk.until(lambda: len(desk.begun) == 2, *waiting)
        with pytest.raises(Refused):
            await greedy.call("echo", "t", b"", LONG)
        assert await other.call("echo", "t", b"x", LONG) == b"t:x"
        desk.go.set()
        await asyncio.gather(*waiting)


async def test_deadline_ends_a_call_on_both_sides_and_its_outcome_is_unknown(tmp_path):
    desk = Desk()
    async with both(tmp_path, desk) as (_, client):
        await client.call("echo", "t", b"", LONG)  # it is connected: the deadline is that of the call alone
        with pytest.raises((Unknown, OutcomeUnknown)):
            await client.call("wait", "t", b"", 0.3)
        await desk.until(lambda: desk.cancelled == ["wait"])
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


async def test_server_enforces_the_deadline_of_a_client_that_does_not(tmp_path):
    desk = Desk()
    async with serving(tmp_path, desk) as server, raw(server) as (reader, writer):
        writer.write(pack(Call(1, 50, "wait", "t", "", b"")))
        answer = await next_frame(reader)
        assert (answer.id, answer.kinds[0], answer.status, answer.code) == (1, "OutcomeUnknown", 503, "capacity")
        assert desk.cancelled == ["wait"]


async def test_cancelled_caller_cancels_the_handler_and_nobody_else(tmp_path):
    desk = Desk()
    async with both(tmp_path, desk) as (_, client):
        first, second = ask(client, "wait 1"), ask(client, "wait 2")
        await desk.until(lambda: len(desk.begun) == 2)
        first.cancel()
        await desk.until(lambda: desk.cancelled == ["wait 1"])
        desk.go.set()
        assert await second == b"tnt_1:"
        assert first.cancelled()


async def test_client_that_leaves_has_its_calls_cancelled(tmp_path):
    desk = Desk()
    async with serving(tmp_path, desk) as server:
        async with asking(server) as client:
            waiting = ask(client, "wait")
            await desk.until(lambda: desk.begun)
        await desk.until(lambda: desk.cancelled == ["wait"])
        await desk.until(lambda: server.in_flight == 0)
        with pytest.raises(Unknown):
            await waiting


# --- a worker that stops, is lost, or comes back


async def test_drain_refuses_new_calls_ends_those_in_progress_and_takes_the_socket_away(tmp_path):
    desk = Desk()
    async with both(tmp_path, desk) as (server, client):
        running = ask(client, "wait")
        await desk.until(lambda: desk.begun)
        draining = asyncio.ensure_future(server.drain(LONG))
        await asyncio.sleep(0.01)
        with pytest.raises(Refused) as refused:
            await client.call("echo", "t", b"", LONG)
        assert refused.value.again_s is None
        async with asking(server) as newcomer:
            with pytest.raises(Refused):
                await newcomer.call("echo", "t", b"", LONG)
        desk.go.set()
        assert await running == b"tnt_1:"
        await asyncio.wait_for(draining, LONG)
        assert not list(tmp_path.iterdir())
        with pytest.raises(Refused):
            await client.call("echo", "t", b"", LONG)
        assert desk.begun == ["wait"]


async def test_drain_gives_up_what_takes_too_long_and_its_outcome_is_unknown(tmp_path):
    desk = Desk()
    async with both(tmp_path, desk) as (server, client):
        running = ask(client, "wait")
        await desk.until(lambda: desk.begun)
        await asyncio.wait_for(server.drain(0.05), LONG)
        with pytest.raises(Unknown):
            await running
        assert desk.cancelled == ["wait"]


async def test_close_waits_for_clients_only_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr("service.cluster.frames.LINGER_S", 0.1)
    async with serving(tmp_path, Desk()) as server, raw(server) as (reader, _):
        _, seconds = await lasted(server.close())
        assert seconds < 2
        assert await next_frame(reader) == Goodbye(0)
        assert await reader.read() == b""


@pytest.mark.parametrize("times", range(5))
@pytest.mark.parametrize("way", ["drain", "close"])
async def test_call_that_meets_a_closing_worker_is_told_whether_it_was_begun(tmp_path, way, times):
    """So that it can be made elsewhere without doing it twice: after a drain every call is, after a close all but those in progress."""
    desk, outcomes = Desk(), Counter()
    async with both(tmp_path, desk) as (server, client):

        async def storm() -> None:
            while outcomes["refused"] < 16:
                try:
                    await client.call("echo", "t", b"", LONG)
                    outcomes["done"] += 1
                except Refused:
                    outcomes["refused"] += 1
                    await asyncio.sleep(0)
                except Unknown:
                    outcomes["unknown"] += 1

        storms = [asyncio.ensure_future(storm()) for _ in range(16)]
        await desk.until(lambda: len(desk.ended) > 50 * times)
        await (server.drain(LONG) if way == "drain" else server.close())
        await asyncio.gather(*storms)
    assert outcomes["done"] <= len(desk.begun) <= outcomes["done"] + outcomes["unknown"]
    assert way == "close" or outcomes["unknown"] == 0


async def test_broken_connection_makes_its_calls_unknown_and_the_next_call_connects_again(tmp_path):
    desk = Desk()
    address = f"unix://{tmp_path}/worker.sock"
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(tmp_path, desk, address=address))
        client = await stack.enter_async_context(asking(first))
        running = [ask(client, "wait") for _ in range(3)]
        await desk.until(lambda: len(desk.begun) == 3)
        for caller in first._callers:
            caller.link.abort()
        assert [type(error) for error in await asyncio.gather(*running, return_exceptions=True)] == [Unknown] * 3
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"
        await first.close()
        with pytest.raises(Refused):
            await client.call("echo", "t", b"", LONG)
        again = await stack.enter_async_context(serving(tmp_path, desk, address=address))
        await asyncio.sleep(client_module.BACKOFF_S[0])
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"
        assert again.in_flight == 0


async def test_address_that_nobody_answers_is_not_tried_for_every_call(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "BACKOFF_S", (LONG, LONG))
    client = FrameClient(f"unix://{tmp_path}/nobody.sock")
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            with pytest.raises(Refused):
                await client.call("echo", "t", b"", LONG)
    assert len(logs) == 1
    await client.close()


async def test_process_that_stood_still_itself_does_not_take_that_for_silence(tmp_path, monkeypatch):
    """As one that had no processor, or was stopped: what has come meanwhile is heard first."""
    monkeypatch.setattr(client_module, "PING_S", 0.5)
    desk = Desk()
    async with serving(tmp_path, desk) as server, asking(server) as client:
        waiting = ask(client, "wait")
        await desk.until(lambda: desk.begun, waiting)
        for _ in range(3):
            time.sleep(1.2)  # noqa: ASYNC251 (both sides stand still)
            await asyncio.sleep(0.7)
        desk.go.set()
        assert await waiting == b"tnt_1:"


async def test_worker_that_hangs_after_the_connection_is_refused_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "HELLO_S", 1.0)

    async def silent(reader, writer) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(silent, f"{tmp_path}/silent.sock")
    client = FrameClient(f"unix://{tmp_path}/silent.sock")
    (told,), seconds = await lasted(asyncio.gather(client.call("echo", "t", b"", LONG), return_exceptions=True))
    assert isinstance(told, Refused)
    assert seconds < 3
    await client.close()
    server.close()


PROCESS = """
import asyncio, sys
from service.cluster.frames import FrameServer
from service.telemetry import configure_logging

configure_logging("info")

async def handler(call):
    if call.method == "wait":
        print("begun", flush=True)
        await asyncio.sleep(600)
    return call.body

async def main():
    await FrameServer(handler, max_in_flight=9, worker="w1").start(sys.argv[1])
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@asynccontextmanager
async def process_serving(address: str):
    """A worker's process, killed at the end."""
    command = (sys.executable, "-c", PROCESS, address)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=os.getcwd())
    try:
        assert await process.stdout.readline() == b"up\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def answered(client: FrameClient) -> bytes:
    """What a worker echoes that is there, or comes: a call may be refused meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(Refused, Unknown):
                return await client.call("echo", "t", b"x", LONG)
            await asyncio.sleep(0.05)


async def test_process_that_is_killed_or_stopped_makes_its_calls_unknown_and_later_ones_refused(tmp_path):
    address = f"unix://{tmp_path}/worker.sock"
    client = FrameClient(address)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        async with process_serving(address) as process:
            assert await answered(client) == b"x"
            waiting = ask(client, "wait")
            assert await process.stdout.readline() == b"begun\n"
            process.send_signal(number)
            with pytest.raises(Unknown, match="broke"):  # not: it did not answer in time
                await asyncio.wait_for(waiting, LONG)
            with pytest.raises(Refused):
                await client.call("echo", "t", b"x", LONG)
            if number == signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
                assert await answered(client) == b"x"
    await client.close()


async def test_worker_that_falls_silent_is_found_out_before_the_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "PING_S", 0.5)

    async def falls_silent(reader, writer) -> None:
        writer.write(pack(Hello(VERSION)))
        while await reader.read(100):
            pass
        writer.close()

    server = await asyncio.start_unix_server(falls_silent, f"{tmp_path}/silent.sock")
    client = FrameClient(f"unix://{tmp_path}/silent.sock")
    (told,), seconds = await lasted(asyncio.gather(client.call("echo", "t", b"", LONG), return_exceptions=True))
    assert isinstance(told, Unknown)
    assert seconds < 5
    await client.close()
    server.close()


async def test_idle_connection_is_kept_by_its_pings(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "PING_S", 0.5)
    async with both(tmp_path, Desk()) as (_, client):
        await client.call("echo", "t", b"", LONG)
        before = client._connection
        await asyncio.sleep(3)
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"
        assert client._connection is before


async def test_another_worker_at_the_address_is_refused(tmp_path):
    async with serving(tmp_path, Desk(), worker="w2") as server, asking(server, worker="w1") as client:
        with pytest.raises(Refused):
            await client.call("echo", "t", b"", LONG)
    async with serving(tmp_path, Desk(), worker="w2") as server, asking(server, worker="w2") as client:
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


async def test_socket_of_a_killed_worker_is_taken_over_and_that_of_a_living_one_is_not(tmp_path):
    address = f"unix://{tmp_path}/worker.sock"
    with socket.socket(socket.AF_UNIX) as dead:  # nobody removes the file when the process is gone
        dead.bind(f"{tmp_path}/worker.sock")
        dead.listen()
    async with serving(tmp_path, Desk(), address=address) as server:
        assert stat.S_IMODE((tmp_path / "worker.sock").stat().st_mode) == 0o600
        with pytest.raises(OSError, match="in use"):
            await FrameServer(Desk(), max_in_flight=1).start(address)
        async with asking(server) as client:
            assert await client.call("echo", "t", b"x", LONG) == b"t:x"


@pytest.mark.parametrize("address", ["http://x:1", "unix://relative", "tcp://nobody", "tcp://:1", ""])
async def test_address_of_another_form_is_an_error_of_the_caller(address):
    with pytest.raises(ValueError, match="neither"):
        await dial(address, None)


# --- whatever comes in


@asynccontextmanager
async def raw(server, *, hello: bool = True):
    """A socket without manners."""
    reader, writer = await asyncio.open_unix_connection(server.address.removeprefix("unix://"))
    try:
        assert await next_frame(reader) == Hello(VERSION, "w1")
        if hello:
            writer.write(pack(Hello(VERSION)))
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # the socket is closed in the next turn


async def next_frame(reader):
    async with asyncio.timeout(PATIENCE_S):
        (size,) = LENGTH.unpack(await reader.readexactly(4))
        return msgspec.msgpack.decode(await reader.readexactly(size), type=Frame)


def framed(packed: bytes) -> bytes:
    return LENGTH.pack(len(packed)) + packed


BAD = {
    "length above the limit": LENGTH.pack(FRAME_MAX + 1),
    "length of 4 GiB": b"\xff\xff\xff\xff",
    "not msgpack": framed(b"\xc1\xc1\xc1"),
    "empty": framed(b""),
    "an object": framed(msgspec.msgpack.encode({"type": "call"})),
    "no such frame": framed(msgspec.msgpack.encode([99, 1])),
    "fields missing": framed(msgspec.msgpack.encode([1, 1])),
    "field of another type": framed(msgspec.msgpack.encode([1, "one", 50, CANARY, "t", "", b""])),
    "text that is not UTF-8": framed(b"\x97\x01\x01\x32\xa2\xff\xfe\xa1t\xa0\xc4\x00"),
    "more after the frame": framed(msgspec.msgpack.encode([6]) + b"\x00"),
    "nested without end": framed(b"\x91" * 100_000),
    "a server's frame": bytes(pack(Reply(1, b""))),
    "an id twice": bytes(pack(Call(1, 50, "echo", "t", "", b"")) + pack(Call(1, 50, "echo", "t", "", b""))),
    "a second hello": bytes(pack(Hello(VERSION))),
}


@pytest.mark.parametrize("sent", BAD.values(), ids=BAD.keys())
async def test_malformed_frame_ends_its_connection_with_a_log_line_and_nothing_else(tmp_path, sent):
    desk = Desk()
    async with both(tmp_path, desk) as (server, client):
        running = ask(client, "wait")
        await desk.until(lambda: desk.begun)
        with structlog.testing.capture_logs() as logs:
            async with raw(server) as (reader, writer):
                writer.write(sent)
                async with asyncio.timeout(PATIENCE_S):
                    await reader.read()
        assert [entry["event"] for entry in logs] == ["connection ended"]
        assert CANARY not in str(logs)
        desk.go.set()
        assert await running == b"tnt_1:"
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


@settings(max_examples=60, deadline=None)
@given(sent=st.binary(max_size=400))
def test_no_bytes_harm_a_server(tmp_path_factory, sent):
    async def run() -> None:
        async with both(tmp_path_factory.getbasetemp(), Desk()) as (server, client):
            async with raw(server, hello=False) as (reader, writer):
                writer.write(sent)
                writer.write_eof()
                async with asyncio.timeout(PATIENCE_S):
                    await reader.read()
            assert await client.call("echo", "t", b"x", LONG) == b"t:x"

    asyncio.run(run())


@pytest.mark.parametrize("first", [Ping(), Hello(VERSION + 1), Call(1, 50, "echo", "t", "", b"")], ids=["ping", "version", "call"])
async def test_client_that_does_not_say_hello_in_our_version_is_not_served(tmp_path, first):
    desk = Desk()
    async with serving(tmp_path, desk) as server, raw(server, hello=False) as (reader, writer):
        writer.write(pack(first))
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
    assert desk.begun == []


async def test_server_of_another_version_is_refused(tmp_path):
    async def newer(reader, writer) -> None:
        writer.write(pack(Hello(VERSION + 1)))
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(newer, f"{tmp_path}/newer.sock")
    client = FrameClient(f"unix://{tmp_path}/newer.sock")
    with pytest.raises(Refused):
        await client.call("echo", "t", b"", LONG)
    await client.close()
    server.close()


@pytest.mark.parametrize("calls", [1, 8])
async def test_client_that_does_not_read_loses_its_connection_and_keeps_no_place(tmp_path, monkeypatch, calls):
    monkeypatch.setattr("service.cluster.frames.WRITE_S", 0.1)
    desk = Desk()
    async with both(tmp_path, desk, max_in_flight=8) as (server, client):
        async with raw(server) as (_, writer):
            body = bytes(5_000_000)
            for number in range(1, calls + 1):
                writer.write(pack(Call(number, 1_000 * int(LONG), "echo", "t", "", body)))
            await desk.until(lambda: desk.ended)
            await desk.until(lambda: len(server._callers) == 0)
            assert server.in_flight == 0
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


async def test_client_that_asks_without_reading_does_not_fill_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr("service.cluster.frames.WRITE_S", 0.1)
    desk = Desk()
    async with serving(tmp_path, desk) as server, raw(server) as (_, writer):
        writer.write(bytes(pack(Ping())) * 300_000)
        await desk.until(lambda: len(server._callers) == 0)


# --- TLS


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """An authority, and certificates that it, or another one, has signed."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    def authority(name: str) -> None:
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"),
        )

    def signed(name: str, by: str, host: str) -> None:
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        (folder / f"{name}.ext").write_text(f"subjectAltName=IP:{host}\n")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial"),
            *("-days", "2", "-out", f"{name}.pem", "-extfile", f"{name}.ext"),
        )

    authority("ours")
    authority("theirs")
    signed("worker", "ours", "127.0.0.1")
    signed("elsewhere", "ours", "127.0.0.2")
    signed("api", "ours", "127.0.0.1")
    signed("stranger", "theirs", "127.0.0.1")
    return folder


def context(folder, name: str, *, server: bool, ca: str = "ours") -> ssl.SSLContext:
    return tls_context(f"{folder}/{name}.pem", f"{folder}/{name}.key", f"{folder}/{ca}.pem", server=server)


def without_certificate(folder) -> ssl.SSLContext:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(f"{folder}/ours.pem")
    return bare


async def test_both_sides_with_certificates_of_our_authority_talk(tmp_path, certificates):
    tls = context(certificates, "worker", server=True)
    async with (
        serving(tmp_path, Desk(), address="tcp://127.0.0.1:0", tls=tls) as server,
        asking(server, context(certificates, "api", server=False)) as client,
    ):
        body = os.urandom(3_000_000)
        assert await client.call("echo", "t", body, LONG) == b"t:" + body
        assert await asyncio.gather(*(ask(client, "echo", b"x") for _ in range(100))) == [b"tnt_1:x"] * 100


STRANGERS = {
    "no TLS": lambda _: None,
    "no certificate": without_certificate,
    "a stranger's certificate": lambda folder: context(folder, "stranger", server=False),
}


@pytest.mark.parametrize("made", STRANGERS.values(), ids=STRANGERS.keys())
async def test_client_without_a_certificate_of_ours_is_refused_and_nothing_of_it_is_begun(tmp_path, certificates, made):
    desk = Desk()
    tls = context(certificates, "worker", server=True)
    async with (
        serving(tmp_path, desk, address="tcp://127.0.0.1:0", tls=tls) as server,
        asking(server, made(certificates)) as stranger,
        asking(server, context(certificates, "api", server=False)) as client,
    ):
        with pytest.raises(Refused):
            await stranger.call("echo", "t", b"", LONG)
        assert desk.begun == []
        assert await client.call("echo", "t", b"x", LONG) == b"t:x"


@pytest.mark.parametrize(("name", "ca"), [("stranger", "theirs"), ("elsewhere", "ours")], ids=["another authority", "another host"])
async def test_server_without_a_certificate_of_ours_for_its_host_is_refused(tmp_path, certificates, name, ca):
    tls = context(certificates, name, server=True)
    async with (
        serving(tmp_path, Desk(), address="tcp://127.0.0.1:0", tls=tls) as server,
        asking(server, context(certificates, "api", server=False)) as client,
    ):
        with pytest.raises(Refused):
            await client.call("echo", "t", b"", LONG)

"""The process as an operator meets it: signals, a taken port, a directory in use, a retry right after a crash."""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import sys

import pytest
from test_retry import reached
from waiting import PATIENCE_S, lasted

from bench.killing import Victim
from bench.running import address_of, client_of, until_ready

pytestmark = pytest.mark.serial
KEY = "the admin key of a process under test"


async def serve(var_dir, **settings) -> asyncio.subprocess.Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    environ |= {"PALIMPSEST_VAR_DIR": str(var_dir), **{f"PALIMPSEST_{name}": value for name, value in {"PORT": "0", **settings}.items()}}
    command = (sys.executable, "-m", "service.cli", "serve")
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ)


@pytest.mark.parametrize("after_s", [0.0, 0.8])
async def test_sigterm_while_starting_ends_the_process_with_0_within_five_seconds(tmp_path, after_s):
    process = await serve(tmp_path / "var")
    async with asyncio.timeout(PATIENCE_S):
        while not (tmp_path / "var" / "lock").exists():  # noqa: ASYNC110 (what it takes first; a file has no event)
            await asyncio.sleep(0.01)
    await asyncio.sleep(after_s)
    process.send_signal(signal.SIGTERM)
    (_, errors), took = await lasted(process.communicate())
    assert took < 5
    assert process.returncode == 0
    assert errors == b""


async def test_sigterm_before_anything_has_begun_ends_the_process_at_once(tmp_path):
    process = await serve(tmp_path / "var")
    await asyncio.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode in (0, -signal.SIGTERM)  # the interpreter itself is starting
    assert errors == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_lets_a_request_in_progress_end_closes_everything_and_exits_with_0(tmp_path, number):
    process = await serve(tmp_path / "var", BOOTSTRAP_KEY=KEY)
    (tmp_path / "log").touch()
    url = await address_of(process, tmp_path / "log")
    await until_ready(url, tmp_path / "log")
    items = [{"input": f"question {place}", "right": f"answer {place}"} for place in range(60)]
    async with client_of(url, KEY) as client:
        begun = {"Idempotency-Key": "one that shows when the request has begun"}
        teaching = asyncio.ensure_future(client.post("/v1/corrections/batch", json={"items": items}, headers=begun))
        await reached(tmp_path / "var", "pending")
        process.send_signal(number)
        response = await teaching
        assert response.status_code == 201
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    assert b"Traceback" not in errors, errors
    assert not (tmp_path / "var" / "palimpsest.db-wal").exists(), "the database was not closed"
    with contextlib.closing(sqlite3.connect(tmp_path / "var" / "palimpsest.db")) as conn:
        assert conn.execute("SELECT count(*) FROM event").fetchone() == (60,)


async def test_second_process_on_the_same_directory_is_refused_in_one_line_and_the_first_goes_on(tmp_path):
    victim = Victim(tmp_path)
    await victim.start()
    second = await serve(tmp_path / "var")
    _, errors = await asyncio.wait_for(second.communicate(), PATIENCE_S)
    assert second.returncode == 1
    lines = errors.decode().splitlines()
    assert len(lines) == 1, errors
    assert "in use by another Palimpsest" in lines[0]
    async with victim.client() as client:
        assert (await client.get("/health/ready")).status_code == 200
    await victim.kill()


async def test_taken_port_is_told_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await serve(tmp_path / "var", PORT=str(taken.getsockname()[1]))
        _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 1
    lines = errors.decode().splitlines()
    assert len(lines) == 1, errors
    assert "set PORT" in lines[0]


async def test_first_start_prints_one_admin_key_that_works_and_later_starts_print_none(tmp_path):
    process = await serve(tmp_path / "var")
    first = (await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode()
    assert first.startswith("Admin key (shown only now): pal_")
    log = tmp_path / "log"
    log.touch()
    url = await address_of(process, log)
    await until_ready(url, log)
    victim = Victim(tmp_path)
    victim.url, victim.key = url, first.rsplit(" ", 1)[1].strip()
    async with victim.client() as client:
        assert (await client.get("/v1/whoami")).json()["scopes"] == ["admin"]
    process.terminate()
    await process.communicate()
    again = await serve(tmp_path / "var")
    said = (await asyncio.wait_for(again.stdout.readline(), PATIENCE_S)).decode()
    assert said.startswith("Palimpsest serves on http://127.0.0.1:")
    again.terminate()
    await again.communicate()

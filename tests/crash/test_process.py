"""The process as an operator meets it: signals, a taken port, a directory in use, a retry right after a crash."""

import asyncio
import os
import signal
import socket
import sys
import time

import pytest

from bench.killing import Victim
from bench.running import address_of, until_ready

pytestmark = pytest.mark.serial


async def serve(var_dir, **settings) -> asyncio.subprocess.Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    environ |= {"PALIMPSEST_VAR_DIR": str(var_dir), **{f"PALIMPSEST_{name}": value for name, value in {"PORT": "0", **settings}.items()}}
    command = (sys.executable, "-m", "service.cli", "serve")
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ)


@pytest.mark.parametrize("after_s", [0.1, 1.0, 2.0])
async def test_sigterm_while_starting_ends_the_process_within_five_seconds(tmp_path, after_s):
    process = await serve(tmp_path / "var")
    await asyncio.sleep(after_s)
    begin = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert time.perf_counter() - begin < 5
    assert b"Traceback" not in errors, errors


async def test_sigterm_lets_a_request_in_progress_end_and_exits_with_0(tmp_path):
    victim = Victim(tmp_path)
    await victim.start()
    async with victim.client() as client:
        items = [{"input": f"question {number}", "right": f"answer {number}"} for number in range(60)]
        teaching = asyncio.ensure_future(client.post("/v1/corrections/batch", json={"items": items}))
        await asyncio.sleep(0.1)
        await victim.stop()
        response = await teaching
        assert response.status_code == 201
    await victim.start()
    async with victim.client() as client:
        assert (await client.get("/v1/memory")).json()["events"] == 60
    await victim.stop()


async def test_second_process_on_the_same_directory_is_refused_in_one_line_and_the_first_goes_on(tmp_path):
    victim = Victim(tmp_path)
    await victim.start()
    second = await serve(tmp_path / "var")
    _, errors = await asyncio.wait_for(second.communicate(), 30)
    assert second.returncode == 1
    assert errors.decode().strip().splitlines()[-1].startswith("Error: ")
    assert b"in use by another Palimpsest" in errors
    assert b"Traceback" not in errors
    async with victim.client() as client:
        assert (await client.get("/health/ready")).status_code == 200
    await victim.stop()


async def test_taken_port_is_told_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await serve(tmp_path / "var", PORT=str(taken.getsockname()[1]))
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"set PORT" in errors
    assert b"Traceback" not in errors


async def test_first_start_prints_one_admin_key_that_works_and_later_starts_print_none(tmp_path):
    process = await serve(tmp_path / "var")
    first = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
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
    said = (await asyncio.wait_for(again.stdout.readline(), 30)).decode()
    assert said.startswith("Palimpsest serves on http://127.0.0.1:")
    again.terminate()
    await again.communicate()

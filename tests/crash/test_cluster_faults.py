"""A whole cluster of real processes whose parts fail under load, in its short form: `python -m bench cluster-crash` is the long one."""

import contextlib
import json
import signal
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from msgspec import structs

from bench.__main__ import main
from bench.cluster import servers
from bench.cluster.crash import run
from bench.cluster.faults import APART, FAULTS
from bench.cluster.rounds import Round, add_round, as_json, read_rounds, table

FAULTS_HERE = ["kill worker", "stop jobs", "cut api-worker", "flush redis", "kill backend", "store down", "disk full"]
ROUND = Round(
    seed=1,
    number=1,
    fault="kill api",
    victim="api-1",
    operation="erase",
    at="2026-11-24T12:00:00.000+00:00",
    seconds=3.0,
    acknowledged=20,
    asked=10,
    sent_again=2,
    replayed=1,
    refused={"503": 2},
    longest_wait_s=1.5,
    lost=0,
    doubled=0,
    astray=0,
    other=0,
    broken=[],
)


@pytest.mark.serial
@pytest.mark.timeout(1_800)
async def test_cluster_loses_and_doubles_nothing_whatever_fails():
    rounds: list[Round] = []
    await run(len(FAULTS_HERE), 3, FAULTS_HERE, 11, rounds.append, in_turn=True)
    figures = as_json(rounds)
    assert figures["broken"] == []
    assert figures["faults"] == dict.fromkeys(FAULTS_HERE, 1)
    assert figures["acknowledged"] > 20
    assert figures["asked"] > 20


def test_ports_of_servers_are_none_that_a_connection_is_given():
    """One that was, between the choice and the server's start, has ended a worker before it was ready."""
    ports = [servers.free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(1_024 < port < 32_768 for port in ports), "Linux gives connections those from 32,768 on, unless it is told otherwise"
    following = servers.PORTS[(ports[-1] + 1 - servers.PORTS.start) % len(servers.PORTS)]
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", following)):
        assert servers.free_port() != following


def test_there_is_a_fault_for_every_process_and_every_two_parts_that_talk():
    assert {f"{what} {command}" for what in ("kill", "stop") for command in ("api", "worker", "jobs")} <= FAULTS.keys()
    talks = {"api": {"worker", "postgres", "redis"}, "worker": {"postgres", "redis", "s3"}, "jobs": {"postgres", "redis", "s3"}}
    assert all(others <= set(APART[command]) for command, others in talks.items())
    assert {f"cut {one}-{other}" for one, others in APART.items() for other in others} <= FAULTS.keys()


def test_ledger_of_several_runs_is_added_up_and_what_broke_fails_the_command(tmp_path):
    ledger, figures = tmp_path / "deep" / "rounds.jsonl", tmp_path / "figures.json"
    add_round(ledger, ROUND)
    add_round(ledger, Round(**{field: getattr(ROUND, field) for field in ROUND.__struct_fields__} | {"number": 2, "longest_wait_s": 9.0}))
    arguments = ["cluster-crash", "--rounds", "0", "--ledger", str(ledger), "--json", str(figures)]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 0, said.output
    assert json.loads(figures.read_text()).items() >= {"rounds": 2, "acknowledged": 40, "lost": 0, "longest_wait_s": 9.0}.items()
    worse = {"seed": 2, "lost": 1, "broken": ["lost: 'a text' was acknowledged as seq 3 and is not there"]}
    add_round(ledger, Round(**{field: getattr(ROUND, field) for field in ROUND.__struct_fields__} | worse))
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 1
    assert "seed 2, round 1 (kill api, api-1): lost: 'a text'" in said.output
    lines = table(read_rounds(ledger)).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["kill", "api"], ["all", "3"]]


def test_a_round_whose_database_had_to_be_killed_says_so_and_lines_of_before_are_read(tmp_path):
    ledger = tmp_path / "rounds.jsonl"
    add_round(ledger, ROUND)
    add_round(ledger, structs.replace(ROUND, number=2, fault="disk full", victim="postgres", database_killed=1))
    first, second = map(json.loads, ledger.read_text().splitlines())
    assert "database_killed" not in first
    assert second["database_killed"] == 1
    rounds = read_rounds(ledger)
    assert as_json(rounds)["database_killed"] == 1
    assert "seed 1, round 2 (disk full, postgres): PostgreSQL stayed down and was killed" in table(rounds)
    assert as_json(rounds)["broken"] == []
    kept = Path(__file__).resolve().parents[2] / "docs" / "measured" / "cluster-crash.jsonl"
    assert len(read_rounds(kept)) == len(kept.read_text().splitlines()) >= 825


def test_fault_that_does_not_exist_is_refused_with_the_names_of_all():
    said = CliRunner().invoke(main, ["cluster-crash", "--fault", "meteor"])
    assert said.exit_code == 2
    assert all(name in said.output for name in ("kill api", "cut jobs-s3", "disk full"))


async def test_database_that_stays_down_is_started_again_as_a_supervisor_would(monkeypatch):
    """One that takes no statements and does not end either: it is stopped here."""
    monkeypatch.setattr(servers, "PATIENCE_S", 1.0)
    with TemporaryDirectory() as home:  # nobody has to pass through it
        server = servers.Postgres(Path(home) / "postgres")
        await server.start()
        before = server.pid
        server.signal(signal.SIGSTOP)
        try:
            await server.recovered()
            assert server.pid != before
            await server.create("later")
            killed = server.killed_down
            assert killed >= 1
            monkeypatch.setattr(servers, "PATIENCE_S", 120.0)
            await server.recovered()
            assert server.killed_down == killed, "one that answers is left alone"
        finally:
            server.kill()

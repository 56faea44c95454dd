"""`kill -9` at random moments of a real process under concurrent writers: the short form of `python -m bench crash`."""

import json
from dataclasses import asdict

import pytest

from bench.crash import run


@pytest.mark.serial
@pytest.mark.timeout(120)
async def test_acked_correction_survives_kill_9_and_every_operation_is_whole_after_it():
    report = await run(rounds=6, writers=4, seed=20, progress=lambda done: None)
    assert report.broken == [], str(report)
    assert json.loads(json.dumps(asdict(report)))["operations"] == report.operations
    assert report.kills >= 6
    assert report.resent > 0, "no request was under way at any kill: the test has shown nothing"
    assert report.acknowledged == report.events > 20

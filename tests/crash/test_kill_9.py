"""`kill -9` at random moments of a real process under concurrent writers: the short form of `python -m bench crash`."""

import json

import pytest

from bench.crash import run


@pytest.mark.serial
@pytest.mark.timeout(900)
async def test_acked_correction_survives_kill_9_and_every_operation_is_whole_after_it(monkeypatch):
    monkeypatch.setenv("PALIMPSEST_ENCODER_START", "auto")  # each start asks the banks, and the fold outside the service has what they have
    report = await run(rounds=4, writers=4, seed=2230, progress=lambda done: None)  # a seed that draws four kinds of operations
    figures = report.as_json()
    assert figures["broken"] == []
    assert (figures["lost"], figures["duplicated"], figures["digest_mismatches"], figures["other_broken"]) == (0, 0, 0, 0)
    assert json.loads(json.dumps(figures))["rounds"] == 4
    assert figures["acknowledged"] == figures["events"] > 20
    assert set(figures["operations"]) == {"erase", "growing consolidation", "rebuild", "rollback"}
    assert figures["kills"] == 4 + figures["kills_while_starting"] + figures["kills_while_resending"]
    assert figures["kills_while_starting"] > 0, "the first start is killed, too"
    assert figures["resent"] > 0, "no request was under way at any kill: the test has shown nothing"
    assert sum(figures["interrupted"].values()) > 0, "no operation was under way at any kill: the test has shown nothing"
    assert "0 lost, 0 duplicated, 0 digest mismatches" in str(report)

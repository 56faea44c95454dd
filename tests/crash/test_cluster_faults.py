"""A whole cluster of real processes whose parts fail under load, in its short form: `python -m bench cluster-crash` is the long one."""

import pytest

from bench.cluster.crash import run

pytestmark = [pytest.mark.serial, pytest.mark.timeout(400)]
FAULTS = ["kill", "stop", "cut", "flush", "backend"]  # a process; one for longer than its heartbeat; a connection; Redis; PostgreSQL


async def test_cluster_loses_and_doubles_nothing_whatever_fails():
    report = await run(len(FAULTS), 3, FAULTS, 11, lambda _: None, in_turn=True)
    assert report.broken == []
    assert dict(report.faults) == dict.fromkeys(FAULTS, 1)
    assert report.acknowledged > 20
    assert report.asked > 20

"""Workers that contend for the same banks, in its short form: `python -m bench cluster-contention` is the long one."""

import pytest

from bench.cluster.contention import PARTS, run


@pytest.mark.serial
@pytest.mark.timeout(900)
async def test_three_contending_workers_lose_double_and_diverge_in_nothing(monkeypatch):
    monkeypatch.setenv("PALIMPSEST_ENCODER_START", "auto")  # workers, jobs and the fold that they are compared with have one encoder
    report = await run(300, owners=3, banks=2, seed=5, progress=lambda done: None)
    assert report.broken == []
    assert report.appended == 300
    assert report.compared == PARTS * 2 * 3
    assert report.ownerships > 30, "nobody was overtaken: this shows nothing"

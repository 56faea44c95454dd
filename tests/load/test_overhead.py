"""What the service adds to the encoder, in short and with generous bounds: a real fault of some 40 ms fails, a busy machine does not."""

from statistics import median

import pytest

from bench.latency import measure, render, rows_for, some_rows


@pytest.mark.serial
async def test_service_adds_little_to_the_encoder_and_keeps_most_of_its_throughput():
    found = await measure(some_rows(rows_for(32)), requests=32, bursts=5, burst=128)
    encoder_ms = median(found.recall.encoder_ms)  # 6 on a machine whose bounds these are; a slower one has longer
    assert found.recall.adds_ms < max(15, 1.5 * encoder_ms), render(found)
    assert found.teach.adds_ms < max(30, 3 * encoder_ms), render(found)
    assert median(found.shares) > 0.5, render(found)

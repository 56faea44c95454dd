"""One worker against two, in its short form: `python -m bench cluster-scaling` is the long one."""

import pytest

from bench.cluster.scaling import CLIENTS, measure


@pytest.mark.serial
@pytest.mark.timeout(900)
async def test_workers_that_are_held_to_a_share_of_a_core_answer_everything_and_two_of_them_more():
    one, two = await measure(1, requests=2 * CLIENTS, share=0.1, progress=lambda done: None)
    assert len(one) == len(two) == 1
    assert 0 < one[0] < two[0]

"""How long the stateful property tests are: some examples of 50 steps each; as many as STATEFUL_EXAMPLES says, if it says so."""

import os

from hypothesis import HealthCheck, settings

STEPS = 50


def long_walks(examples: int) -> settings:
    """So many examples, where the environment does not ask for another number."""
    number = int(os.environ.get("STATEFUL_EXAMPLES") or examples)
    return settings(max_examples=number, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck))

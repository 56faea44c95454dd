"""Learning rates: those that are tried for each kind, and those that a kind has where none were tried.

They are no part of what a trial does (`bench.language.sources`): each line of a ledger has the rate that it was trained at.
"""

GRID = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)  # what --tune tries
SMALLER = ("tiny", "mini")  # sizes that have the rates of mini; larger ones have those of small
RATES = {  # small and mini: what --tune found, on texts that no result is measured on (docs/measured/lm.jsonl)
    "transformer++": (2e-3, 8e-3),
    "retnet": (2e-3, 4e-3),
    "mamba2": (4e-3, 8e-3),
    "deltanet": (4e-3, 8e-3),
    "hope": (4e-3, 8e-3),
    "hope-attention": (4e-3, 8e-3),
    "titans": (1e-3, 4e-3),
}


def rate_of(kind: str, size: str) -> float:
    """The rate of a kind that was not tuned at this size."""
    return RATES[kind][size in SMALLER]

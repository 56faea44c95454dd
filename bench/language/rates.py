"""Learning rates: those that are tried for each kind, and those that a kind has where none were tried.

They are no part of what a trial does (`bench.language.sources`): each line of a ledger has the rate that it was trained at.
"""

GRID = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)  # what --tune tries
RATE = 2e-3  # of a kind that has none below
RATES = {  # the best of a grid that ended at 4e-3, on 256,000 tokens of `text` at size small, one seed, on the tails
    "transformer++": 4e-3,
    "retnet": 2e-3,
    "mamba2": 2e-3,
    "deltanet": 2e-3,
    "hope": 4e-3,
    "hope-attention": 4e-3,
    "titans": 4e-3,  # not tuned: that of the kinds with the same memories and convolutions
}

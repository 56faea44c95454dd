"""Synthetic tasks: formal languages (the paper's table 5), MAD (its table 4), recall over distance. `python -m bench synthetic`."""

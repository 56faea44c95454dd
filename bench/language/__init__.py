"""Language models of many kinds at equal parameters, equal tokens and the same data: what `python -m bench lm` measures."""

"""The scoreboards: what the memory learns, what it costs, what it survives. `python -m bench` lists them."""

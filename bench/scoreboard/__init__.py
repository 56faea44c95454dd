"""The scoreboard of corrections: what a memory keeps, generalises, refuses, replaces and costs, beside what people use today.

One module a board, each a command of `python -m bench`. All of them teach and ask the product as it is (`bench.subjects`), and its rivals
get vectors of the same encoder in the same run, without what Palimpsest has meta-learned for it (`--same-vectors` gives them that, too).
What a board measured is a JSON file of runs; tables and the page are made from that alone.
"""

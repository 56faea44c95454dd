"""The scoreboard of corrections: what a memory keeps, generalises, refuses, replaces and costs, beside what people use today.

One module a board, each a command of `python -m bench`. All of them teach and ask the product as it is (`bench.subjects`), and its rivals
get the same vectors in the same run. What a board measured is a JSON file of runs; tables and the page are made from that alone.
"""

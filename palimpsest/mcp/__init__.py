"""The memory as tools of the Model Context Protocol, by the official package `mcp` (the extra `palimpsest[mcp]`).

Over standard input and output one program has one memory, by the key of its profile or environment; over HTTP each request brings its own
key, and the path names the bank. Either way the tools speak REST by the client of this package: what a key may not do, no tool can.
"""

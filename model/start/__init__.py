"""The meta-learned start of the sentence encoder (level 4, hope.md): low-rank changes of its linear maps, learned on public tasks.

`weights` reads and applies what is shipped, `sources` says what is learned from, `batches` what is compared with what, `network` and
`training` learn, `judging` measures a domain, `python -m model.start` is the command. A service imports `weights` alone.
"""

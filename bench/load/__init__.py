"""Load on a running service: requests at a rate that does not wait for replies, and answers that are checked. `python -m bench load`."""

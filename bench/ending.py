"""How a benchmark ends before its time: what it has started ends with it, and its scratch directories go away."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_in_order_on_sigterm() -> None:
    """Let SIGTERM be what Ctrl-C is: processes are stopped and directories deleted on the way out.

    An event loop takes that between two steps. An exception raised by the handler itself can be lost, in whatever code it meets. A shell
    has what it starts in the background ignore Ctrl-C; that is undone, or SIGTERM would be ignored as well.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))


def end_with_parent() -> None:
    """Called in a child before its program runs: it is killed when the process that starts it is gone, also by `kill -9` (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

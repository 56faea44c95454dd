"""Long work in steps: a generator that yields which share of it is done, so that a thread may serve others between them."""

import ctypes
import os
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def within(work: Generator[float, None, T], begin: float, end: float) -> Generator[float, None, T]:
    """The work, as the part between two shares of a larger one."""
    while True:
        try:
            done = next(work)
        except StopIteration as ended:
            found: T = ended.value
            return found
        yield begin + (end - begin) * done


def give_back() -> None:
    """Give the system the memory that this process has freed, where its C library can (glibc).

    By itself it keeps blocks of up to 32 MiB for later, in pieces: after some steps with large matrices twice what is in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)

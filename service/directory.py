"""The directory of an embedded service: private to its user if it makes it, and held by one process at a time.

The lock is the kernel's: it goes with the process, however that ends. While it is held, whatever an earlier process left running in the
directory's database is known to be dead.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK = "lock"


class DirectoryInUse(Exception):
    """Another process serves from this directory; stop it, or set DATA (PALIMPSEST_VAR_DIR) to another directory."""


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Make the directory if need be and hold it.

    Raises:
        DirectoryInUse: another process holds it; nothing was touched.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # what agents are taught is nobody else's business on this machine
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUse(f"{directory} is in use by another Palimpsest; {DirectoryInUse.__doc__}") from None
        yield
    finally:
        os.close(handle)

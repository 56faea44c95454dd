"""The processes of a service on this machine and what they hold in memory, as Linux tells below /proc; elsewhere none are known."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

PROC = Path("/proc")
MODULE = "service.cli"
LISTENS = "0A"  # the state of a socket in /proc/net/tcp
LOCAL = ("127.0.0.1", "::1", "localhost")


def started_here() -> dict[str, int]:
    """The service's processes below this one, by command and id."""
    found = {}
    for pid in _below(os.getpid()):
        words = _words(pid)
        if MODULE in words[:-1]:
            found[f"{words[words.index(MODULE) + 1]} {pid}"] = pid
    return found


def listening_on(urls: Iterable[str]) -> dict[str, int]:
    """The processes that listen where the urls point, if that is this machine and they may be looked at."""
    ports = {parts.port for url in urls if (parts := urlsplit(url)).hostname in LOCAL}
    sockets = {f"socket:[{inode}]": port for port, inode in _listening() if port in ports}
    found = {}
    for pid in _ids():
        for link in _links(pid):
            if link in sockets:
                found[f"port {sockets[link]}"] = pid
    return found


def resident_bytes(processes: Mapping[str, int]) -> dict[str, int]:
    """What each holds in memory now; those that are gone are left out."""
    found = {}
    for name, pid in processes.items():
        try:
            pages = int((PROC / str(pid) / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        found[name] = pages * os.sysconf("SC_PAGE_SIZE")
    return found


def _below(parent: int) -> Iterator[int]:
    try:
        tasks = list((PROC / str(parent) / "task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from _below(child)


def _words(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def _ids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()] if PROC.is_dir() else []


def _links(pid: int) -> list[str]:
    links = []
    with contextlib.suppress(OSError):  # gone, or another user's
        for path in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed since
                links.append(os.readlink(path))
    return links


def _listening() -> Iterator[tuple[int, str]]:
    """Port and inode of every socket that listens."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in (line.split() for line in lines):
            if words[3] == LISTENS:
                yield int(words[1].rsplit(":", 1)[1], 16), words[9]

"""The most memory that this process had at once, since it was last asked to forget: as Linux counts it, with all that it has loaded."""

from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"


def forget_peak() -> None:
    """Count the peak anew from now on, where there is such a count."""
    if CLEAR.exists():
        CLEAR.write_text(FORGET_PEAK)


def peak_bytes() -> int | None:
    """The peak, in bytes; None where nobody counts it."""
    return _counted("VmHWM:") if CLEAR.exists() else None


def held_bytes() -> int | None:
    """What it has now, in bytes; None where nobody counts it."""
    return _counted("VmRSS:") if STATUS.exists() else None


def _counted(name: str) -> int:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(name)]
    return 1_024 * int(line.split()[1])

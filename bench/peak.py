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
    if not CLEAR.exists():
        return None
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return 1_024 * int(line.split()[1])

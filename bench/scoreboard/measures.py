"""The arithmetic of confidences: how well they tell two kinds of questions apart, and how true they are."""

from collections.abc import Sequence

import numpy as np

BINS = 15


def auroc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """How often one of `inside` is above one of `outside`, ties counted half: 1 told apart, 0.5 chance."""
    values = np.concatenate([np.asarray(inside, np.float64), np.asarray(outside, np.float64)])
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # 1-based, the mean rank of equal ones
    n, m = len(inside), len(outside)
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m))


def threshold_keeping(inside: Sequence[float], share: float) -> float:
    """The highest threshold that at least `share` of `inside` reach."""
    ordered = np.sort(np.asarray(inside, np.float64))
    return float(ordered[len(ordered) - int(np.ceil(share * len(ordered)))])


def calibration_error(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over 15 bins of equal width, weighted by what is in them."""
    sure, hit = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return float(sum(abs(sure[bins == b].mean() - hit[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)))

"""The middle level: wide weights M over random features of a key (`model/features.py`), for what has no room in the window and no place.

    o(x) = M ψ(x)

In service a pair that leaves the window is added, M += e ψ(z)ᵀ (Nested Learning eq. 71). A consolidation of more corrections than the
other levels have room for writes what these leave at all of them: r_i = v_i − o_i, the error of correction i,

    M = argmin Σ_i share_i / noise ‖r_i − M ψ_i‖² + LEFT ‖M‖²

so that none of them is without a say. Fitted to these errors alone, and held back (`LEFT` is above 1, what the noise asks for by itself):
sums of random features are only about what the kernel would say, so together with the places they learn corrections by heart
(docs/design.md §11).

`taken` says how many pairs it has to speak for; none: nothing was written to it.
"""

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from model.config import RecallConfig
from model.features import FeatureMap
from model.solving import Half, solve
from model.state import Named
from model.steps import within

LEFT = 10.0
ROWS = 1_024  # corrections in a step


def taken(middle: Named) -> int:
    """For how many pairs the level speaks."""
    return int(middle["taken"][0, 0])


def write(middle: Named, weights: Tensor, pairs: int) -> None:
    """Weights (code_width, 2 · frequencies) that speak for so many pairs, in a level that has none."""
    middle["weights"].copy_(weights)
    middle["taken"][0, 0] = pairs


def fitted(config: RecallConfig, keys: Tensor, weights: Tensor, error_of: Callable[[slice], Tensor]) -> Generator[float, None, Tensor]:
    """(code_width, 2 · frequencies) M for keys (n, key_width) that weigh `weights` (n,); yields the share that is done.

    `error_of` a part of them (rows, code_width) is what the other levels leave there.
    """
    features, width = FeatureMap(config), 2 * config.frequencies
    system, right = Half(width, torch.float64), torch.zeros(width, config.code_width, dtype=torch.float64)
    system.add_to_diagonal(LEFT)
    for begin in range(0, len(keys), ROWS):
        part = slice(begin, begin + ROWS)
        seen = features.of_all(keys[part])
        weighed = seen * weights[part, None]
        for rows, panel in system:
            panel.add_(weighed[:, rows].T @ seen[:, : rows.stop])
        right += weighed.T @ error_of(part)
        yield 0.7 * min(1.0, (begin + ROWS) / len(keys))
    yield from within(solve(system, right), 0.7, 1.0)
    return right.T.float()

"""Two fixed random views of a key, one sharp and one wide. A memory is linear in them, so its size is set here and never grows.

Sharp (fast level): the `active` most aligned of `units` random directions, each weighted by how far it exceeds the first one left
out; unit length. Two keys share weight only where they share directions, so what is written for one reaches only its close
neighbours (sparse expansion, as in the fly's olfactory memory, Dasgupta et al. 2017, and in k-winner networks).

Wide (middle level): random Fourier features of exp(β(x·x' − 1)), the Gaussian kernel on the unit sphere (Rahimi & Recht 2007). Unit
length: cos² + sin² = 1 for each frequency.

Directions of both are structured orthogonal random features (Yu et al. 2016): in blocks of 512, three rounds of random signs and a
Walsh–Hadamard transform. Orthogonal directions have less variance than independent ones, a block costs a hundredth of a dense product and
no memory, and signs drawn from a hash are the same on every machine.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.config import WIDEST_KEY, RecallConfig

BLOCK = WIDEST_KEY  # directions that are orthogonal to each other; keys are padded to this width
ROUNDS = 3
_LEFT, _RIGHT = 16, 32  # BLOCK = _LEFT · _RIGHT: the transform of 512 is two small products


@dataclass(frozen=True, slots=True)
class Features:
    """What a key looks like to the two levels, scaled so that |strengths|² + |waves|² = 1."""

    units: Tensor  # (active,) int64
    strengths: Tensor  # (active,)
    waves: Tensor  # (2 · frequencies,)


class FeatureMap:
    """Keys to features. One key at a time: a result never depends on what else is asked.

    The newest is kept: a lesson asks for the same key three times, before, while and after it is learned.
    """

    def __init__(self, config: RecallConfig) -> None:
        self._config = config
        self._wide = Projection(config.seed, "wide", config.frequencies)
        self._sharp = Projection(config.seed, "sharp", config.units)
        self._fast_scale = float(np.sqrt(1.0 - config.share))
        self._middle_scale = float(np.sqrt(config.share / config.frequencies))
        self._newest: tuple[bytes, Features] | None = None  # replaced whole, so that threads may share the map

    def __call__(self, key: Tensor) -> Features:
        """The features of a unit key (key_width,). They are shared: not to be changed."""
        name, kept = key.numpy().tobytes(), self._newest
        if kept is None or kept[0] != name:
            kept = (name, self._made(key))
            self._newest = kept
        return kept[1]

    def _made(self, key: Tensor) -> Features:
        frequencies, active = self._config.frequencies, self._config.active
        angles = self._wide(key).mul_(float(np.sqrt(self._config.sharpness)))
        waves = torch.empty(2 * frequencies)
        torch.cos(angles, out=waves[:frequencies])
        torch.sin(angles, out=waves[frequencies:])
        best, units = torch.topk(self._sharp(key), active + 1)
        strengths = best[:active] - best[active]
        strengths.mul_(self._fast_scale / float(torch.linalg.vector_norm(strengths)))
        return Features(units[:active], strengths, waves.mul_(self._middle_scale))

    def kernel(self, keys: Tensor, key: Tensor) -> Tensor:
        """(n,) what `waves` of `keys` (n, key_width) and of `key` have as inner product, without the noise of the features."""
        return torch.exp(self._config.sharpness * (torch.mv(keys, key) - 1.0)).mul_(self._config.share)


class Projection:
    """Inner products of a vector with fixed random directions; each product with a unit vector has mean 0 and variance 1."""

    def __init__(self, seed: int, name: str, directions: int) -> None:
        self._blocks, self._directions = -(-directions // BLOCK), directions
        drawn = hashlib.shake_256(f"{seed}:{name}".encode()).digest(ROUNDS * self._blocks * BLOCK // 8)
        signs = np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.float32) * 2 - 1
        self._signs = torch.from_numpy(signs.reshape(ROUNDS, self._blocks, BLOCK))
        self._left, self._right = _hadamard(_LEFT), _hadamard(_RIGHT)

    def __call__(self, vector: Tensor) -> Tensor:
        """(directions,) for a vector of at most BLOCK numbers."""
        padded = torch.zeros(BLOCK)
        padded[: len(vector)] = vector
        turned = padded.expand(self._blocks, BLOCK)
        for signs in self._signs:
            rows = torch.mm((turned * signs).reshape(-1, _RIGHT), self._right)
            columns = rows.reshape(self._blocks, _LEFT, _RIGHT).transpose(1, 2).reshape(-1, _LEFT)
            turned = torch.mm(columns, self._left).reshape(self._blocks, BLOCK)  # transposed in each block: the signs do not mind
        return turned.reshape(-1)[: self._directions].mul_(float(np.sqrt(BLOCK)))


def _hadamard(size: int) -> Tensor:
    """(size, size) orthonormal Walsh–Hadamard matrix (Sylvester)."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / float(np.sqrt(size))

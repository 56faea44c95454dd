"""A fixed random view of a key in which the memory's kernel is an inner product, so that a matrix can hold what many keys said.

Random Fourier features of exp(β(x·x' − 1)), the Gaussian kernel on the unit sphere (Rahimi & Recht 2007). Unit length: cos² + sin² = 1
for each frequency.

Directions are structured orthogonal random features (Yu et al. 2016): in blocks of 512, three rounds of random signs and a
Walsh–Hadamard transform. Orthogonal directions have less variance than independent ones, a block costs a hundredth of a dense product and
no memory, and signs drawn from a hash are the same on every machine.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from model.config import WIDEST_KEY, RecallConfig

BLOCK = WIDEST_KEY  # directions that are orthogonal to each other; keys are padded to this width
ROUNDS = 3
_LEFT, _RIGHT = 16, 32  # BLOCK = _LEFT · _RIGHT: the transform of 512 is two small products


def kernel(closeness: Tensor, sharpness: float) -> Tensor:
    """exp(β(c − 1)) of cosines c, in place."""
    return closeness.sub_(1.0).mul_(sharpness).exp_()


class FeatureMap:
    """Keys to features. One key at a time: a result never depends on what else is asked.

    The newest is kept: a lesson asks for the same key before, while and after it is learned.
    """

    def __init__(self, config: RecallConfig) -> None:
        self._frequencies, self._sharpness = config.frequencies, config.sharpness
        self._project = Projection(config.seed, "wide", config.frequencies)
        self._newest: tuple[bytes, Tensor] | None = None  # replaced whole, so that threads may share the map

    def __call__(self, key: Tensor) -> Tensor:
        """(2 · frequencies,) the features of a unit key (key_width,). They are shared: not to be changed."""
        name, kept = key.numpy().tobytes(), self._newest
        if kept is None or kept[0] != name:
            kept = (name, self._made(key))
            self._newest = kept
        return kept[1]

    def _made(self, key: Tensor) -> Tensor:
        angles = self._project(key).mul_(float(np.sqrt(self._sharpness)))
        waves = torch.empty(2 * self._frequencies)
        torch.cos(angles, out=waves[: self._frequencies])
        torch.sin(angles, out=waves[self._frequencies :])
        return waves.mul_(float(np.sqrt(1.0 / self._frequencies)))


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

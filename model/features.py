"""A fixed random view of a key in which the memory's kernel is an inner product, so that a matrix can hold what many keys said.

Random Fourier features of exp(β(x·x' − 1)), the Gaussian kernel on the unit sphere (Rahimi & Recht 2007). Unit length: cos² + sin² = 1
for each frequency.

Directions are structured orthogonal random features (Yu et al. 2016): in blocks of 512, three rounds of random signs and a
Walsh–Hadamard transform. Orthogonal directions have less variance than independent ones, a block costs a hundredth of a dense product and
no memory, and signs drawn from a hash are the same on every machine.
"""

import hashlib
import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from model.config import WIDEST_KEY, RecallConfig

BLOCK = WIDEST_KEY  # directions that are orthogonal to each other; keys are padded to this width
ROUNDS = 3
KEPT = 64  # newest features that are kept: 1.5 MiB
_LEFT, _RIGHT = 16, 32  # BLOCK = _LEFT · _RIGHT: the transform of 512 is two small products


def kernel(closeness: Tensor, sharpness: float) -> Tensor:
    """exp(β(c − 1)) of cosines c, in place."""
    return closeness.sub_(1.0).mul_(sharpness).exp_()


class FeatureMap:
    """Keys to features, on `device`.

    The newest are kept: a lesson asks for the same key before, while and after it is learned, and others may ask in between.
    """

    def __init__(self, config: RecallConfig, device: torch.device | str = "cpu") -> None:
        self._frequencies, self._sharpness, self._device = config.frequencies, config.sharpness, torch.device(device)
        self._project = Projection(config.seed, "wide", config.frequencies, device)
        self._kept = lru_cache(KEPT)(self._made)
        self._alike: dict[int, bool] = {}  # for so many keys: whether together they have the bits that each has alone
        self._key_width = config.key_width

    def __call__(self, key: Tensor) -> Tensor:
        """(2 · frequencies,) the features of a unit key (key_width,) on the host. They are shared: not to be changed.

        One key at a time: a result never depends on what else is asked.
        """
        return self._kept(key.numpy().tobytes())

    def of_each(self, keys: Tensor) -> Tensor:
        """(n, 2 · frequencies) the features of unit keys (n, key_width), each with the bits that it has alone.

        Together they cost a quarter. Whether that changes bits is a matter of the processor's kernels and of n, so it is tried once.
        """
        count = len(keys)
        if count not in self._alike:
            drawn = torch.randn(count, self._key_width, generator=torch.Generator().manual_seed(count))
            tried = torch.nn.functional.normalize(drawn, dim=1).to(self._device)
            self._alike[count] = torch.equal(self.of_all(tried), torch.stack([self.of_all(key) for key in tried]))
        return self.of_all(keys) if self._alike[count] else torch.stack([self.of_all(key) for key in keys])

    def of_all(self, keys: Tensor) -> Tensor:
        """(…, 2 · frequencies) the features of unit keys (…, key_width). Their last bits may depend on how many there are."""
        if not self._frequencies:
            return torch.zeros(*keys.shape[:-1], 0, device=self._device)
        angles = self._project(keys).mul_(math.sqrt(self._sharpness))
        waves = torch.empty(*keys.shape[:-1], 2 * self._frequencies, device=self._device)
        torch.cos(angles, out=waves[..., : self._frequencies])
        torch.sin(angles, out=waves[..., self._frequencies :])
        return waves.mul_(math.sqrt(1.0 / self._frequencies))

    def _made(self, name: bytes) -> Tensor:
        return self.of_all(torch.tensor(np.frombuffer(name, np.float32), device=self._device))


class Projection:
    """Inner products of vectors with fixed random directions; each product with a unit vector has mean 0 and variance 1."""

    def __init__(self, seed: int, name: str, directions: int, device: torch.device | str = "cpu") -> None:
        self._blocks, self._directions = -(-directions // BLOCK), directions
        drawn = hashlib.shake_256(f"{seed}:{name}".encode()).digest(ROUNDS * self._blocks * BLOCK // 8)
        signs = np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.float32) * 2 - 1
        self._signs = torch.from_numpy(signs.reshape(ROUNDS, self._blocks, BLOCK)).to(device)
        self._left, self._right = _hadamard(_LEFT).to(device), _hadamard(_RIGHT).to(device)

    def __call__(self, vectors: Tensor) -> Tensor:
        """(…, directions) for vectors (…, at most BLOCK numbers)."""
        padded = torch.zeros(*vectors.shape[:-1], 1, BLOCK, device=vectors.device)
        padded[..., 0, : vectors.shape[-1]] = vectors
        turned = padded.expand(*vectors.shape[:-1], self._blocks, BLOCK)
        for signs in self._signs:
            rows = torch.mm((turned * signs).reshape(-1, _RIGHT), self._right)
            columns = rows.reshape(-1, _LEFT, _RIGHT).transpose(1, 2).reshape(-1, _LEFT)
            turned = torch.mm(columns, self._left).reshape(turned.shape)  # transposed in each block: the signs do not mind
        return turned.flatten(-2)[..., : self._directions].mul_(math.sqrt(BLOCK))


def _hadamard(size: int) -> Tensor:
    """(size, size) orthonormal Walsh–Hadamard matrix (Sylvester)."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / float(np.sqrt(size))

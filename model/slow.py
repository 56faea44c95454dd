"""The slow level: where keys lie, and what older corrections said there, in a form of fixed size. Only consolidation changes it.

    z(x) = (x + W x) / |x + W x|            every key that is taught or asked is turned first, so all levels see it so
    s(x) = Σ_p k(z_p, z(x)) e_p             what the level says beside the fast and the middle one, k the kernel of both

W is learned so that a correction lies nearer to those that say the same than to others (`model/turning.py`), the errors e_p at the places
z_p so that together they say what all corrections said that still hold (`model/consolidation.py`): a block of a continuum memory whose
hidden units are keys. A bank that was never consolidated has no places, and its keys are not turned.
"""

import torch
from torch import Tensor

from model.features import kernel
from model.state import Named

LEAST = 1e-6  # length below which a turned key has no direction


class Slow:
    """The reads of one bank's tensors `turn`, `keys`, `errors`, `held` (`model/state.py`), one key at a time."""

    def __init__(self, sharpness: float) -> None:
        self._sharpness = sharpness

    def used(self, slow: Named) -> int:
        """Places that are used, the first so many; none: the bank was never consolidated."""
        return int(slow["held"][0, 0])

    def turned(self, slow: Named, key: Tensor) -> Tensor:
        """(key_width,) where a unit key lies, on the host."""
        if not self.used(slow):
            return key
        turned = torch.mv(slow["turn"], key).add_(key)
        return turned.div_(torch.linalg.vector_norm(turned).clamp_(min=LEAST))

    def said(self, slow: Named, key: Tensor) -> Tensor:
        """(code_width,) what the places say at a turned key."""
        used = self.used(slow)
        near = kernel(torch.mv(slow["keys"][:used], key), self._sharpness)
        return torch.mv(slow["errors"][:used].T, near)

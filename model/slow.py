"""The slow level: where keys lie, and what consolidated corrections said there. Only consolidation changes it.

    z(x) = (x + W x) / |x + W x|            every key that is taught or asked is turned first, so all levels see it so
    s(x) = Σ_p k(z_p, z(x)) e_p             what the level says beside the fast and the middle one, k a kernel as theirs, but wider

W is learned so that a correction lies nearer to those that say the same than to others (`model/turning.py`), the errors e_p of the
corrections z_p together, by kernel ridge regression (`model/consolidation.py`): a block of a continuum memory whose hidden units are keys.
A bank that was never consolidated has no places, and its keys are not turned.

`held` has three numbers: the places that are used, and the bank's clock when the level was made, in tokens and lessons. What was learned
since is not in it yet.

Keys and errors are kept in 8 bits a number with a scale for each place: a quarter of the bytes. They become float32 for a product, block by
block: the regression is of the keys as they are kept and read. The errors of `block_of` places lie together, a number of the code after the
other, as the product wants them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.config import RecallConfig
from model.features import kernel
from model.levels import Clock
from model.state import Named, block_of

LEAST = 1e-6  # length below which a turned key has no direction
MOST = 127  # of a number in 8 bits


class Slow:
    """The reads and writes of one bank's tensors `turn`, `keys`, `scales`, `errors`, `sizes`, `held` (`model/state.py`), on the host."""

    def __init__(self, config: RecallConfig) -> None:
        self._sharpness, self._width, self._block = config.slow_sharpness, config.code_width, block_of(config)

    def used(self, slow: Named) -> int:
        """Places that are used, the first so many; none: the bank was never consolidated."""
        return int(slow["held"][0, 0])

    def made_at(self, slow: Named) -> Clock:
        """The bank's clock when the level was made; at its beginning: the bank was never consolidated."""
        return Clock(*slow["held"][0, 1:].tolist())

    def blocks(self, slow: Named) -> int:
        """Blocks of places that are used."""
        return -(-self.used(slow) // self._block)

    def turned(self, slow: Named, key: Tensor) -> Tensor:
        """(key_width,) where a unit key lies, on the host."""
        if not self.used(slow):
            return key
        turned = torch.mv(slow["turn"], key).add_(key)
        return turned.div_(torch.linalg.vector_norm(turned).clamp_(min=LEAST))

    def of_each(self, slow: Named, keys: Tensor) -> Tensor:
        """(n, code_width) what the places say at turned keys (n, key_width). A row has the bits that it has alone."""
        return self._said(slow, keys, _one_by_one)

    def of_all(self, slow: Named, keys: Tensor) -> Tensor:
        """As `of_each`, for many; last bits may depend on how many there are."""
        return self._said(slow, keys, _together)

    def _said(self, slow: Named, keys: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        said, asked = torch.zeros(len(keys), self._width), pad(keys, slow["keys"].shape[1])
        for block in range(self.blocks(slow)):
            places = slice(block * self._block, (block + 1) * self._block)
            near = product(asked, slow["keys"][places].float()).mul_(slow["scales"][places, 0])
            weighed = kernel(near, self._sharpness).mul_(slow["sizes"][places, 0])
            said += product(weighed, slow["errors"][block * self._width : (block + 1) * self._width].float())
        return said

    def places(self, slow: Named) -> tuple[Tensor, Tensor]:
        """The used places on the host: their keys (n, key_width) and errors (n, code_width), with float32 numbers."""
        used, keys = self.used(slow), slow["keys"][: self.used(slow)].cpu().float()
        owed = [slow["errors"][block * self._width : (block + 1) * self._width].cpu().float().T for block in range(self.blocks(slow))]
        errors = torch.cat([*owed, torch.zeros(0, self._width)])[:used] * slow["sizes"][:used].cpu()
        return (keys * slow["scales"][:used].cpu())[:, : slow["turn"].shape[0]], errors

    def put(self, slow: Named, turn: Tensor, keys: Tensor, scales: Tensor, errors: Tensor, made_at: Clock) -> None:
        """Write `turn`, and n places with `keys` and `scales` (n, …, `kept`) and errors (n, code_width), in a level that has none."""
        count = len(keys)
        slow["turn"].copy_(turn)
        slow["keys"][:count, : keys.shape[1]], slow["scales"][:count] = keys, scales
        slow["held"][0] = torch.tensor([count, made_at.tokens, made_at.events])
        small, sizes = kept(errors)
        slow["sizes"][:count] = sizes
        for block in range(-(-count // self._block)):
            some = small[block * self._block : (block + 1) * self._block]
            slow["errors"][block * self._width : (block + 1) * self._width, : len(some)] = some.T


def kept(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (n, width) in 8 bits a number, and the scale of each (n, 1)."""
    scales = rows.abs().amax(dim=1, keepdim=True).div_(MOST)
    return (rows / scales.clamp(min=torch.finfo(torch.float32).tiny)).round_().to(torch.int8), scales


def pad(rows: Tensor, width: int) -> Tensor:
    """(…, width) rows with zeros beyond."""
    return torch.nn.functional.pad(rows, (0, width - rows.shape[-1]))


def _one_by_one(left: Tensor, right: Tensor) -> Tensor:
    return torch.stack([torch.mv(right, each) for each in left])


def _together(left: Tensor, right: Tensor) -> Tensor:
    return left @ right.T

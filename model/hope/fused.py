"""Whole chunks of self-modifying Titans with a hand-written backward pass: the default switches, several times faster than autograd.

The same numbers as `model/hope/titans.py` with `model/hope/chunk.py`: MLP memories, squared error, DGD, retention towards the start, no
momentum, unit values and targets, all projections adaptive. What makes it fast on a CPU is layout and what is left out:

- Tokens are the last dimension: x (P, R, d, C), P = rows · heads. All memories of a head share keys and values, so their first layers
  (P, R, f, d) are one matrix (P, R·f, d), and their second layers one batch (P·R, d, f).
- Scales per token go into C × C matrices or into what all memories share. With X = d + γ D x what a write undoes, D' = γ_C D + X (x U)ᵀ.
- Backward, what a chunk needs of the next is the gradient of its weights; nothing is padded or filled with zeros.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.hope.fused_parts import Gates, Mixing, Running, Unit, curved

K, V, ETA, ALPHA, MEM = range(5)  # the roles' places; the memory reads the query
_gelu = torch.nn.functional.gelu
_gelu_backward = torch.ops.aten.gelu_backward


@dataclass(frozen=True, slots=True)
class Settings:
    """The switches that remain; `chunk` in tokens, `cap` in lengths of a weight's start, infinite for none."""

    chunk: int
    cap: float
    token_reads: bool
    rate_max: float
    retention: bool
    log_least_retention: float


@dataclass(frozen=True, slots=True)
class Layers:
    """Weights of both layers of all memories, up (P, R, f, d) and down (P, R, d, f)."""

    up: Tensor
    down: Tensor

    @property
    def ups(self) -> Tensor:
        """(P, R·f, d): for inputs that all memories of a head share."""
        return self.up.view(len(self.up), -1, self.up.shape[-1])

    @property
    def each_up(self) -> Tensor:
        """(P·R, f, d)."""
        return self.up.view(-1, *self.up.shape[2:])

    @property
    def each_down(self) -> Tensor:
        """(P·R, d, f)."""
        return self.down.view(-1, *self.down.shape[2:])

    def plus(self, up: Tensor, down: Tensor) -> "Layers":
        """With (H, R, …) added for every row."""
        rows = (-1, *up.shape)
        return Layers((self.up.view(rows) + up).view(self.up.shape), (self.down.view(-1, *down.shape) + down).view(self.down.shape))


@dataclass(frozen=True, slots=True)
class Heads:
    """The static heads of η and α for every row: weight (P, 1, d), bias (P, 1)."""

    eta: Tensor
    eta_bias: Tensor
    alpha: Tensor
    alpha_bias: Tensor


class Chunk:
    """One chunk, computed on creation: `read` (P, d, C), and the fast weights `after` it."""

    def __init__(self, settings: Settings, x: Tensor, fast: Layers, whole: Layers, heads: Heads) -> None:
        self.x, self.fast = x, fast
        self._project(settings, whole, heads)
        self._compare(whole)
        self._write()
        self._answer(settings, whole)

    def _project(self, settings: Settings, whole: Layers, heads: Heads) -> None:
        """Keys, values, rates and retentions from the tokens."""
        x, down = self.x, whole.down
        self.zx = torch.bmm(whole.each_up, x.flatten(0, 1)).view(*x.shape[:2], -1, x.shape[-1])
        self.ux = _gelu(self.zx)
        self.v, self.k = (Unit(torch.baddbmm(x[:, role], down[:, role], self.ux[:, role])) for role in (V, K))
        self.vk = torch.cat([self.v.value, self.k.value], -1)
        self.wide_eta, self.wide_alpha = heads.eta @ down[:, ETA], heads.alpha @ down[:, ALPHA]
        eta = torch.baddbmm(heads.eta @ x[:, ETA], self.wide_eta, self.ux[:, ETA])[:, 0] + heads.eta_bias
        alpha = torch.baddbmm(heads.alpha @ x[:, ALPHA], self.wide_alpha, self.ux[:, ALPHA])[:, 0] + heads.alpha_bias
        self.gates = Gates(eta, alpha, settings.rate_max, settings.retention, settings.log_least_retention)

    def _compare(self, whole: Layers) -> None:
        """What each memory says about values (its target) and keys; `said` holds predictions of values and errors side by side."""
        P, R, f, d = whole.up.shape
        C = self.x.shape[-1]
        self.z = torch.bmm(whole.ups, self.vk).view(P, R, f, 2 * C)
        self.u = _gelu(self.z)
        self.said = torch.bmm(whole.each_down, self.u.view(P * R, f, 2 * C)).view(P, R, d, 2 * C).add_(self.vk[:, None])
        value, error = self.said[..., :C], self.said[..., C:]
        self.inverse = torch.rsqrt(value.square().sum(-2, keepdim=True) + 1e-12)
        error.addcmul_(value, self.inverse, value=-1.0)
        self.back = torch.bmm(whole.each_down.mT, error.flatten(0, 1)).view(P, R, f, C)
        self.zk, self.uk = self.z[..., C:].contiguous(), self.u[..., C:].contiguous()
        self.slope = _gelu_backward(torch.ones_like(self.zk), self.zk)

    def _write(self) -> None:
        """Both layers of all memories learn: X, and the weights after the chunk."""
        P, R, f, C = self.uk.shape
        fast, gates, k, uk = self.fast, self.gates, self.k.value, self.uk
        d = k.shape[-2]
        self.mix_up, self.mix_down = Mixing(k, gates, proximal=False), Mixing(uk, gates, proximal=True)
        self.k_before = k * gates.before[:, None]
        self.undo_up = (self.back * self.slope).view(P, R * f, C).baddbmm_(fast.ups, self.k_before)
        self.seen = torch.bmm(fast.each_down, uk.view(P * R, f, C)).view(P, R, d, C)
        self.undo_down = torch.addcmul(self.said[..., C:], self.seen, gates.before[:, None, None])
        self.k_until = k @ self.mix_up.until
        self.uk_until = torch.bmm(uk.view(P * R, f, C), self.mix_down.until.view(P * R, C, C))
        kept = gates.kept[:, None, None, None]
        up = (fast.up * kept).view(P, R * f, d).baddbmm_(self.undo_up, self.k_until.mT)
        down = (fast.down * kept).view(P * R, d, f).baddbmm_(self.undo_down.view(P * R, d, C), self.uk_until.mT)
        self.after = Layers(up.view(P, R, f, d), down.view(P, R, d, f))

    def _answer(self, settings: Settings, whole: Layers) -> None:
        """The main memory at the query."""
        q, down, hidden = self.x[:, MEM], whole.down[:, MEM], self.ux[:, MEM]
        self.read_up: Running | None = None
        self.read_down: Running | None = None
        self.zq, self.uq = self.zx[:, MEM], hidden
        if not settings.token_reads:
            self.read = torch.baddbmm(q, down, hidden)
            return
        fast, gates, f = self.fast, self.gates, self.uk.shape[-2]
        writes = self.undo_up[:, MEM * f :]
        self.read_up = Running(q, fast.up[:, MEM], writes, self.mix_up.to, self.k.value, gates)
        self.zq = self.zx[:, MEM] + self.read_up.value
        self.uq = _gelu(self.zq)
        to = self.mix_down.to[:, MEM]
        self.read_down = Running(self.uq, fast.down[:, MEM], self.undo_down[:, MEM], to, self.uk[:, MEM], gates)
        self.read = torch.baddbmm(q + self.read_down.value, down, self.uq)


class Backward:
    """The gradients of one chunk from those of `read` (P, d, C) and of the weights `after` it; attributes carry the names of forward.

    `after` is changed in place: it becomes the gradient of the weights before. Then `x`, `up`, `down` (of the whole weights) and `heads`.
    """

    def __init__(self, chunk: Chunk, whole: Layers, heads: Heads, read: Tensor, after: Layers) -> None:
        self.chunk, self.whole, self.after = chunk, whole, after
        self._after()
        self._answer(read)
        self._write()
        self._compare()
        self._project(heads)

    def _after(self) -> None:
        c, after = self.chunk, self.after
        P, R, f, C = c.uk.shape
        d, until = c.k_until.shape[-2], c.mix_down.until.view(P * R, C, C)
        self.kept = (after.up * c.fast.up).view(P, -1).sum(-1) + (after.down * c.fast.down).view(P, -1).sum(-1)
        self.undo_up = torch.bmm(after.ups, c.k_until)
        self.undo_down = torch.bmm(after.each_down, c.uk_until).view(P, R, d, C)
        k_until = torch.bmm(after.ups.mT, c.undo_up)
        uk_until = torch.bmm(after.each_down.mT, c.undo_down.view(P * R, d, C))
        self.k = torch.bmm(k_until, c.mix_up.until.mT)
        self.uk = torch.bmm(uk_until, until.mT).view(P, R, f, C)
        self.until_up = torch.bmm(c.k.value.mT, k_until)
        self.until_down = torch.bmm(c.uk.view(P * R, f, C).mT, uk_until).view(P, R, C, C)
        kept = c.gates.kept[:, None, None, None]
        after.up.mul_(kept)
        after.down.mul_(kept)

    def _answer(self, read: Tensor) -> None:
        """Of the query, of what the memory's first layer says about it (`zq`), and of the memory's second layer (`down_q`)."""
        c, after, down = self.chunk, self.after, self.whole.down[:, MEM]
        self.to_up: Tensor | None = None
        self.to_down: Tensor | None = None
        if c.read_up is None or c.read_down is None:
            self.before, self.logs = torch.zeros_like(c.gates.before), torch.zeros_like(c.gates.pairs)
            self.q, self.zq = read, _gelu_backward(torch.bmm(down.mT, read), c.zq)
            self.down_q = torch.bmm(read, c.uq.mT)
            return
        f = c.uk.shape[2]
        said = c.read_down.backward(read)
        after.down[:, MEM] += said.fast
        self.undo_down[:, MEM] += said.writes
        self.to_down = torch.zeros_like(c.mix_down.to)
        self.to_down[:, MEM] = said.to
        self.uk[:, MEM] += said.keys
        self.zq = _gelu_backward(said.probe.baddbmm_(down.mT, read), c.zq)
        asked = c.read_up.backward(self.zq)
        after.up[:, MEM] += asked.fast
        self.undo_up[:, MEM * f :] += asked.writes
        self.to_up = asked.to
        self.k += asked.keys
        self.logs, self.before = said.logs + asked.logs, said.before + asked.before
        self.q, self.down_q = read + asked.probe, torch.bmm(read, c.uq.mT)

    def _write(self) -> None:
        c, after, gates = self.chunk, self.after, self.chunk.gates
        P, R, f, C = c.uk.shape
        seen = (self.undo_down * gates.before[:, None, None]).view(P * R, -1, C)
        k_before = torch.bmm(c.fast.ups.mT, self.undo_up)
        self.before += (k_before * c.k.value).sum(-2) + (self.undo_down * c.seen).sum((1, 2))
        self.k.addcmul_(k_before, gates.before[:, None])
        self.uk.view(P * R, f, C).baddbmm_(c.fast.each_down.mT, seen)
        after.ups.baddbmm_(self.undo_up, c.k_before.mT)
        after.each_down.baddbmm_(seen, c.uk.view(P * R, f, C).mT)
        one, each = c.mix_up.backward(self.to_up, self.until_up), c.mix_down.backward(self.to_down, self.until_down)
        self.k += one.x
        self.uk += each.x
        rate, last = one.rate + each.rate.sum(1), one.last + each.last.sum(1)
        self.eta, self.alpha = gates.backward(rate, self.logs + one.logs + each.logs.sum(1), self.before, last, self.kept)

    def _compare(self) -> None:
        c, whole = self.chunk, self.whole
        P, R, f, C = c.uk.shape
        d = c.x.shape[-2]
        value = c.said[..., :C]
        undo_up = self.undo_up.view(P, R, f, C)
        self.back = (undo_up * c.slope).view(P * R, f, C)
        error = self.undo_down.view(P * R, d, C).baddbmm_(whole.each_down, self.back).view(P, R, d, C)
        along = (value * error).sum(-2, keepdim=True).mul_(c.inverse.pow(3))
        self.said = torch.cat([torch.addcmul(value * along, error, c.inverse, value=-1.0), error], -1)
        u = torch.bmm(whole.each_down.mT, self.said.view(P * R, d, 2 * C)).view(P, R, f, 2 * C)
        u[..., C:] += self.uk
        self.z = _gelu_backward(u, c.z)
        self.z[..., C:] += curved((undo_up, c.back), c.zk)
        self.vk = self.said.sum(1).baddbmm_(whole.ups.mT, self.z.view(P, R * f, 2 * C))
        self.vk[..., C:] += self.k

    def _project(self, heads: Heads) -> None:
        c, whole_down = self.chunk, self.whole.down
        P, R, f, C = c.uk.shape
        d = c.x.shape[-2]
        v, k = c.v.backward(self.vk[..., :C]), c.k.backward(self.vk[..., C:])
        eta, alpha = self.eta[:, None], self.alpha[:, None]
        wide_eta, wide_alpha = eta @ c.ux[:, ETA].mT, alpha @ c.ux[:, ALPHA].mT
        hidden = (whole_down[:, K].mT @ k, whole_down[:, V].mT @ v, c.wide_eta.mT * eta, c.wide_alpha.mT * alpha)
        zx = torch.stack([*(_gelu_backward(h, c.zx[:, role]) for role, h in enumerate(hidden)), self.zq], 1).view(P * R, f, C)
        self.x = torch.stack([k, v, heads.eta.mT * eta, heads.alpha.mT * alpha, self.q], 1)
        self.x.view(P * R, d, C).baddbmm_(self.whole.each_up.mT, zx)
        of_k, of_v = k @ c.ux[:, K].mT, v @ c.ux[:, V].mT
        down = torch.stack([of_k, of_v, heads.eta.mT * wide_eta, heads.alpha.mT * wide_alpha, self.down_q], 1).view(P * R, d, f)
        down.baddbmm_(self.said.view(P * R, d, 2 * C), c.u.view(P * R, f, 2 * C).mT)
        down.baddbmm_(c.said[..., C:].flatten(0, 1), self.back.mT)
        up = torch.bmm(self.z.view(P, R * f, 2 * C), c.vk.mT).view(P * R, f, d).baddbmm_(zx, c.x.flatten(0, 1).mT)
        self.up, self.down = up.view(P, R, f, d), down.view(P, R, d, f)
        self.heads = (
            torch.baddbmm(c.x[:, ETA] @ eta.mT, whole_down[:, ETA], wide_eta.mT),
            eta.sum(-1),
            torch.baddbmm(c.x[:, ALPHA] @ alpha.mT, whole_down[:, ALPHA], wide_alpha.mT),
            alpha.sum(-1),
        )

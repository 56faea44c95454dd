"""Runs of whole chunks through `model/hope/fused.py` as one differentiable function: the loop over chunks, the weight cap, the layouts."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.hope.fused import Backward, Chunk, Heads, Layers, Settings
from model.hope.memory import held, lengths


def learn(
    settings: Settings, x: Tensor, start: Sequence[Tensor], fast: Sequence[Tensor], heads: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the main memory says (B, H, d, T), the fast weights (up, down) after all tokens, and per row (B,) how often the cap acted.

    x (B, H, 5, d, T) are the inputs of k, v, η, α and the queries, T a multiple of the chunk; start weights (H, 5, out, in) and what was
    learned since, (B, H, 5, out, in), of the layers up and down; heads are weight (H, d) and bias (H,) of η, then of α. First derivatives
    only: a backward pass through the gradients raises RuntimeError.
    """
    rows = [h.reshape(len(h), 1, -1).repeat(len(x), 1, 1) for h in heads]  # (B·H, 1, d or 1)
    done: tuple[Tensor, Tensor, Tensor, Tensor] = _Run.apply(settings, x, *start, *fast, *rows)  # type: ignore[no-untyped-call]
    return done


class _Run(torch.autograd.Function):
    """Keeps every chunk's intermediates; the whole weights are made again in backward."""

    @staticmethod
    def forward(ctx: Any, settings: Settings, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        start, (up, down), heads = [w.contiguous() for w in weights[:2]], weights[2:4], _heads(weights[4:])
        B, H, R, d, T = x.shape
        x = x.reshape(B * H, R, d, T)
        fast = Layers(up.reshape(B * H, *up.shape[2:]).contiguous(), down.reshape(B * H, *down.shape[2:]).contiguous())
        read, chunks, capped = x.new_empty(B * H, d, T), [], torch.zeros(B, dtype=torch.int64, device=x.device)
        whole = fast.plus(*start)
        for first in range(0, T, settings.chunk):
            now = slice(first, first + settings.chunk)
            chunk = Chunk(settings, x[..., now].contiguous(), fast, whole, heads)
            read[..., now] = chunk.read
            free = fast = chunk.after
            whole, over = fast.plus(*start), None
            del chunk.read, chunk.after
            if _may_be_long(whole, start, settings.cap):
                fast, over = _bounded(free, start, settings.cap)
                whole = fast.plus(*start)
                capped += over.view(B, H, R).any(1).any(1)
            if any(ctx.needs_input_grad):
                chunks.append((now, chunk, None if over is None else free))
        ctx.settings, ctx.chunks, ctx.shape = settings, chunks, x.shape
        ctx.save_for_backward(*start, *weights[4:])
        ctx.mark_non_differentiable(capped)
        return read.view(B, H, d, T), fast.up.view(up.shape), fast.down.view(down.shape), capped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        with torch.autocast(grads[0].device.type, enabled=False):  # as in forward, also where the caller goes back inside autocast
            return _back(ctx, *grads)


def _back(ctx: Any, g_read: Tensor, g_up: Tensor, g_down: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    """The gradients of `learn`'s inputs, chunk by chunk from the last."""
    (up, down, *weights), (P, _R, d, T), B = ctx.saved_tensors, ctx.shape, len(g_up)
    heads = _heads(weights)
    after = Layers(*(g.contiguous().view(P, *g.shape[2:]).clone() for g in (g_up, g_down)))
    g_read, g_x = g_read.reshape(P, d, T), g_read.new_empty(ctx.shape)
    g_start, g_heads = [torch.zeros_like(up), torch.zeros_like(down)], [torch.zeros_like(w) for w in weights]
    for now, chunk, free in reversed(ctx.chunks):
        if free is not None:
            after = _free(free, after, (up, down), g_start, ctx.settings.cap)
        back = Backward(chunk, chunk.fast.plus(up, down), heads, g_read[..., now], after)
        after.up.add_(back.up)
        after.down.add_(back.down)
        for total, part in zip(g_start, (back.up, back.down), strict=True):
            total.add_(part.view(B, *total.shape).sum(0))
        for total, part in zip(g_heads, back.heads, strict=True):
            total.add_(part.view(total.shape))
        g_x[..., now] = back.x
    return None, g_x.view(B, P // B, *ctx.shape[1:]), *g_start, after.up.view(g_up.shape), after.down.view(g_down.shape), *g_heads


def _heads(rows: Sequence[Tensor]) -> Heads:
    eta, eta_bias, alpha, alpha_bias = rows
    return Heads(eta, eta_bias[..., 0], alpha, alpha_bias[..., 0])


def _may_be_long(whole: Layers, start: Sequence[Tensor], cap: float) -> bool:
    """Whether a weight may be over the cap: a CPU looks, a GPU is not made to wait for the answer."""
    if cap == math.inf or not whole.up.is_cpu:
        return cap != math.inf
    pairs = zip((whole.up, whole.down), start, strict=True)
    return any(bool((lengths(w).view(-1, *s.shape[:2], 1, 1) > cap * lengths(s)).any()) for w, s in pairs)


def _bounded(fast: Layers, start: Sequence[Tensor], cap: float) -> tuple[Layers, Tensor]:
    """Weights held below the cap, and which memories (P, R) were over it."""
    up, over_up = held(fast.up.view(-1, *start[0].shape), start[0], cap)
    down, over_down = held(fast.down.view(-1, *start[1].shape), start[1], cap)
    return Layers(up.view(fast.up.shape), down.view(fast.down.shape)), (over_up | over_down).view(fast.up.shape[:2])


def _free(fast: Layers, grad: Layers, start: Sequence[Tensor], g_start: list[Tensor], cap: float) -> Layers:
    """From the gradient of held weights to that of the weights before; the start's is added to."""
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in (fast.up, fast.down, *start)]
        bounded, _ = _bounded(Layers(inputs[0], inputs[1]), inputs[2:], cap)
        up, down, *starts = torch.autograd.grad((bounded.up, bounded.down), inputs, (grad.up, grad.down), materialize_grads=True)
    for total, part in zip(g_start, starts, strict=True):
        total.add_(part)
    return Layers(up.contiguous(), down.contiguous())

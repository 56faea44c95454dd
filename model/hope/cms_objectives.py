"""Where a level's gradient comes from (Nested Learning eq. 71 leaves it open; hope.md §3.2 lists the readings).

ntp          ∂CE(logits_t, token_{t+1}) / ∂θ through the frozen rest of the network: `leaves`, `torch.autograd.grad` once, `regrouped`.
local_delta  the same numbers from pairs (level input, loss gradient at the level's output): rows are kept, not weight-sized sums.
assoc        ½‖F(x_t) − P norm(x_{t+1})‖² by the output matrix alone, P a learned projection: no backward pass through the network.
             The target of token t is known when token t + 1 arrives; until then the pair's features wait in the state, computed with
             the weights that were live at t. Each pair counts once, in the period in which its target came. P is meta-learned by
             gradients through the updates (`differentiable=True`).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from model.hope.cms_learning import Gradients, States
from model.hope.level import Change, Level

Trace = list[tuple[Tensor, Tensor]]  # per level, fast to slow: its input and its output F(x), each (B, T, width)


def leaves(states: States) -> tuple[States, list[Tensor]]:
    """The states with their deltas as leaves of a new graph, and these leaves, in order: what to differentiate a loss by."""
    changes = [
        None if state is None else {name: delta.detach().requires_grad_() for name, delta in state.delta.items()} for state in states
    ]
    flat = [delta for change in changes if change is not None for delta in change.values()]
    return tuple(
        state if state is None or change is None else replace(state, delta=change) for state, change in zip(states, changes, strict=True)
    ), flat


def regrouped(states: States, flat: Sequence[Tensor | None]) -> Gradients:
    """Gradients in the order of `leaves` (None: the loss does not depend on it) by level and weight."""
    given = iter(flat)
    return tuple(
        None if state is None else {name: _or_zeros(next(given), delta) for name, delta in state.delta.items()} for state in states
    )


def local_gradients(levels: Sequence[Level], states: States, trace: Trace, errors: Sequence[Tensor]) -> Gradients:
    """Objective "local_delta": per-row sums from a forward pass's trace and the loss gradients (B, T, width) at the levels' outputs."""
    return tuple(
        None if state is None else _as_state(level.gradients(x, error, state.delta), state.delta)
        for level, state, (x, _), error in zip(levels, states, trace, errors, strict=True)
    )


def first_pending(level: Level, rows: int, like: Tensor) -> Change:
    """No position is waiting for its target."""
    return {
        "features": like.new_zeros(rows, level.config.hidden),
        "output": like.new_zeros(rows, level.width),
        "present": torch.zeros(rows, dtype=torch.int64, device=like.device),
    }


def associate(
    levels: Sequence[Level], targets: nn.ModuleDict, states: States, trace: Trace, differentiable: bool = False
) -> tuple[States, Gradients, Tensor]:
    """Objective "assoc": states whose last position is pending, per-row gradient sums of the output matrices, and pairs (B,) in them.

    `targets` holds P by level name. `differentiable` keeps the graph, for the outer loop.
    """
    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        done = [
            None if state is None else _associated(level, targets[level.config.name], state.delta, state.pending, seen)
            for level, state, seen in zip(levels, states, trace, strict=True)
        ]
    new = tuple(
        state if state is None or each is None else replace(state, pending=each[0]) for state, each in zip(states, done, strict=True)
    )
    counts = [each[2] for each in done if each is not None]
    pairs = counts[0] if counts else torch.zeros(len(trace[0][0]), dtype=torch.int64)
    return new, tuple(None if each is None else {"down_proj": each[1]} for each in done), pairs


def _associated(
    level: Level, target: nn.Module, delta: Change, pending: Change, seen: tuple[Tensor, Tensor]
) -> tuple[Change, Tensor, Tensor]:
    """The next pending position, Σ_t e_t z_tᵀ (B, width, hidden) over pairs whose target is in this call, and their number (B,)."""
    x, output = seen
    kept, tokens = pending["features"].dtype, x.shape[1]
    features = torch.cat([pending["features"][:, None], level.features(x, delta).to(kept)], dim=1)  # (B, 1 + T, hidden)
    outputs = torch.cat([pending["output"][:, None], output.to(kept)], dim=1)  # (B, 1 + T, width)
    error = outputs[:, :-1] - target(level.norm(x)).to(kept)
    real = torch.ones(len(x), tokens, dtype=kept, device=x.device)
    real[:, 0] = pending["present"].to(kept)  # a stream's first token is nobody's target
    gradient = torch.bmm((error * real[..., None]).transpose(1, 2), features[:, :-1])
    waiting = {"features": features[:, -1], "output": outputs[:, -1], "present": torch.ones_like(pending["present"])}
    return waiting, gradient, tokens - 1 + pending["present"]


def _as_state(gradients: Change, delta: Change) -> Change:
    return {name: gradients[name].to(tensor.dtype) for name, tensor in delta.items()}


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient

"""A language model that learns its continuum memory from the tokens it reads (Nested Learning eq. 71; hope.md §3.2).

The unit of learning is a *window*: the tokens between two multiples of the fastest online period. Its gradient,
Σ_t d CE(logits_t, token_{t+1}) / dθ at the weights that were live, is taken once, when the label of its last token is there, that is when
the next token arrives, and before that token is processed. Slower levels add up the gradients of many windows. Gradients reach back to the
window's start and no further.

The window's tokens and the mixers' states at its start are part of the state, so the gradient is the same however a stream was cut: where a
call holds the whole window and the token after it, from the pass that made the outputs; otherwise from a second pass over the window.
Objective "assoc" needs no label and no backward pass: there a level learns at once from what it sees (`cms_objectives`).

W1  A level changes exactly at multiples of its period on the row's token clock, before the token after the multiple is read.
W2  No label is used twice, none is made up; the last one stays pending in the state.
W3  Grad mode and inference mode change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.hope.block import BlockState, Levels, MixState
from model.hope.clock import Piece, pieces
from model.hope.cms_learning import Gradients
from model.hope.cms_objectives import Trace, leaves, regrouped
from model.hope.state import Tensors, scattered, where

if TYPE_CHECKING:
    from model.hope.lm import HopeLM

Mixers = tuple[MixState, ...]


@dataclass(frozen=True, slots=True)
class Window(Tensors):
    """The tokens since the last multiple of the fastest online period: `tokens` (B, period) int64, the mixers' states before the first of
    them, and `whole` (B,) bool: false after a reset inside the window, which then is not learned.
    """

    tokens: Tensor
    start: Mixers
    whole: Tensor


@dataclass(frozen=True, slots=True)
class HopeState(Tensors):
    """All that a sequence carries: `position` (B,) int64 tokens consumed, a state per layer, the window (None: no level learns online)."""

    position: Tensor
    blocks: tuple[BlockState, ...]
    window: Window | None

    @property
    def mixers(self) -> Mixers:
        """The mixers' states, by layer."""
        return tuple(block.mixer for block in self.blocks)

    @property
    def levels(self) -> tuple[Levels, ...]:
        """The continuum memories' states, by layer."""
        return tuple(block.levels for block in self.blocks)

    def with_mixers(self, mixers: Mixers) -> "HopeState":
        """The same with other mixer states."""
        return replace(self, blocks=tuple(replace(block, mixer=mixer) for block, mixer in zip(self.blocks, mixers, strict=True)))

    def with_levels(self, levels: Sequence[Levels]) -> "HopeState":
        """The same with other level states."""
        return replace(self, blocks=tuple(replace(block, levels=each) for block, each in zip(self.blocks, levels, strict=True)))


@dataclass(frozen=True, slots=True)
class _Pass:
    hidden: Tensor
    mixers: Mixers
    gradients: list[Gradients]


def read(model: "HopeLM", tokens: Tensor, state: HopeState) -> tuple[Tensor, HopeState]:
    """Hidden states (B, T, width) of tokens (B, T) and the state after them, everything learned that was due."""
    if model.period is None:
        hidden, mixers = model.run(tokens, state.mixers, state.levels, state.position.tolist())
        return hidden, replace(state.with_mixers(mixers), position=state.position + tokens.shape[1])
    outputs = []
    for piece in pieces(state.position.tolist(), tokens.shape[1], (model.period,)):
        if state.window is None:
            hidden, state = _associate(model, tokens[:, piece.start : piece.stop], state)
        else:
            state = _learned_before(model, state, tokens[:, piece.start])
            learn = _covers_a_window(state, piece, tokens.shape[1], model.period)
            hidden, state = (
                _read_and_learn(model, tokens, piece, state) if learn else _read(model, tokens[:, piece.start : piece.stop], state)
            )
        outputs.append(hidden)
    return torch.cat(outputs, dim=1) if outputs else model.nothing(len(tokens)), state


def _associate(model: "HopeLM", tokens: Tensor, state: HopeState) -> tuple[Tensor, HopeState]:
    """A piece up to the next boundary, objective "assoc": levels learn from their own inputs, no pass through the network.

    In grad mode the updates stay in the graph: that is how an outer loop trains the projections of the targets, which no output reads.
    """
    traces: list[Trace] = [[] for _ in model.blocks]
    hidden, mixers = model.run(tokens, state.mixers, state.levels, state.position.tolist(), traces)
    after = state.position + tokens.shape[1]
    early, late = state.position.cpu(), after.cpu()
    levels = []
    with _unrounded(tokens):
        for layer, each, trace in zip(model.blocks, state.levels, traces, strict=True):
            waiting, gradients, pairs = layer.memory.associate(each, trace, differentiable=True)
            added = layer.memory.accumulate(waiting, gradients, pairs)
            levels.append(layer.memory.advance(added, early, late, layer.ramp))
    return hidden, replace(state.with_mixers(mixers).with_levels(levels), position=after)


def _read(model: "HopeLM", tokens: Tensor, state: HopeState) -> tuple[Tensor, HopeState]:
    """A piece inside a window: read it, remember its tokens."""
    assert state.window is not None
    hidden, mixers = model.run(tokens, state.mixers, state.levels, state.position.tolist())
    period = state.window.tokens.shape[1]
    places = (state.position % period)[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
    window = replace(state.window, tokens=state.window.tokens.scatter(1, places, tokens))
    return hidden, replace(state.with_mixers(mixers), position=state.position + tokens.shape[1], window=window)


def _learned_before(model: "HopeLM", state: HopeState, following: Tensor) -> HopeState:
    """Learn the windows that are complete, now that the token after them (B,) is known; those rows begin a new window."""
    assert state.window is not None
    period = state.window.tokens.shape[1]
    begins = state.position % period == 0
    complete = begins & (state.position > 0) & state.window.whole
    if bool(complete.any()):
        index = complete.nonzero().flatten()
        rows = state.rows(index)
        state = scattered(state, index, _replayed(model, rows, following[index]))
    if not bool(begins.any()):
        return state
    window = state.window
    assert window is not None
    fresh = Window(torch.zeros_like(window.tokens), state.mixers, torch.ones_like(window.whole))
    return replace(state, window=fresh if bool(begins.all()) else where(begins, fresh, window))


def _replayed(model: "HopeLM", state: HopeState, following: Tensor) -> HopeState:
    """All rows' windows read again from their start, this time for the gradient."""
    assert state.window is not None
    window, period = state.window, state.window.tokens.shape[1]
    with torch.inference_mode(False), torch.enable_grad():
        tokens, start = _usable(window.tokens), tuple(mixer.map(_usable) for mixer in window.start)
        labels = torch.cat([tokens[:, 1:], _usable(following)[:, None]], 1)
        done = _gradients(model, tokens, labels, start, state, (state.position - period).tolist(), keep=False)
    return _advanced(model, state, done.gradients, state.position - period)


def _covers_a_window(state: HopeState, piece: Piece, length: int, period: int) -> bool:
    """Whether all rows read a whole window here and the token after it is in the same call."""
    return piece.stop - piece.start == period and piece.stop < length and bool((state.position % period == 0).all())


def _read_and_learn(model: "HopeLM", tokens: Tensor, piece: Piece, state: HopeState) -> tuple[Tensor, HopeState]:
    """One pass for the outputs and for the gradient."""
    keep = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()  # an outer loop will go back through this pass, too
    before = state.position
    with torch.inference_mode(False), torch.enable_grad():
        given = _usable(tokens)
        mixers = state.mixers if keep else tuple(mixer.map(_usable) for mixer in state.mixers)
        inside, labels = given[:, piece.start : piece.stop], given[:, piece.start + 1 : piece.stop + 1]
        done = _gradients(model, inside, labels, mixers, state, before.tolist(), keep=keep)
    hidden, after = (done.hidden, done.mixers) if keep else (done.hidden.detach(), tuple(mixer.detach() for mixer in done.mixers))
    state = replace(state.with_mixers(after), position=before + (piece.stop - piece.start))
    state = _advanced(model, state, done.gradients, before)
    assert state.window is not None
    return hidden, replace(state, window=replace(state.window, whole=torch.zeros_like(state.window.whole)))  # learned already


def _gradients(
    model: "HopeLM", tokens: Tensor, labels: Tensor, mixers: Mixers, state: HopeState, positions: list[int], *, keep: bool
) -> _Pass:
    """One pass over a window (B, period) and the per-row sums of d CE / dθ. Rows share no leaf, so one backward pass serves all."""
    if model.config.objective == "local_delta":
        return _local_gradients(model, tokens, labels, mixers, state, positions, keep=keep)
    opened = [leaves(tuple(None if level is None else level.map(_usable) for level in layer)) for layer in state.levels]
    hidden, after = model.run(tokens, mixers, [levels for levels, _ in opened], positions)
    given = iter(_slopes(model.surprise(hidden, labels), [leaf for _, found in opened for leaf in found], keep=keep))
    return _Pass(hidden, after, [regrouped(levels, [next(given) for _ in found]) for levels, found in opened])


def _local_gradients(
    model: "HopeLM", tokens: Tensor, labels: Tensor, mixers: Mixers, state: HopeState, positions: list[int], *, keep: bool
) -> _Pass:
    """The same numbers from the loss's gradients at the levels' outputs: nothing of the size of the weights goes through the graph."""
    traces: list[Trace] = [[] for _ in model.blocks]
    # changes are leaves here, too: with frozen parameters nothing else would lead from an output to the loss
    levels = [leaves(tuple(None if level is None else level.map(_usable) for level in layer))[0] for layer in state.levels]
    hidden, after = model.run(tokens, mixers, levels, positions, traces)
    online = [[level is not None for level in layer] for layer in levels]
    flat = [output for trace, learns in zip(traces, online, strict=True) for (_, output), does in zip(trace, learns, strict=True) if does]
    given = iter(_slopes(model.surprise(hidden, labels), flat, keep=keep))
    errors = [
        [_or_zeros(next(given) if does else None, output) for (_, output), does in zip(trace, learns, strict=True)]
        for trace, learns in zip(traces, online, strict=True)
    ]
    with torch.no_grad(), _unrounded(tokens):
        gradients = [
            layer.memory.local_gradients(each, trace, error)
            for layer, each, trace, error in zip(model.blocks, levels, traces, errors, strict=True)
        ]
    return _Pass(hidden, after, gradients)


def _advanced(model: "HopeLM", state: HopeState, gradients: Sequence[Gradients], before: Tensor) -> HopeState:
    """The levels after a window's gradients: added, and applied where a period ends at the position `state` stands at."""
    with torch.no_grad(), _unrounded(state.position):
        counted = state.position - before
        early, late = before.cpu(), state.position.cpu()  # levels look at clocks: a GPU waits here, not once a layer
        levels = []
        for layer, each, given in zip(model.blocks, state.levels, gradients, strict=True):
            added = layer.memory.accumulate(each, given, counted)
            levels.append(layer.memory.advance(added, early, late, layer.ramp))
    return state.with_levels(levels)


def _slopes(loss: Tensor, inputs: list[Tensor], *, keep: bool) -> Sequence[Tensor | None]:
    with _unrounded(loss):
        return torch.autograd.grad(loss, inputs, retain_graph=keep, allow_unused=True)


def _unrounded(like: Tensor) -> torch.autocast:
    """No autocast: it is for passes through the network; what is learned is summed, stepped and kept in float32."""
    return torch.autocast(like.device.type, enabled=False)


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def out_of_inference_mode(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that a graph may refer to: tensors made in inference mode cannot be saved for a backward pass."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _usable(tensor: Tensor) -> Tensor:
    """The same numbers, cut from any graph, fit for a new one."""
    return out_of_inference_mode(tensor).detach()

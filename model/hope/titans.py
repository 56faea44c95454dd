"""Self-modifying Titans: memories that make their own keys, values, rates and targets (Nested Learning §8, eq. 83–93).

For a token x of one head, with M the memories' weights at the start of the current chunk:

    k = unit(M_k(x))   v = unit(M_v(x))   q = unit(W_q x)   η = η_max σ(w·M_η(x))   α = exp(−softplus(w·M_α(x)))
    o = M_mem(q)                                   read before write
    v̂ = unit(M(v))      for every memory M         each memory makes its own target
    every layer of every memory learns k → v̂ by `model/hope/rules.py`, all tokens of a chunk at once by `model/hope/chunk.py`

The start of every memory is a parameter: trained by the outer loop through the chunk recurrence (§2.7 of hope.md), so k, v, η and α are
meta-learned and then keep learning. With anchor "init" a state holds what was learned since the start, else the weights themselves.

Whole chunks of the default switches run through `model/hope/fused_run.py`, which gives the same numbers several times faster on a CPU.

M1  No output depends on a later token; any cut of a stream gives the same outputs and state.
M2  Rows never meet. M3  Grad mode and training mode change nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from model.hope import stepwise
from model.hope.chunk import Reads, Schedule, schedule, with_rate, write_chunk
from model.hope.clock import Piece, pieces
from model.hope.config import MixerConfig
from model.hope.conv import CausalConv
from model.hope.fused import Settings
from model.hope.fused_run import learn
from model.hope.memory import LayerWrite, LinearMemory, Memory, ResidualMLP, Weights, held, layers_of, unit
from model.hope.rules import HeadRules, proximal_rate
from model.hope.state import Tensors

_LOG_LEAST_RETENTION = math.log(1e-4)
READERS = ("k", "v", "eta", "alpha")  # the roles that read the token itself


@dataclass(frozen=True, slots=True)
class MixerState(Tensors):
    """What a mixer carries: convolution caches, and fast weights (B, roles, H, out, in) at the chunk's start and now.

    `boundary` and `running` are the same at a chunk boundary. `momentum` is empty without inner momentum. `capped` (B,) int64 counts the
    chunk boundaries at which the weight cap held a memory back, `clipped` the errors that were clipped: one a memory, head and token.
    """

    conv: Tensor  # (B, taps − 1, width)
    conv_query: Tensor
    boundary: Weights
    running: Weights
    momentum: Weights
    capped: Tensor
    clipped: Tensor


@dataclass(frozen=True, slots=True)
class _Tokens:
    """What the tokens of a piece bring: role inputs (B, roles, H, C, head), query (B, 1, H, C, head), log β (B, 1, H, C) or None."""

    adaptive: Tensor  # for the adaptive readers, in state order
    static: dict[str, Tensor]  # (B, 1, H, C, head) what the static readers made of the tokens
    query: Tensor
    log_decay: Tensor | None


class SelfModifyingTitans(nn.Module):
    """The sequence mixer: `forward(x, state, positions) -> (y, state)`, x and y (B, T, width)."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        width, heads, head = config.width, config.heads, config.head_width
        self.memory: Memory = ResidualMLP(head, config.hidden_multiple * head) if config.hidden_multiple else LinearMemory(head)
        self.enter = nn.Linear(width, 3 * width, bias=False)  # roles, query, gate: heads see a mix of the whole width
        mixed = config.conv_start == "mixed"
        self.conv = CausalConv(width, config.conv_width, copies=len(READERS), mixed=mixed)
        self.conv_query = CausalConv(width, config.conv_width, mixed=mixed)
        self.start = nn.ParameterDict({name: nn.Parameter(w) for name, w in self.memory.start(len(config.learners), heads).items()})
        static = [role for role in READERS if role not in config.adaptive]
        self.static = nn.ModuleDict(
            {role: nn.ParameterDict({name: nn.Parameter(w) for name, w in self.memory.start(1, heads).items()}) for role in static}
        )
        self.rate = _Head(heads, head, [_logit(rate / config.rate_max) for rate in config.rate_starts])
        self.retention = _Head(heads, head, [_inverse_softplus(-math.log(config.retention_start))] * heads)
        self.decay = nn.Linear(width, heads) if config.momentum else None
        self.norm = nn.RMSNorm(head, eps=1e-6)
        self.leave = nn.Linear(width, width, bias=False)
        self.inner_scale = 1.0  # warm-up of the inner rate (set by training); no part of the model's identity
        self.fused = True  # off: autograd alone, for derivatives beyond the first

    def initial(self, rows: int) -> MixerState:
        """The state before the first token."""
        config, start = self.config, {name: _exact(w) for name, w in self.start.items()}
        like = next(iter(start.values()))
        nothing = {name: w.new_zeros(rows, *w.shape) for name, w in start.items()}
        fresh = nothing if config.anchor == "init" else {name: w + nothing[name] for name, w in start.items()}  # no view of a parameter
        momentum = nothing if config.momentum else {}
        zero = torch.zeros(rows, dtype=torch.int64, device=like.device)
        return MixerState(self.conv.initial(rows, like), self.conv_query.initial(rows, like), fresh, fresh, momentum, zero, zero)

    def forward(self, x: Tensor, state: MixerState | None = None, positions: Sequence[int] | None = None) -> tuple[Tensor, MixerState]:
        """Mix T tokens of B rows that have consumed `positions` tokens (default 0); the state after them.

        Raises:
            ValueError: a state without positions, or in half precision: sums of small writes vanish there (hope.md §8.1).
        """
        if state is not None and positions is None:
            raise ValueError("a state needs the positions it stands at: without them chunks would end at the wrong tokens")
        state = self.initial(len(x)) if state is None else state
        positions = [0] * len(x) if positions is None else positions
        _check(state)
        if not x.shape[1]:
            return torch.zeros_like(x), state
        mixed, query, gate = self.enter(x).chunk(3, dim=-1)
        roles, conv = self.conv(mixed, state.conv)
        asked, conv_query = self.conv_query(query, state.conv_query)
        state = replace(state, conv=conv, conv_query=conv_query)
        with torch.autocast(x.device.type, enabled=False):
            tokens = self._tokens(x, roles, asked, state)
            reads = []
            for whole, run in self._runs(self._pieces(positions, x.shape[1])):
                read, state = self._learn_fused(tokens, state, run) if whole else self._learn(_cut(tokens, run[0]), state, run[0])
                reads.append(read)
            o = torch.cat(reads, dim=2).transpose(1, 2)
            o = nn.functional.rms_norm(o, o.shape[-1:], self.norm.weight.to(o.dtype), self.norm.eps)
        return self.leave(o.flatten(2).to(gate.dtype) * nn.functional.silu(gate)), state

    # --- inside

    def _tokens(self, x: Tensor, roles: Tensor, asked: Tensor, state: MixerState) -> _Tokens:
        like = state.capped.new_zeros((), dtype=next(iter(state.running.values())).dtype)
        heads = (self.config.heads, self.config.head_width)
        # the convolutions leave the tokens last in memory, and so they stay
        parts = roles.mT.reshape(*roles.shape[:2], *heads, -1).mT.to(like.dtype)  # (B, 4, H, T, head)
        query = asked.mT.reshape(*asked.shape[:2], *heads, -1).mT.to(like.dtype)
        static = {
            role: self.memory.read(layers_of({name: _exact(w) for name, w in self.static[role].items()}), parts[:, [READERS.index(role)]])  # type: ignore[operator]
            for role in self.static
        }
        adaptive = parts if not static else parts[:, [READERS.index(role) for role in READERS if role in self.config.adaptive]]
        if "q" in self.config.adaptive:
            adaptive = torch.cat([adaptive, query], dim=1)
        decay = None if self.decay is None else nn.functional.logsigmoid(self.decay(x).to(like.dtype)).mT[:, None]  # (B, 1, H, T)
        return _Tokens(adaptive, static, unit(query), decay)

    def _pieces(self, positions: Sequence[int], length: int) -> list[Piece]:
        """Where a call is cut. A main memory that goes token by token needs no cut of its own: its chunk ends at every token."""
        periods = self.config.chunk_projections, self.config.chunk_memory
        if not self._steps:
            return pieces(positions, length, periods)
        cut = pieces(positions, length, periods[:1])
        return [Piece(piece.start, piece.stop, (*piece.due, (True,) * len(positions))) for piece in cut]

    @property
    def _steps(self) -> bool:
        return self.fused and stepwise.fits(self.config)

    def _runs(self, cut: list[Piece]) -> list[tuple[bool, list[Piece]]]:
        """Whole chunks of all rows side by side make one run that can be fused; every other piece is a run of its own."""
        size = self.config.chunk_memory if self.fused and _fusible(self.config) else 0
        runs: list[tuple[bool, list[Piece]]] = []
        for piece in cut:
            whole = piece.stop - piece.start == size and all(map(all, piece.due))
            if whole and runs and runs[-1][0]:
                runs[-1][1].append(piece)
            else:
                runs.append((whole, [piece]))
        return runs

    def _learn_fused(self, tokens: _Tokens, state: MixerState, run: list[Piece]) -> tuple[Tensor, MixerState]:
        """`_learn` for whole chunks that start where the state's `boundary` and `running` are the same."""
        config = self.config
        settings = Settings(
            config.chunk_memory,
            config.weight_cap or math.inf,
            config.read == "token",
            config.rate_max * self.inner_scale,
            config.retention,
            _LOG_LEAST_RETENTION,
        )
        now = slice(run[0].start, run[-1].stop)
        x = torch.cat([part[..., now, :].permute(0, 2, 1, 4, 3) for part in (tokens.adaptive, tokens.query)], dim=2)  # tokens last
        start = [_exact(self.start[name]).transpose(0, 1) for name in ("up", "down")]
        fast = [state.running[name].transpose(1, 2) for name in ("up", "down")]
        heads = [w.to(x.dtype) for head in (self.rate, self.retention) for w in (head.weight, head.bias)]
        read, up, down, capped = learn(settings, x, start, fast, heads)
        learned = {"up": up.transpose(1, 2), "down": down.transpose(1, 2)}
        return read.mT, replace(state, boundary=learned, running=learned, capped=state.capped + capped)

    def _learn(self, tokens: _Tokens, state: MixerState, piece: Piece) -> tuple[Tensor, MixerState]:
        """(B, H, C, head) what the main memory says about a piece inside one chunk, and the state after it has been learned."""
        config, memory = self.config, self.memory
        weights = self._whole(state.boundary)
        made = self._made(tokens, weights)
        k, v, q = unit(made["k"]), made["v"], unit(made["q"]) if "q" in made else tokens.query
        v = unit(v) if config.unit_values else v
        targets = memory.read(layers_of(weights), v) if config.targets == "self" else v
        targets = unit(targets) if config.unit_targets and config.targets == "self" else targets
        rule = config.rule
        writes = memory.writes(weights, k, targets, rule, config.error_clip)
        erase = rule.erase(k) if isinstance(rule, HeadRules) else rule.erase
        rate = config.rate_max * self.inner_scale * torch.sigmoid(self.rate(made["eta"]))  # (B, 1, H, C)
        kept = -nn.functional.softplus(self.retention(made["alpha"])) if config.retention else torch.zeros_like(rate)
        kept = kept.clamp_min(_LOG_LEAST_RETENTION)
        plan = schedule(rate, kept, tokens.log_decay)
        running, momentum, reads = {}, {}, {}
        for name, layer in writes.items():
            own = plan if layer.unit else with_rate(plan, proximal_rate(rate, layer.x.square().sum(-1)))
            done = write_chunk(own, state.running[name], state.momentum.get(name), layer.x, layer.error, erase=erase)
            running[name], reads[name] = done.weight, done.reads
            if done.momentum is not None:
                momentum[name] = done.momentum
        if self._steps:
            start = self.start["map"][-1] if config.anchor == "init" else None
            read, stepped = stepwise.learn(config, k, v, q, rate, kept.exp(), start, state.running["map"][:, -1:])
            running["map"] = torch.cat([running["map"][:, :-1], stepped], dim=1)
        else:
            read = self._read(weights, plan, reads, q)
        return read[:, 0], self._bounded(
            replace(state, running=running, momentum=momentum, clipped=self._clipped(state, writes[memory.output])), piece
        )

    def _whole(self, fast: Weights) -> Weights:
        """The memories' weights from what a state holds."""
        return {name: _exact(self.start[name]) + w for name, w in fast.items()} if self.config.anchor == "init" else fast

    def _made(self, tokens: _Tokens, weights: Weights) -> dict[str, Tensor]:
        """Every reader's output (B, 1, H, C, head), from the weights at the chunk's start."""
        readers = self.config.learners[:-1]
        if not readers:
            return tokens.static
        outputs = self.memory.read(layers_of({name: w[:, :-1] for name, w in weights.items()}), tokens.adaptive)
        return tokens.static | {role: outputs[:, [position]] for position, role in enumerate(readers)}

    def _read(self, weights: Weights, plan: Schedule, reads: dict[str, Reads], q: Tensor) -> Tensor:
        """(B, 1, H, C, head) the main memory at the queries: as it was at the chunk's start, or before each token."""
        if self.config.read == "boundary":
            return self.memory.read(layers_of({name: w[:, -1:] for name, w in weights.items()}), q)

        def layer(name: str, z: Tensor) -> Tensor:
            running = reads[name].of_last_role().at(plan, z)
            return running + z @ _exact(self.start[name][-1:]).mT if self.config.anchor == "init" else running

        return self.memory.read(layer, q)

    def _bounded(self, state: MixerState, piece: Piece) -> MixerState:
        """The state after a piece: where a chunk ends, its weights (held below the cap) become the next chunk's start."""
        projections, memory = piece.due
        if not any(projections) and not any(memory):
            return state
        running, over = self._held(state.running)
        capped = state.capped
        ends = torch.tensor([projections, memory], device=capped.device)  # (2, B)
        which = torch.tensor([role == "mem" for role in self.config.learners], device=capped.device).long()
        due = ends[which].mT[..., None, None, None]  # (B, roles, 1, 1, 1)
        everywhere = all(projections) and all(memory)
        if over is not None:
            capped = capped + (over & due[..., 0, 0, 0]).any(1)
        now = running if everywhere else {name: torch.where(due, w, state.running[name]) for name, w in running.items()}
        start = now if everywhere else {name: torch.where(due, w, state.boundary[name]) for name, w in now.items()}
        return replace(state, boundary=start, running=now, capped=capped)

    def _held(self, fast: Weights) -> tuple[Weights, Tensor | None]:
        """Weights no longer than the cap, and which memories (B, roles) it holds."""
        cap = self.config.weight_cap
        if cap is None:
            return fast, None
        both = {name: held(w, _exact(self.start[name]), cap, anchored=self.config.anchor == "init") for name, w in fast.items()}
        over = torch.stack([where.flatten(2).any(-1) for _, where in both.values()]).any(0)
        return {name: w for name, (w, _) in both.items()}, over

    def _clipped(self, state: MixerState, output: LayerWrite) -> Tensor:
        if self.config.error_clip is None:
            return state.clipped
        at_bound = torch.linalg.vector_norm(output.error, dim=-1) >= self.config.error_clip * (1 - 1e-6)
        clipped: Tensor = state.clipped + at_bound.flatten(1).sum(1)
        return clipped


class _Head(nn.Module):
    """A static linear head from a memory's output (…, H, C, head) to one number per head and token (hope.md §2.3)."""

    def __init__(self, heads: int, head: int, start: Sequence[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(heads, head) * (0.1 * head**-0.5))
        self.bias = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        """(…, H, C)."""
        return torch.einsum("...hcd,hd->...hc", x, self.weight.to(x.dtype)) + self.bias.to(x.dtype)[:, None]


def _exact(weight: Tensor) -> Tensor:
    """Fast weights live in float32 (or float64), whatever the model's own precision."""
    return weight if weight.dtype in {torch.float32, torch.float64} else weight.float()


def _check(state: MixerState) -> None:
    for name, tensor in state.named():
        if tensor.is_floating_point() and tensor.dtype not in {torch.float32, torch.float64}:
            raise ValueError(f"{name} is {tensor.dtype}: fast weights need float32, small writes vanish in half precision")


def _fusible(config: MixerConfig) -> bool:
    """Whether these are the switches of `model/hope/fused.py`; others are free there."""
    fixed = (config.objective, config.targets, config.anchor, config.dgd, config.unit_values, config.unit_targets, config.momentum)
    one_period = config.chunk_projections == config.chunk_memory
    usual = fixed == ("l2", "self", "init", True, True, True, False) and config.learners == (*READERS, "mem")
    return usual and one_period and config.hidden_multiple > 0 and config.error_clip is None and not config.head_rules


def _cut(tokens: _Tokens, piece: Piece) -> _Tokens:
    index = slice(piece.start, piece.stop)
    return _Tokens(
        tokens.adaptive[..., index, :],
        {role: made[..., index, :] for role, made in tokens.static.items()},
        tokens.query[..., index, :],
        None if tokens.log_decay is None else tokens.log_decay[..., index],
    )


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def _inverse_softplus(y: float) -> float:
    return math.log(math.expm1(y))

"""HopeLM: a causal language model of HOPE blocks, in Hugging Face's form (Nested Learning §8, eq. 94–97).

    model = HopeLM(HopeConfig(vocab_size=256))
    out = model(input_ids, labels=input_ids)                     # training: every row from its start, levels do not learn online
    out = model(input_ids, use_cache=True)                       # serving: out.state carries memories, levels, clock
    out = model(more_ids, state=out.state)                       # goes on; any cut of a stream gives the same numbers
    model.generate(input_ids, max_new_tokens=50)                 # generated tokens are learned like read ones
    model(input_ids, state=state, write=False)                   # what these tokens teach ends with the call; returns the state given

The state is explicit (`HopeState`), per row, of constant size, and the only thing that changes while the model is used.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from model.hope.block import HopeBlock, Levels
from model.hope.cms_objectives import Trace
from model.hope.lm_config import HopeConfig
from model.hope.norm import RmsNorm
from model.hope.online import HopeState, Mixers, Window, out_of_inference_mode, read
from model.hope.state import check_finite


@dataclass
class HopeOutput(ModelOutput):
    """loss (), logits (B, T, vocabulary), state after the tokens (None in training without a state)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: HopeState | None = None


class HopeLM(PreTrainedModel, GenerationMixin):
    """Token embeddings, HOPE blocks, norm, head.

    Raises:
        ValueError: layers whose online periods are no multiples of the fastest one.
    """

    config_class = HopeConfig
    base_model_prefix = "hope"
    main_input_name = "input_ids"
    _is_stateful = True
    _no_split_modules = ["HopeBlock"]  # noqa: RUF012
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: HopeConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(HopeBlock(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.period = _fastest_period(self.blocks)
        self._layouts: dict[torch.dtype, dict[str, str]] = {}
        self.post_init()

    @property
    def blocks(self) -> list[HopeBlock]:
        """The layers."""
        return cast("list[HopeBlock]", list(self.layers))

    def _init_weights(self, module: nn.Module) -> None:
        """Blocks start as they were built; only embeddings and head are drawn here."""
        if module is self.embed_tokens or module is self.lm_head:
            nn.init.normal_(module.weight, std=self.config.initializer_range)

    # --- state

    def initial_state(self, rows: int) -> HopeState:
        """The state of `rows` sequences before their first token."""
        device = self.embed_tokens.weight.device
        blocks = tuple(layer.initial(rows) for layer in self.blocks)
        window = None
        if self.period is not None and self.config.objective != "assoc":
            tokens = torch.zeros(rows, self.period, dtype=torch.int64, device=device)
            window = Window(tokens, tuple(block.mixer for block in blocks), torch.ones(rows, dtype=torch.bool, device=device))
        return HopeState(torch.zeros(rows, dtype=torch.int64, device=device), blocks, window)

    # --- passes

    def forward(
        self,
        input_ids: Tensor,
        state: HopeState | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        write: bool = True,
        logits_to_keep: int = 0,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,  # Hugging Face's callers say it; the answer is always a HopeOutput
    ) -> HopeOutput:
        """Logits of tokens (B, T) int64. `labels` (B, T) as in Hugging Face: shifted inside, −100 is ignored.

        Raises:
            ValueError: tokens that are not (B, T) or outside the vocabulary, a padded batch, a state of other rows.
            NotFinite: the state would hold numbers that are not finite (serving, without gradients).
        """
        self._check(input_ids, state, attention_mask)
        if state is None and not use_cache:
            hidden, after = self.run(input_ids, None, None, [0] * len(input_ids))[0], None
        else:
            before = self.initial_state(len(input_ids)) if state is None else state.map(out_of_inference_mode)
            hidden, after = read(self, input_ids, before)
            if not torch.is_grad_enabled():  # in training the loop watches the loss
                check_finite(
                    after.named(), "after these tokens; the state that was given is unchanged, look for such numbers in the weights"
                )
            after = after.map(Tensor.contiguous)  # laid out as a loaded one: layout must not choose between kernels
            after = after if write else state
        hidden = self.norm(hidden)
        logits = self.lm_head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        if labels is not None and labels.shape[1] < 2:
            raise ValueError("labels have one token: the loss is on the token after each, give at least two")
        loss = None if labels is None else _shifted_loss(logits if not logits_to_keep else self.lm_head(hidden), labels)
        return HopeOutput(loss=loss, logits=logits, state=after)

    def run(
        self,
        tokens: Tensor,
        mixers: Mixers | None,
        levels: Sequence[Levels] | None,
        positions: list[int],
        traces: list[Trace] | None = None,
    ) -> tuple[Tensor, Mixers]:
        """The blocks over tokens (B, T) of rows at `positions`: hidden states before the last norm (B, T, width), and mixer states."""
        x, after = self.embed_tokens(tokens), []
        for place, layer in enumerate(self.blocks):
            mixer, known = None if mixers is None else mixers[place], None if levels is None else levels[place]
            x, state = layer(x, mixer, known, positions, None if traces is None else traces[place])
            after.append(state)
        return x, tuple(after)

    def surprise(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Σ CE over all positions, nats: hidden (B, T, width) before the last norm, labels (B, T)."""
        return _nats(self.lm_head(self.norm(hidden)), labels, "sum")

    def nothing(self, rows: int) -> Tensor:
        """(rows, 0, width)."""
        return self.embed_tokens.weight.new_zeros(rows, 0, self.config.hidden_size)

    def level_groups(self) -> list[tuple[str, list[nn.Parameter], int]]:
        """Levels that training steps at a period of their own (`training_periods`): (name, parameters, period in training tokens).

        The continuum memory of the outer loop (Nested Learning §7): a slow level gathers gradients for long and moves seldom. What is in no
        group steps every time.
        """
        periods: dict[str, int] = self.config.training_periods or {}
        levels = [level for block in self.blocks for level in block.memory.all_levels]
        return [
            (name, [p for each in levels if each.config.name == name for p in each.parameters()], period)
            for name, period in periods.items()
        ]

    def set_inner_scale(self, scale: float) -> None:
        """Multiply the inner rates of all mixers and the steps of all levels: the warm-up of the inner loop (hope.md §6.5)."""
        for layer in self.blocks:
            layer.set_inner_scale(scale)

    # --- Hugging Face

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `generate` carries `state` instead of a key-value cache

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        state: HopeState | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """All tokens first, then the newest one beside the state. `write` plays no part: the state that was given stays as it is anyway."""
        given = input_ids if state is None or is_first_iteration else input_ids[:, -1:]
        passed: dict[str, Any] = {name: kwargs[name] for name in ("use_cache", "attention_mask") if name in kwargs}
        return {"input_ids": given, "state": state, **passed}

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> "HopeLM":  # noqa: ANN401
        """As in Hugging Face, but strict: a checkpoint with a missing or a left-over tensor is refused.

        Raises:
            ValueError: names the tensor.
        """
        strict = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # mismatches are ours to report: by the tensor's name
        loaded: Any = super().from_pretrained(path, *args, **{**kwargs, **strict})
        check_loaded(loaded[1])
        model: HopeLM = loaded[0]
        check_finite(model.named_parameters(), "in the checkpoint")
        return model

    def _check(self, tokens: Tensor, state: HopeState | None, attention_mask: Tensor | None) -> None:
        if tokens.dim() != 2 or not len(tokens):
            raise ValueError(f"input_ids is {tuple(tokens.shape)}, it must be (rows, tokens) with at least one row")
        if tokens.dtype != torch.int64:
            raise ValueError(f"input_ids is {str(tokens.dtype).removeprefix('torch.')}, it must be int64")
        if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= self.config.vocab_size):
            raise ValueError(
                f"input_ids holds {int(tokens.min())} to {int(tokens.max())}; the vocabulary is 0 to {self.config.vocab_size - 1}"
            )
        if attention_mask is not None and not bool(attention_mask.bool().all()):
            raise ValueError("padding would be read and learned like text: give rows of one length, or run rows of different lengths apart")
        if state is not None and len(state.position) != len(tokens):
            raise ValueError(f"the state has {len(state.position)} rows, input_ids has {len(tokens)}")
        if state is not None and (odd := dict(state.layout()).items() ^ self._expected().items()):
            raise ValueError(f"the state is of another model: {min(odd)[0]} does not fit this configuration")

    def _expected(self) -> dict[str, str]:
        """The layout of this model's states, worked out once for its present precision."""
        precision = self.embed_tokens.weight.dtype
        if precision not in self._layouts:
            self._layouts[precision] = dict(self.initial_state(1).layout())
        return self._layouts[precision]


def check_loaded(info: dict[str, Any]) -> None:
    """Nothing was missing or left over in a checkpoint; `info` is Hugging Face's loading information.

    Raises:
        ValueError: names the tensor.
    """
    faults = {"lacks the": "missing_keys", "has an unknown": "unexpected_keys", "has another shape for the": "mismatched_keys"}
    for fault, kind in faults.items():
        if names := sorted(str(key[0] if isinstance(key, tuple) else key) for key in info[kind]):
            raise ValueError(f"the checkpoint {fault} tensor {names[0]} ({len(names)} in all): it is not of this configuration")


def _fastest_period(layers: Sequence[HopeBlock]) -> int | None:
    periods = sorted({period for layer in layers for period in layer.memory.periods})
    if odd := [period for period in periods if period % periods[0]]:
        raise ValueError(
            f"a level's period of {odd[0]} tokens is no multiple of the fastest one, {periods[0]}: updates would not fall together"
        )
    return periods[0] if periods else None


def _shifted_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return _nats(logits[:, :-1], labels[:, 1:], "mean")


def _nats(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return nn.functional.cross_entropy(exact.flatten(0, 1), labels.flatten(), reduction=reduction)


AutoConfig.register("hope", HopeConfig)
AutoModelForCausalLM.register(HopeConfig, HopeLM)

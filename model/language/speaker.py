"""A speaker: a HOPE language model with its tokenizer, and what can be done with a state of it. States are values; nothing is kept here.

L1  A text moves a state in the same way whenever it is read: the same state and text give the same bits, on one build and device.
L2  A text after which a number would not be finite teaches nothing: the state stays as it was, each time that it is read.
L3  Reading and speaking leave the state that they begin with as it is; what they teach is in the reading, and ends with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import tokenizers
import torch
from torch import Tensor, nn

from model.hope import saved_state
from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.hope.online import HopeState
from model.hope.state import NotFinite
from model.language.phrasing import END, exchange, question

CUT = 128  # tokens that are read at once: bounds the memory that their logits take, and how long others wait
LEARNED = 4_096  # tokens of a text that are learned, its first ones
CONTEXT = 1_024  # tokens of a conversation that are read before it is gone on with, its last ones
UNSURE = "\N{REPLACEMENT CHARACTER}"  # how a character shows of which not all bytes are there yet


@dataclass(frozen=True, slots=True)
class Reading:
    """Where reading stands: the state after so many `tokens`, the logits (vocabulary,) of what comes next, None before the first token.

    `nats` is the sum of how surprising the tokens were, each before it was learned, but for the very first.
    """

    state: HopeState
    logits: Tensor | None = None
    nats: float = 0.0
    tokens: int = 0

    @property
    def surprise(self) -> float | None:
        """Nats a token on the mean; None for fewer than two tokens."""
        return self.nats / (self.tokens - 1) if self.tokens > 1 else None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: temperature 0 takes the likeliest one; `stop` are texts that end the answer."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


class Speaker:
    """A language model that is in memory. `digest`: of its weights, hex; a state is a change of just these."""

    def __init__(self, model: HopeLM, tokenizer: Path) -> None:
        self.model = model.train(False).requires_grad_(False)  # what is learned online is in states
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self.digest = saved_state.base_digest(model)
        self.state_bytes = model.initial_state(1).size_bytes
        ends = getattr(self.config, "eos_token_id", None)
        self._ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    @property
    def config(self) -> HopeConfig:
        """The model's configuration."""
        return cast(HopeConfig, self.model.config)

    @property
    def vocabulary(self) -> int:
        """How many tokens the tokenizer knows."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """A text's tokens, without any that mark its beginning or end."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, said: Sequence[int], how: Sampling, *, whole: bool) -> str:
        """The text of an answer's tokens up to where it ends. If there may be more, without what could be a part of something else."""
        told: str = self._tokenizer.decode([token for token in said if token not in self._ends], skip_special_tokens=False)
        for end in (END, *how.stop):
            told = told.partition(end)[0]
        return told if whole else _sure(told, (END, *how.stop))

    def initial(self) -> HopeState:
        """Nothing was said yet."""
        state: HopeState = self.model.initial_state(1)
        return state

    def parts(self, text: str) -> list[list[int]]:
        """The tokens of a text as it is learned, its first `LEARNED`, cut into what is read at once."""
        tokens = self.encode(text)[:LEARNED]
        return [tokens[start : start + CUT] for start in range(0, len(tokens), CUT)]

    def read(self, reading: Reading, tokens: Sequence[int]) -> Reading:
        """Where reading stands after at most `CUT` tokens more.

        Raises:
            NotFinite: a number would not be finite; nothing is changed.
        """
        with torch.no_grad():
            out = self.model(torch.tensor([list(tokens)]), state=reading.state)
        assert out.state is not None
        logits = out.logits[0].float()
        foreseen = logits[:-1] if reading.logits is None else torch.cat([reading.logits[None], logits[:-1]])
        targets = torch.tensor(list(tokens)[len(tokens) - len(foreseen) :])
        nats = float(nn.functional.cross_entropy(foreseen, targets, reduction="sum")) if len(targets) else 0.0
        return Reading(out.state, logits[-1].clone(), reading.nats + nats, reading.tokens + len(tokens))

    def learned(self, state: HopeState, text: str) -> Reading:
        """A state after a text, all at once. One after which a number would not be finite teaches nothing."""
        reading = Reading(state)
        try:
            for part in self.parts(text):
                reading = self.read(reading, part)
        except NotFinite:
            return Reading(state)
        return reading

    def unforeseen(self, state: HopeState, said: str, answer: str | None) -> float:
        """How surprising an answer's tokens are on the mean behind what the user said, or, without one, what the user said; infinite where
        a number would not be finite. Nothing is kept."""
        text, begin = exchange(said, answer), 0 if answer is None else len(self.encode(question(said)))
        tokens = self.encode(text)[:LEARNED]
        reading, before = Reading(state), 0.0
        try:
            for start, end in pairwise(sorted({0, *range(begin, len(tokens), CUT), *range(0, begin, CUT), len(tokens)})):
                before = reading.nats if start == begin else before
                reading = self.read(reading, tokens[start:end])
        except NotFinite:
            return math.inf
        counted = len(tokens) - max(begin, 1)
        return (reading.nats - before) / counted if counted > 0 else 0.0

    def heard(self, text: str, said: Sequence[int] = ()) -> list[list[int]]:
        """The tokens of a conversation before it is gone on with, its last `CONTEXT`, and of what was said since, cut as `parts`."""
        tokens = [*self.encode(text)[-CONTEXT:], *said]
        return [tokens[start : start + CUT] for start in range(0, len(tokens), CUT)]

    def speak(self, voice: Reading, said: Sequence[int], most: int, how: Sampling) -> tuple[Reading, list[int], bool]:
        """Go on by at most `most` tokens after what was `said`: the voice, everything said, and whether the answer has ended.

        Raises:
            ValueError: nothing was read before.
        """
        told = list(said)
        for _ in range(most):
            if voice.logits is None:
                raise ValueError("there is nothing to go on with; read a conversation first")
            token = self._chosen(voice.logits, how, len(told))
            told.append(token)
            if token in self._ends or self._stopped(told, how.stop):
                return voice, told, True
            voice = self.read(voice, [token])
        return voice, told, False

    def save(self, state: HopeState, bank: str) -> bytes:
        """A state as bytes: equal states of a bank give equal bytes."""
        return saved_state.encode(self.model, state, bank)

    def load(self, data: bytes) -> HopeState:
        """The state that these bytes were made of.

        Raises:
            StateRefused: they are of another model, or no state.
        """
        return saved_state.decode(self.model, data)

    def _chosen(self, logits: Tensor, how: Sampling, place: int) -> int:
        if how.temperature <= 0.0:
            return int(logits.argmax())
        shares = torch.softmax(logits / how.temperature, -1)
        ranked, order = shares.sort(descending=True, stable=True)
        ranked = ranked * (ranked.cumsum(0) - ranked < how.top_p)  # always the first
        lot = torch.Generator().manual_seed((how.seed * 1_000_003 + place) % 2**63)
        return int(order[torch.multinomial(ranked, 1, generator=lot)])

    def _stopped(self, said: Sequence[int], stop: Sequence[str]) -> bool:
        told: str = self._tokenizer.decode(list(said), skip_special_tokens=False)
        return END in told or any(text in told for text in stop)


def _sure(told: str, ends: Sequence[str]) -> str:
    """Without the bytes of a character that is not whole, and without what may be the beginning of an end."""
    told = told.rstrip(UNSURE)
    begun = [size for end in ends for size in range(1, len(end)) if told.endswith(end[:size])]
    return told[: len(told) - max(begun, default=0)]

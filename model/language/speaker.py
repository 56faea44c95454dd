"""A speaker: a HOPE language model with its tokenizer, and what can be done with a state of it. States are values; nothing is kept here.

L1  A text moves a state in the same way whenever it is read: the same state and text give the same bits, on one build and device.
L2  A text after which a number would not be finite teaches nothing: the state stays as it was, each time that it is read.
L3  Reading and speaking on a state leave that state as it is; what they teach is in the voice, and ends with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
from model.language.phrasing import END

CUT = 256  # tokens that are read at once: bounds the memory that their logits take
CONTEXT = 1_024  # tokens of a conversation that are read before it is gone on with, its last ones
UNSURE = "\N{REPLACEMENT CHARACTER}"  # how a character shows of which not all bytes are there yet


@dataclass(frozen=True, slots=True)
class Learned:
    """A state after a text; `nats` is how surprising its tokens were on the mean before they were learned, None for fewer than two."""

    state: HopeState
    nats: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Voice:
    """Where speaking goes on: the state after all that was read and said, the logits (vocabulary,) of what comes next, what was read."""

    state: HopeState
    logits: Tensor
    read: int


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
        return self.model.initial_state(1)

    def learned(self, state: HopeState, text: str) -> Learned:
        """The state after a text."""
        tokens = self.encode(text)
        if not tokens:
            return Learned(state, None, 0)
        try:
            after, logits = self._read(state, tokens)
        except NotFinite:
            return Learned(state, None, len(tokens))
        if len(tokens) < 2:
            return Learned(after, None, len(tokens))
        nats = nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:]))
        return Learned(after, float(nats), len(tokens))

    def nats(self, state: HopeState, text: str) -> float:
        """How surprising a text's tokens are on the mean where a state stands, learning on the way; nothing is kept."""
        return self.learned(state, text).nats or 0.0

    def listening(self, state: HopeState, text: str, said: Sequence[int] = ()) -> Voice:
        """Where a conversation stands whose text was read, its last tokens, and of whose answer so much was said."""
        tokens = self.encode(text)[-CONTEXT:]
        after, logits = self._read(state, [*tokens, *said])
        return Voice(after, logits[-1], len(tokens))

    def speak(self, voice: Voice, said: Sequence[int], most: int, how: Sampling) -> tuple[Voice, list[int], bool]:
        """Go on by at most `most` tokens after what was `said`: the voice, everything said, and whether the answer has ended."""
        told = list(said)
        for _ in range(most):
            token = self._chosen(voice.logits, how, len(told))
            told.append(token)
            if token in self._ends or self._stopped(told, how.stop):
                return voice, told, True
            state, logits = self._read(voice.state, [token])
            voice = Voice(state, logits[-1], voice.read)
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

    def _read(self, state: HopeState, tokens: Sequence[int]) -> tuple[HopeState, Tensor]:
        """The state after tokens, and the logits (tokens, vocabulary) of what comes after each."""
        found = []
        with torch.no_grad():
            for start in range(0, len(tokens), CUT):
                out = self.model(torch.tensor([tokens[start : start + CUT]]), state=state)
                assert out.state is not None
                state = out.state
                found.append(out.logits[0].float())
        return state, torch.cat(found)

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

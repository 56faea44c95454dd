"""A bank's own language model: `hope:BANK`, or `hope:BANK@SNAPSHOT` for what it was. Its weights are what remembers; no note is needed.

What is said last in a conversation is a turn (`turn_of`): the route has the bank learn it before the answer is begun. The answer comes from
the engine piece by piece, whole or as a stream; each piece is a call of its own, so that one that is lost is asked for again, and whoever
leaves ends no more than the piece in progress.
"""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Struct, structs

from service import wire
from service.chat import sse
from service.chat.backends import Asked, Place, Streaming
from service.chat.composing import text_of
from service.errors import Invalid
from service.ids import new_id

NAME = "hope"
SNAPSHOT = "@snap_"  # a bank's name may hold the sign
TOKENS, TOKENS_MAX = 128, 512  # of an answer: unless asked for, and at most
PIECE, SMALL_PIECE = 32, 4  # tokens of one call, for a whole answer and for a stream
READ_MAX = 16_000  # characters of a conversation that the model is given, its last ones
STOPS_MAX = 4

Count = Annotated[int, Meta(ge=1)]
Stop = Annotated[str, Meta(max_length=wire.STOP_MAX)]
BankNames = Callable[[str, Collection[str] | None], Awaitable[list[str]]]


class Speaks(Protocol):
    """Who goes on with conversations: the engine."""

    async def speak(
        self,
        tenant: str,
        bank: str,
        lines: Sequence[wire.ChatLine],
        *,
        talk: str,
        at: str | None,
        said: Sequence[int],
        most: int,
        last: bool,
        how: wire.Speaking,
    ) -> wire.Spoken:
        """See `Engine.speak`."""


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Options(Struct):
    """What of a request this model knows; what would make it another answer is refused, the rest is passed over."""

    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=STOPS_MAX)] | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def most(self) -> int:
        """Tokens of the answer."""
        return min(self.max_completion_tokens or self.max_tokens or TOKENS, TOKENS_MAX)

    @property
    def speaking(self) -> wire.Speaking:
        """For the engine."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return wire.Speaking(
            temperature=self.temperature or 0.0, top_p=self.top_p or 1.0, seed=abs(self.seed or 0) % 2**62, stop=tuple(filter(None, stop))
        )


class Hope:
    """The backend of the models `hope:BANK`; `hope` alone is the key's own bank."""

    noted, learns = False, True

    def __init__(self, engine: Speaks, banks: BankNames) -> None:
        self._engine, self._banks = engine, banks

    def names(self) -> list[str]:
        """See `Backend.names`."""
        return [f"{NAME}:BANK", f"{NAME}:BANK@SNAPSHOT"]

    async def models(self, tenant: str, banks: Collection[str] | None) -> list[str]:
        """See `Backend.models`."""
        return [f"{NAME}:{bank}" for bank in await self._banks(tenant, banks)]

    def takes(self, model: str) -> bool:
        """See `Backend.takes`."""
        return model == NAME or model.startswith(f"{NAME}:")

    def place(self, model: str) -> Place:
        """See `Backend.place`."""
        bank, at, snapshot = model[len(NAME) + 1 :].rpartition(SNAPSHOT)
        return Place(bank or None, at[1:] + snapshot) if at else Place(snapshot or None)

    def check(self, asked: Asked) -> None:
        """See `Backend.check`."""
        _options(asked.body)
        _lines(asked.messages)

    async def complete(self, asked: Asked) -> dict[str, Any]:
        """See `Backend.complete`."""
        options, lines, id = _options(asked.body), _lines(asked.messages), new_id("cmp")
        spoken = await self._speak(asked, id, lines, options, [], PIECE)
        while not _over(spoken, options):
            spoken = await self._speak(asked, id, lines, options, spoken.tokens, PIECE)
        message = {"role": "assistant", "content": spoken.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(spoken)}
        return _made(asked, "chat.completion", id, [choice]) | {"usage": _usage(spoken)}

    async def stream(self, asked: Asked) -> Streaming:
        """See `Backend.stream`."""
        options, lines, id = _options(asked.body), _lines(asked.messages), new_id("cmp")
        first = await self._speak(asked, id, lines, options, [], SMALL_PIECE)
        return Streaming(self._events(asked, id, lines, options, first), _nothing)

    async def close(self) -> None:
        """See `Backend.close`."""

    async def _events(
        self, asked: Asked, id: str, lines: Sequence[wire.ChatLine], options: _Options, spoken: wire.Spoken
    ) -> AsyncIterator[bytes]:
        told = ""
        yield _chunk(asked, id, {"role": "assistant", "content": ""})
        while True:
            if len(spoken.text) > len(told):
                yield _chunk(asked, id, {"content": spoken.text[len(told) :]})
                told = spoken.text
            if _over(spoken, options):
                break
            spoken = await self._speak(asked, id, lines, options, spoken.tokens, SMALL_PIECE)
        yield _chunk(asked, id, {}, _reason(spoken))
        if options.stream_options is not None and options.stream_options.include_usage:
            yield sse.event_of(msgspec.json.encode(_made(asked, "chat.completion.chunk", id, []) | {"usage": _usage(spoken)}))
        yield sse.event_of(sse.DONE)

    async def _speak(
        self, asked: Asked, id: str, lines: Sequence[wire.ChatLine], options: _Options, said: Sequence[int], piece: int
    ) -> wire.Spoken:
        left = options.most - len(said)
        return await self._engine.speak(
            asked.tenant,
            asked.bank,
            lines,
            talk=id,
            at=asked.at,
            said=said,
            most=min(piece, left),
            last=left <= piece,
            how=options.speaking,
        )


def turn_of(messages: Sequence[wire.ChatMessage], session_id: str | None) -> wire.NewTurn | None:
    """What a conversation says last: what the user said since the last answer, and the answer where the client gives one at the end.

    None where the user said nothing. Instructions of the system and results of tools are read in a conversation, not learned.
    """
    last = messages[-1]
    right = text_of(last).strip() or None if last.role == "assistant" else None
    said: list[str] = []
    for message in reversed(messages[:-1] if last.role == "assistant" else messages):
        if message.role == "assistant":
            break
        if message.role == "user":
            said.append(text_of(message).strip())
    text = "\n".join(part for part in reversed(said) if part)
    for field, told in (("input", text), ("right", right or "")):
        if len(told) > wire.TEXT_MAX:
            why = f"what is said has {len(told):,} characters, more than the {wire.TEXT_MAX:,} that are learned at once; say less"
            raise Invalid(f"{field}: {why}", errors=[{"field": "messages", "message": why}])
    return wire.NewTurn(input=text, right=right, session_id=session_id) if text else None


def _options(body: dict[str, Any]) -> _Options:
    try:
        options = msgspec.convert(body, _Options)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("`$.")[2].partition("`")[0].partition("[")[0]
        raise Invalid(str(error), errors=[{"field": field, "message": str(error)}]) from None
    wrong = {
        "n": "this model makes one answer" if options.n not in (None, 1) else "",
        "logprobs": "this model tells no probabilities of its tokens" if options.logprobs else "",
        "tools": "this model calls no tools" if options.tools else "",
        "functions": "this model calls no functions" if options.functions else "",
        "response_format": "this model answers in plain text" if (options.response_format or {}).get("type", "text") != "text" else "",
    }
    faults = [{"field": field, "message": message} for field, message in wrong.items() if message]
    if faults:
        raise Invalid(f"{faults[0]['field']}: {faults[0]['message']}", errors=faults)
    return options if options.seed is not None else structs.replace(options, seed=secrets.randbits(60))


def _lines(messages: Sequence[wire.ChatMessage]) -> list[wire.ChatLine]:
    """The end of the conversation, as far as the model reads it.

    Raises:
        Invalid: nothing is said in it.
    """
    lines: list[wire.ChatLine] = []
    left = READ_MAX
    for message in reversed(messages):
        text = text_of(message).strip()[-left:] if left else ""
        if text:
            lines.append(wire.ChatLine(role=message.role, text=text))
            left -= len(text)
    if not lines:
        raise Invalid("messages: nothing is said in them", errors=[{"field": "messages", "message": "nothing is said in them"}])
    return lines[::-1]


def _over(spoken: wire.Spoken, options: _Options) -> bool:
    return spoken.ended or len(spoken.tokens) >= options.most


def _reason(spoken: wire.Spoken) -> str:
    return "stop" if spoken.ended else "length"


def _usage(spoken: wire.Spoken) -> dict[str, int]:
    return {
        "prompt_tokens": spoken.read,
        "completion_tokens": len(spoken.tokens),
        "total_tokens": spoken.read + len(spoken.tokens),
    }


def _chunk(asked: Asked, id: str, delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return sse.event_of(msgspec.json.encode(_made(asked, "chat.completion.chunk", id, [choice])))


def _made(asked: Asked, kind: str, id: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": id, "object": kind, "created": int(time.time()), "model": asked.body["model"], "choices": choices}


async def _nothing() -> None:
    """Nothing is held open between two pieces."""

"""Upstreams: services that speak OpenAI's API, as the settings name them. No address, key or path of a call comes from a request.

Bounded are: the calls at once, the time that an upstream may say nothing, and the bytes of an answer and of one event. Redirects are not
followed: the key would go with them. A call ends when whoever waits for it is cancelled.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any

import httpx
import msgspec

from service.chat import sse
from service.chat.backends import Asked, Place, Streaming
from service.chat.errors import ChatError, UpstreamBusy, UpstreamDown, UpstreamFailed, UpstreamRefused, UpstreamSlow
from service.settings import Upstream

SUFFIX = "+palimpsest"
AT_ONCE = 128  # calls to upstreams in this process
CONNECT_S = 5.0
ANSWER_MAX = 4 * 1024 * 1024  # bytes: a million tokens
EVENT_MAX = 1024 * 1024
SAID_MAX = 500  # characters of an upstream's own words
WAIT_S, WAIT_MAX_S = 5, 3_600  # seconds until the next try, where a busy upstream does not say; the most that it may say
DRAIN_S = 0.5  # for what comes behind the last event: read, it leaves a connection that can be used again

THE_CALLERS = (400, 413, 422)  # statuses for what is wrong with the request itself
NAME = re.compile(r"[\w.\[\]-]{1,64}")  # of a field or an error
BUSY, SLOW = (429, 503, 529), (408, 504)


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """Of a chunk, what tells how the stream goes on."""

    choices: list[_Choice] | None = None
    error: Any = None


class _Fault(msgspec.Struct):
    message: str = ""
    param: Any = None
    code: Any = None


class _Refusal(msgspec.Struct):
    """Where services that speak this API put their reason."""

    error: _Fault | str | None = None
    message: Any = None
    detail: Any = None


class Upstreams:
    """The backend of the models `NAME+palimpsest`."""

    noted, learns = True, False

    def __init__(self, upstreams: tuple[Upstream, ...], silence_s: float) -> None:
        self._of = {model + SUFFIX: upstream for upstream in upstreams for model in upstream.models}
        self._silence_s = silence_s
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(silence_s, connect=min(CONNECT_S, silence_s)),
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=32),
            headers={"User-Agent": "palimpsest", "Accept-Encoding": "identity"},
            follow_redirects=False,
        )
        self._calls = 0

    def names(self) -> list[str]:
        """See `Backend.names`."""
        return list(self._of)

    async def models(self, tenant: str, banks: Collection[str] | None) -> list[str]:
        """See `Backend.models`."""
        return list(self._of)

    def takes(self, model: str) -> bool:
        """See `Backend.takes`."""
        return model in self._of

    def place(self, model: str) -> Place:
        """See `Backend.place`."""
        return Place()

    def check(self, asked: Asked) -> None:
        """See `Backend.check`: the upstream says."""

    async def complete(self, asked: Asked) -> dict[str, Any]:
        """See `Backend.complete`."""
        async with self._call(asked) as response:
            try:
                completion = msgspec.json.decode(await self._read(response))
            except (msgspec.DecodeError, UnicodeDecodeError):
                completion = None
        if not isinstance(completion, dict) or not isinstance(completion.get("choices"), list):
            raise UpstreamFailed("the upstream's answer is no completion")
        return completion

    async def stream(self, asked: Asked) -> Streaming:
        """See `Backend.stream`."""
        async with contextlib.AsyncExitStack() as stack:
            response = await stack.enter_async_context(self._call(asked))
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise UpstreamFailed("the upstream was asked for a stream and does not send one")
            return Streaming(self._events(response, self._upstream(asked)), stack.pop_all().aclose)

    async def close(self) -> None:
        """See `Backend.close`."""
        await self._http.aclose()

    def _upstream(self, asked: Asked) -> Upstream:
        return self._of[asked.body["model"]]

    @contextlib.asynccontextmanager
    async def _call(self, asked: Asked) -> AsyncIterator[httpx.Response]:
        """The upstream's answer once its head is there, if it is one that goes on."""
        if self._calls >= AT_ONCE:
            raise UpstreamBusy(f"this service has {AT_ONCE} calls to upstreams in progress, the most at once", retry_after_s=1)
        upstream = self._upstream(asked)
        url = upstream.url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {upstream.key}"} if upstream.key else {})
        content = json.dumps(asked.body | {"model": asked.body["model"].removesuffix(SUFFIX)}, ensure_ascii=False)  # any number as it came
        self._calls += 1
        try:
            with self._told():
                async with self._http.stream("POST", url, content=content, headers=headers) as response:
                    if response.status_code != httpx.codes.OK:
                        raise _error(response, await self._read(response), upstream)
                    yield response
        finally:
            self._calls -= 1

    async def _read(self, response: httpx.Response) -> bytes:
        held = bytearray()
        async for part in response.aiter_bytes():
            held += part
            if len(held) > ANSWER_MAX:
                raise UpstreamFailed(f"the upstream's answer has more than {ANSWER_MAX} bytes")
        return bytes(held)

    async def _events(self, response: httpx.Response, upstream: Upstream) -> AsyncIterator[bytes]:
        finished, sent = False, 0
        parts = response.aiter_bytes()
        with self._told():
            async for event in sse.events(parts, EVENT_MAX):
                data, sent = sse.data_of(event), sent + len(event)
                if data == sse.DONE:
                    finished = True
                    break
                if sent > ANSWER_MAX:
                    raise UpstreamFailed(f"the upstream's answer has more than {ANSWER_MAX} bytes")
                finished = _is_last(data, upstream) or finished
                yield event
        if not finished:
            raise UpstreamFailed("the upstream's answer broke off")
        await _drained(parts)
        yield sse.event_of(sse.DONE)  # also where the upstream's own is missing: clients wait for it

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What went wrong on the way, in our words: a library's may hold addresses."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise UpstreamDown("nobody answers at the upstream's address", retry_after_s=WAIT_S) from None
        except httpx.TimeoutException:
            raise UpstreamSlow(f"the upstream said nothing for {self._silence_s:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            raise UpstreamFailed("the upstream's answer broke off, or is none in the way of HTTP") from None
        except sse.TooLong:
            raise UpstreamFailed(f"the upstream sent an event of more than {EVENT_MAX} bytes") from None


async def _drained(parts: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in parts:
                pass


def _is_last(data: bytes, upstream: Upstream) -> bool:
    """Whether a chunk says that the answer is complete.

    Raises:
        UpstreamFailed: it says that it will never be, or is no chunk.
    """
    if not data:
        return False  # a comment
    try:
        chunk = msgspec.json.decode(data, type=_Chunk)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise UpstreamFailed("the upstream sent what is no chunk of a completion") from None
    if chunk.error is not None:
        fault = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
        raise UpstreamFailed(f"the upstream broke off: {_quoted(str(fault), upstream)}")
    return any(choice.finish_reason for choice in chunk.choices or ())


def _error(response: httpx.Response, body: bytes, upstream: Upstream) -> ChatError:
    """The error for an answer that is no success."""
    status = response.status_code
    if status in THE_CALLERS:
        fault = _fault(body)
        param, code = (said if isinstance(said, str) and NAME.fullmatch(said) else None for said in (fault.param, fault.code))
        return UpstreamRefused(f"the upstream refused it: {_quoted(fault.message, upstream)}", param=param, said_code=code)
    if status in BUSY:
        told = response.headers.get("retry-after", "")
        wait_s = int(told) if told.isascii() and told.isdigit() and len(told) < 5 else WAIT_S
        return UpstreamBusy("the upstream takes no more requests now", retry_after_s=min(max(wait_s, 1), WAIT_MAX_S))
    if status in SLOW:
        return UpstreamSlow("the upstream gave up the request for lack of time")
    if status in (401, 403):
        return UpstreamFailed("the upstream does not take the key that this service has for it; tell whoever runs the service")
    return UpstreamFailed(f"the upstream answered with status {status}")


def _fault(body: bytes) -> _Fault:
    try:
        told = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Fault()
    if isinstance(told.error, _Fault):
        return told.error
    words = told.error or told.message or told.detail
    return _Fault(message=words if isinstance(words, str) else "")


def _quoted(said: str, upstream: Upstream) -> str:
    """An upstream's own words, without its key, should they hold it."""
    return (said.replace(upstream.key, "…") if upstream.key else said)[:SAID_MAX] or "it does not say why"

"""How a call becomes a reply, whoever sends it: addresses, headers, retries, errors, and what was seen of each bank.

- **Retries.** Every call may be sent again: reads change nothing, and what writes carries an Idempotency-Key, so that it has its effect
  once, however often it arrives. So a call that was lost on the way, or refused by something that passes, is tried again after the time
  that the service advises, with jitter; at most `retries` times, and never after a wait longer than `patience_s`.
- **Read your writes.** The newest state that a reply told of a bank goes along with reads of that bank.
- **Versions.** Nothing is asked in advance. When the two sides do not understand each other, the service is asked for its version, and the
  error says who is older.
"""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from types import NoneType
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec

from palimpsest.errors import (
    Invalid,
    MethodNotAllowed,
    NotConfigured,
    NotFound,
    NotNow,
    PalimpsestError,
    Problem,
    Refused,
    StateUnknown,
    Unreachable,
    VersionMismatch,
    refusal,
)
from palimpsest.steps import Pause, Send, Steps, sent

T = TypeVar("T")
API = "1.0.0"  # the version of the API that this client was written for
BUNDLE = "application/x-tar"
MIN_STATE = "Memory-Min-State"
FIRST_WAIT_S = 0.1  # before the second try, where the service advises nothing; doubled each time
GATEWAY = {502: "capacity", 503: "capacity", 504: "capacity", 429: "quota"}  # refusals of something in between, without a body of ours
NO_SUCH_PATH = "no such path"  # how the service begins to say that it does not know a route, as against a thing that is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request and the type of its reply."""

    method: str
    path: str
    reply: type[T]
    bank: str | None = None  # which bank it is about, as the caller names it
    params: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] | bytes | None = None  # JSON, or a bundle as it is
    headers: dict[str, str] = field(default_factory=dict)
    fresh: bool = False  # must see what was written before
    also: int = 0  # a status besides 2xx that carries the reply


class Exchange:
    """One service as a client sees it. May be used by several threads."""

    def __init__(self, base_url: str, api_key: str, *, timeout_s: float, retries: int, patience_s: float) -> None:
        """Raises:
        NotConfigured: the address is none, or the key cannot be sent.
        """
        self.url = _address(base_url)
        self.timeout_s, self.retries, self.patience_s = timeout_s, retries, patience_s
        self._headers = {"Authorization": f"Bearer {_key(api_key)}", "User-Agent": f"palimpsest-python/{version('palimpsest')}"}
        self._lock = threading.Lock()
        self._seen: dict[str | None, tuple[int, str]] = {}  # by bank: position and token of the newest state

    def perform(self, call: Call[T]) -> Steps[T]:
        """The reply.

        Raises:
            Refused, Unreachable, VersionMismatch: there is none.
        """
        send, lost, tried = self.sending(call), False, 0
        while True:
            try:
                answer = yield from sent(send)
            except httpx.RequestError as cause:
                error: PalimpsestError = self.unreachable(cause)
                lost = True
            else:
                if answer.is_success or answer.status_code == call.also:
                    return (yield from self._understood(call, answer))
                error = yield from self.refused(call, answer)
                if isinstance(error, StateUnknown) and MIN_STATE in send.headers:
                    self.forget_state(call.bank)  # it was made anew under its name, and nothing of it was seen yet
                    send = self.sending(call)
                    continue
                if lost and call.reply is NoneType and isinstance(error, NotFound):
                    return msgspec.convert(None, call.reply)  # it is gone: a try whose answer was lost has done that
            yield from self.again(call, error, tried)
            tried += 1

    def again(self, call: Call[T], error: PalimpsestError, tried: int) -> Steps[None]:
        """Let the time before another try pass, after `tried` further ones.

        Raises:
            PalimpsestError: the error itself, when there is to be none.
        """
        wait_s = _wait(tried, error.retry_after_s if isinstance(error, NotNow) else None)
        if not isinstance(error, (NotNow, Unreachable)) or tried >= self.retries or wait_s > self.patience_s:
            self._give_up_on(call, error)
            raise error
        yield Pause(wait_s)

    def forget_state(self, bank: str | None) -> None:
        """What was seen of a bank no longer counts: it is gone."""
        with self._lock:
            self._seen.pop(bank, None)

    def sending(self, call: Call[T]) -> Send:
        """The request of a call."""
        headers = self._headers | call.headers
        if call.fresh and (seen := self._seen.get(call.bank)):
            headers[MIN_STATE] = seen[1]
        content = call.body if isinstance(call.body, bytes | None) else msgspec.json.encode(call.body)
        if content is not None:
            headers["Content-Type"] = BUNDLE if isinstance(call.body, bytes) else "application/json"
        params = {name: str(value) for name, value in given(call.params).items()}
        return Send(call.method, self.url + call.path, self.timeout_s, headers, params, content)

    def _understood(self, call: Call[T], answer: httpx.Response) -> Steps[T]:
        try:
            if answer.headers.get("Content-Type") == BUNDLE:
                reply = msgspec.convert(answer.content, call.reply)
            else:
                reply = msgspec.json.decode(answer.content or b"null", type=call.reply)
        except msgspec.MsgspecError as why:
            raise (yield from self._mismatch(f"{call.method} {call.path} is answered in another form ({why})")) from why
        self._note_state(call.bank, answer.headers.get("Memory-State"))
        return reply

    def refused(self, call: Call[T], answer: httpx.Response) -> Steps[Refused]:
        """The error that an answer tells of.

        Raises:
            VersionMismatch: it is not the answer of such a service.
        """
        retry_after_s = _seconds(answer.headers.get("Retry-After"))
        try:
            problem = msgspec.json.decode(answer.content, type=Problem)
        except msgspec.MsgspecError as why:
            phrase = f"{answer.status_code} {answer.reason_phrase} from {self.url}"
            if answer.status_code in GATEWAY:
                return refusal(Problem(GATEWAY[answer.status_code], phrase), answer.status_code, retry_after_s)
            raise (yield from self._mismatch(f"{call.method} {call.path} is answered with {phrase}")) from why
        error = refusal(problem, answer.status_code, retry_after_s)
        if _is_unknown_here(error):
            raise (yield from self._mismatch(f"it does not know {call.method} {call.path}")) from error
        if isinstance(error, Invalid) and "unknown field" in error.detail:
            told = yield from self._version()
            if told not in (None, API):
                raise self._differs(told, error.detail) from error
        return error

    def _mismatch(self, what: str) -> Steps[VersionMismatch]:
        return self._differs((yield from self._version()), what)

    def _differs(self, told: str | None, what: str) -> VersionMismatch:
        if told is None:
            return VersionMismatch(f"{self.url} does not answer like a Palimpsest: {what}; is this the address?")
        theirs, ours = _numbers(told), _numbers(API)
        if theirs > ours:
            return VersionMismatch(
                f"the service at {self.url} is newer (API {told}) than this client (API {API}): {what}; upgrade the client"
            )
        if theirs < ours:
            return VersionMismatch(
                f"the service at {self.url} is older (API {told}) than this client (API {API}): {what}; upgrade the service"
            )
        return VersionMismatch(f"the service at {self.url} and this client are both of API {API}, but {what}; upgrade the older of the two")

    def _version(self) -> Steps[str | None]:
        try:
            answer = yield from sent(Send("GET", f"{self.url}/openapi.json", self.timeout_s))
            return msgspec.json.decode(answer.content, type=_Document).info.version
        except (httpx.RequestError, msgspec.MsgspecError):
            return None

    def unreachable(self, cause: httpx.RequestError) -> Unreachable:
        """The error for an answer that did not come."""
        if isinstance(cause, httpx.TimeoutException):
            return Unreachable(f"{self.url} did not answer within {self.timeout_s:g} s")
        told = str(cause) or type(cause).__name__
        return Unreachable(f"{self.url} cannot be reached ({told}); is the service running, and is this its address?")

    def _note_state(self, bank: str | None, token: str | None) -> None:
        _, _, seq = (token or "").rpartition(":")
        if token is None or not seq.isdecimal():
            return
        with self._lock:
            if int(seq) >= self._seen.get(bank, (0, ""))[0]:
                self._seen[bank] = (int(seq), token)

    def _give_up_on(self, call: Call[T], error: PalimpsestError) -> None:
        # The caller is told once that the bank is behind what was seen. A bank that was deleted and made anew would be so for ever.
        if isinstance(error, Refused) and error.code == "state-unavailable":
            self.forget_state(call.bank)


class _Info(msgspec.Struct):
    version: str


class _Document(msgspec.Struct):
    info: _Info


def new_key() -> str:
    """An Idempotency-Key that nobody else uses."""
    return uuid4().hex


def segment(text: str) -> str:
    """A name or id as one segment of a path.

    Raises:
        NotConfigured: it is empty, or would be another path.
    """
    if text in ("", ".", "..") or "/" in text:  # servers and proxies take an encoded slash for a slash
        raise NotConfigured(f"{text!r} cannot be part of an address; ask by its id")
    return quote(text, safe="")


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What of it was given: without what is None."""
    return {name: value for name, value in fields.items() if value is not None}


def _is_unknown_here(error: Refused) -> bool:
    return isinstance(error, MethodNotAllowed) or (isinstance(error, NotFound) and error.detail.startswith(NO_SUCH_PATH))


def _wait(tried: int, advised_s: float | None) -> float:
    longest = FIRST_WAIT_S * 2**tried
    if advised_s is None:
        return random.uniform(0, longest)  # noqa: S311  # so that clients which failed together do not come back together
    return advised_s + random.uniform(0, min(longest, advised_s or longest))  # noqa: S311


def _seconds(retry_after: str | None) -> float | None:
    """A proxy may send a date instead; then our own times serve."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None


def _numbers(version_text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version_text.split(".")[:2])


def _address(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as why:
        raise NotConfigured(f"{base_url!r} is no address: {why}") from None
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise NotConfigured(f"{base_url!r} is no address of a service; it looks like https://memory.example.org")
    return base_url.rstrip("/")


def _key(api_key: str) -> str:
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key or not api_key:
        raise NotConfigured("the API key holds characters that no key has; is it quoted or cut?")
    return api_key

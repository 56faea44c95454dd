"""The change feed: what happens in a tenant, as it happens, and taken up where it broke off.

The service tells with each event its place in the feed, and with its silence, too, how far it has looked. Whatever ends a stream (the
service, a proxy, the network), the next one is asked to go on behind the last place, so that nothing is lost and nothing is told twice.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import msgspec

from palimpsest.errors import PalimpsestError
from palimpsest.exchange import Call, Exchange
from palimpsest.replies import Change
from palimpsest.steps import Outcome, Pause, Send, Steps

EVENT_STREAM = "text/event-stream"
SILENCE_S = 45.0  # three times as long as the service is silent at most: then the line is dead
PIECE_S = 600.0  # one stream lasts so long at most: a proxy that cuts long answers would do so in the middle
BETWEEN_S = 0.1


@dataclass(frozen=True, slots=True)
class Told:
    """Something that happened. `change` is None where something was missed, because it is not kept any more: read the state of things anew.

    `place` is where it stands in the feed: given as `since`, the feed goes on behind it.
    """

    place: str | None
    change: Change | None


class Feed:
    """One walk through the feed, however many streams it takes."""

    def __init__(self, exchange: Exchange, bank: str | None, events: Sequence[str], since: str | None, wait_s: float | None) -> None:
        self._exchange, self._place = exchange, since
        self._named = {"bank": bank, "events": ",".join(events) or None}
        self._until = None if wait_s is None else time.monotonic() + wait_s
        self._tried, self._begun, self._fields = 0, False, dict[str, str]()

    def ask(self) -> Send:
        """The next request, behind the last place."""
        self._begun, self._fields = False, {}
        send = self._exchange.sending(self._call())
        return Send(send.method, send.url, max(SILENCE_S, send.timeout_s), send.headers, send.params)

    def begins(self, answer: httpx.Response) -> bool:
        """Whether the answer is a stream."""
        self._begun = answer.is_success and answer.headers.get("Content-Type", "").startswith(EVENT_STREAM)
        return self._begun

    def take(self, line: str) -> Sequence[Told]:
        """What a line of server-sent events completes: an empty one ends an event."""
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return ()
        fields, self._fields = self._fields, {}
        self._place = fields.get("id", self._place)
        if "data" not in fields:
            return ()  # a comment, or a place alone
        self._tried = 0
        if fields.get("event") == "missed":
            return (Told(self._place, None),)
        return (Told(self._place, msgspec.json.decode(fields["data"], type=Change)),)

    def goes_on(self, outcome: Outcome) -> Steps[bool]:
        """Whether another stream follows.

        Raises:
            Refused, Unreachable, VersionMismatch: none can be had.
        """
        if self._begun and isinstance(outcome, httpx.Response):  # it ended in order
            left_s = self._left()
            if left_s is None or left_s > BETWEEN_S:
                yield Pause(BETWEEN_S)
                return True
            return False
        call = self._call()
        if isinstance(outcome, httpx.RequestError):
            error: PalimpsestError = self._exchange.unreachable(outcome)
        else:
            assert isinstance(outcome, httpx.Response)
            error = yield from self._exchange.refused(call, outcome)
        yield from self._exchange.again(call, error, self._tried)
        self._tried += 1
        return True

    def _call(self) -> Call[None]:
        left_s = self._left()
        waits = {"wait_s": PIECE_S if left_s is None else min(PIECE_S, max(0.0, left_s))}
        headers = {} if self._place is None else {"Last-Event-ID": self._place}
        return Call(method="GET", path="/v1/stream", reply=type(None), params={**self._named, **waits}, headers=headers)

    def _left(self) -> float | None:
        return None if self._until is None else self._until - time.monotonic()

"""Teaching and asking: what a client and a session of it can both do."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from palimpsest.exchange import Call, Exchange, new_key
from palimpsest.replies import Page, Recalled, RecalledBatch, Taught, TaughtBatch
from palimpsest.steps import Driven, Listing, Steps, Way, method
from palimpsest.turns import Turn

T = TypeVar("T")


class _Needed(TypedDict):
    input: str
    right: str


class NewCorrection(_Needed, total=False):
    """A correction of a batch; its parts are those of `Asking.correct`."""

    wrong: str | None
    paraphrases: Sequence[str]
    metadata: Mapping[str, Any]
    session_id: str | None


class Asking(Driven[Way]):
    """A bank of a service to teach and to ask; where corrections name no session they get `session_id`."""

    def __init__(self, way: Way, exchange: Exchange, bank: str | None, session_id: str | None = None) -> None:
        self._way, self._exchange, self._bank, self._session_id = way, exchange, bank, session_id

    @property
    def bank(self) -> str | None:
        """The bank that calls are about when they name none; None leaves it to the service."""
        return self._bank

    @method
    def correct(
        self,
        input: str,
        right: str,
        wrong: str | None = None,
        *,
        paraphrases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        bank: str | None = None,
        idempotency_key: str | None = None,
    ) -> Steps[Taught]:
        """Teach: in the situation `input` the right answer is `right`, and was not `wrong`.

        When it returns the correction is durable and in the weights. `paraphrases` are only asked: the receipt counts those answered right.
        """
        body = {
            "input": input,
            "right": right,
            "wrong": wrong,
            "paraphrases": list(paraphrases) or None,
            "metadata": metadata,
            "session_id": session_id or self._session_id,
        }
        return self._post("/v1/corrections", Taught, body, bank=bank, key=idempotency_key or new_key())

    @method
    def correct_many(
        self, items: Sequence[NewCorrection], *, bank: str | None = None, idempotency_key: str | None = None
    ) -> Steps[TaughtBatch]:
        """Teach up to 1,000 corrections in order, all or none."""
        named = {} if self._session_id is None else {"session_id": self._session_id}
        body = {"items": [named | {name: value for name, value in item.items() if value is not None} for item in items]}
        return self._post("/v1/corrections/batch", TaughtBatch, body, bank=bank, key=idempotency_key or new_key())

    @method
    def recall(
        self,
        input: str,
        *,
        top_k: int = 1,
        min_confidence: float | None = None,
        at: str | None = None,
        explain: bool = False,
        bank: str | None = None,
    ) -> Steps[Recalled]:
        """Ask what is right in a situation; `.value` is the best answer, or None when the memory abstains.

        `at` asks a snapshot. With `min_confidence=0` guesses are told, too; `explain` adds why each answer was given.
        """
        body = {"input": input, **_options(top_k, min_confidence, at, explain)}
        return self._post("/v1/recall", Recalled, body, bank=bank, fresh=at is None)

    @method
    def recall_many(
        self,
        inputs: Sequence[str],
        *,
        top_k: int = 1,
        min_confidence: float | None = None,
        at: str | None = None,
        explain: bool = False,
        bank: str | None = None,
    ) -> Steps[RecalledBatch]:
        """Ask about up to 1,000 situations at one state."""
        body = {"inputs": list(inputs), **_options(top_k, min_confidence, at, explain)}
        return self._post("/v1/recall/batch", RecalledBatch, body, bank=bank, fresh=at is None)

    @method
    def remembered(self, input: str, *, top_k: int = 1, bank: str | None = None) -> Steps[Turn[Way]]:
        """Recall for the usual loop: `.note` goes into the prompt, `.correct(right)` teaches when the agent is corrected."""
        recalled = yield from Asking.recall(self, input, top_k=top_k, bank=bank)

        def teach(right: str, wrong: str | None) -> Steps[Taught]:
            return Asking.correct(self, input, right, wrong, bank=bank)

        return Turn(self._way, input, recalled, teach)

    def _get(self, path: str, reply: type[T], bank: str | None, *, by_bank: bool = True, fresh: bool = False, **params: object) -> Steps[T]:
        named = self._named(bank) if by_bank else None
        return self._exchange.perform(Call(method="GET", path=path, reply=reply, bank=named, params={"bank": named, **params}, fresh=fresh))

    def _post(
        self,
        path: str,
        reply: type[T],
        body: dict[str, Any] | None,
        *,
        bank: str | None = None,
        by_bank: bool = True,
        key: str | None = None,
        fresh: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Steps[T]:
        named = self._named(bank) if by_bank else None
        told = {**(headers or {}), **({} if key is None else {"Idempotency-Key": key})}
        said = None if body is None else {**body, "bank": named}
        return self._exchange.perform(Call(method="POST", path=path, reply=reply, bank=named, body=said, headers=told, fresh=fresh))

    def _list(self, path: str, page: type[Page[T]], bank: str | None, *, by_bank: bool = True, **params: object) -> Listing[T]:
        def get(cursor: str | None) -> Steps[Page[T]]:
            said: dict[str, Any] = {"cursor": cursor, **params}
            return self._get(path, page, bank, by_bank=by_bank, **said)

        return Listing(get)

    def _named(self, bank: str | None) -> str | None:
        return bank if bank is not None else self._bank


def _options(top_k: int, min_confidence: float | None, at: str | None, explain: bool) -> dict[str, Any]:
    return {"top_k": top_k, "min_confidence": min_confidence, "at": at, "explain": explain}

"""What is answered to those who teach and ask."""

from datetime import datetime
from typing import Any

from msgspec import field

from palimpsest.replies.parts import Reply, Said, StateRef, Usage


class BeforeAfter(Reply, frozen=True, kw_only=True):
    """What the memory said to the taught input before and after the correction."""

    before: Said
    after: Said


class ParaphraseCheck(Reply, frozen=True, kw_only=True):
    """How many of the given paraphrases are answered right after the correction."""

    n: int
    fixed: int


class Locality(Reply, frozen=True, kw_only=True):
    """What the correction did to others: `n` of them, those nearest to it, were asked; the `flipped` ones are answered otherwise now."""

    n: int = 0
    flipped: list[str] = field(default_factory=list)


class Receipt(Reply, frozen=True, kw_only=True):
    """The proof that a correction worked."""

    item: BeforeAfter
    paraphrase: ParaphraseCheck
    locality: Locality = field(default_factory=Locality)


class Taught(Reply, frozen=True, kw_only=True):
    """An acknowledged correction: durable, and in the weights."""

    id: str
    seq: int
    status: str
    receipt: Receipt
    state: StateRef
    usage: Usage


class TaughtBatch(Reply, frozen=True, kw_only=True):
    """Results of a batch, in order."""

    items: list[Taught]
    state: StateRef
    usage: Usage


class Answer(Reply, frozen=True, kw_only=True):
    """A remembered answer: `support` names the corrections it rests on, `level` the level that knew it, `why` explains on request."""

    value: str
    confidence: float
    support: list[str]
    level: str
    why: dict[str, Any] | None = None


class RecalledItem(Reply, frozen=True, kw_only=True):
    """Answers to one input, best first. When the memory abstains they are empty, or guesses if `min_confidence` was 0."""

    answers: list[Answer]
    abstained: bool

    @property
    def value(self) -> str | None:
        """The best answer; None when the memory abstains."""
        return None if self.abstained or not self.answers else self.answers[0].value


class Recalled(RecalledItem, frozen=True, kw_only=True):
    """Answers to one input, and the state that gave them."""

    id: str
    state: StateRef
    usage: Usage


class RecalledBatch(Reply, frozen=True, kw_only=True):
    """Results in the order of the inputs, all of one state."""

    id: str
    results: list[RecalledItem]
    state: StateRef
    usage: Usage


class Correction(Reply, frozen=True, kw_only=True):
    """A correction as the ledger holds it; texts are None once erased."""

    id: str
    seq: int
    status: str
    input: str | None
    right: str | None
    wrong: str | None
    session_id: str | None
    metadata: dict[str, Any]
    created_at: datetime


class EventRow(Reply, frozen=True, kw_only=True):
    """One row of the ledger with its place in the hash chain; texts are None once erased."""

    id: str
    seq: int
    kind: str
    epoch: int
    session_id: str | None
    input: str | None
    right: str | None
    wrong: str | None
    tokens: int
    prev_hash: str
    hash: str
    created_at: datetime
    redacted_at: datetime | None


class Proposal(Reply, frozen=True, kw_only=True):
    """What a user seems to have corrected in a conversation: nothing is learned before it is confirmed. `bank` is an id."""

    id: str
    bank: str
    input: str
    wrong: str
    right: str
    session_id: str | None
    created_by: str
    created_at: datetime


class Warmth(Reply, frozen=True, kw_only=True):
    """Whether a bank was in memory, and how long its load took or when to try again."""

    warm: bool
    eta_ms: float


class SessionInfo(Reply, frozen=True, kw_only=True):
    """A session, open until `expires_at` unless it is used before then. `bank` is an id."""

    id: str
    bank: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class OpenedSession(SessionInfo, frozen=True, kw_only=True):
    """A session that was just opened: where its bank stands, and whether it is in memory."""

    state: StateRef | None
    warm: bool
    eta_ms: float

"""What agents say: teach, recall, and the ledger rows that come of it."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, field

from service.wire.parts import (
    BATCH_MAX,
    CorrectionStatus,
    Id,
    Name,
    Reply,
    Request,
    Said,
    Share,
    StateRef,
    Text,
    TopK,
    Usage,
)


class NewCorrection(Request, frozen=True, kw_only=True):
    """Teach: in the situation `input` the right answer is `right` (and was not `wrong`). `paraphrases` are only asked."""

    input: Text
    right: Text
    wrong: Text | None = None
    bank: Name | None = None
    session_id: Id | None = None
    paraphrases: Annotated[list[Text], Meta(max_length=16)] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


class NewCorrections(Request, frozen=True, kw_only=True):
    """Up to 1,000 corrections, applied in order, all or none."""

    items: Annotated[list[NewCorrection], Meta(min_length=1, max_length=BATCH_MAX)]
    bank: Name | None = None


class BeforeAfter(Reply, frozen=True, kw_only=True):
    """What the memory said to the taught input before and after the correction."""

    before: Said
    after: Said


class ParaphraseCheck(Reply, frozen=True, kw_only=True):
    """How many of the client's paraphrases are answered right after the correction."""

    n: int
    fixed: int


class Locality(Reply, frozen=True, kw_only=True):
    """Of `n` other live corrections, those nearest to the taught input, the `flipped` ones are answered otherwise than before."""

    n: int = 0
    flipped: list[str] = field(default_factory=list)


class Receipt(Reply, frozen=True, kw_only=True):
    """The proof that a correction worked."""

    item: BeforeAfter
    paraphrase: ParaphraseCheck
    locality: Locality = field(default_factory=Locality)


class Taught(Reply, frozen=True, kw_only=True):
    """An acknowledged correction: its ledger row is durable and the weights answer with it."""

    id: str
    seq: int
    status: CorrectionStatus
    receipt: Receipt
    state: StateRef
    usage: Usage


class TaughtBatch(Reply, frozen=True, kw_only=True):
    """Per-item results of a batch, in order."""

    items: list[Taught]
    state: StateRef
    usage: Usage


class RecallOptions(Request, frozen=True, kw_only=True):
    """What one question and a batch of questions share."""

    bank: Name | None = None
    top_k: TopK = 1
    min_confidence: Share | None = None
    at: Id | None = None
    explain: bool = False


class RecallRequest(RecallOptions, frozen=True, kw_only=True):
    """Ask the memory about one situation."""

    input: Text


class RecallBatchRequest(RecallOptions, frozen=True, kw_only=True):
    """Ask about up to 1,000 situations at one state."""

    inputs: Annotated[list[Text], Meta(min_length=1, max_length=BATCH_MAX)]


class Answer(Reply, frozen=True, kw_only=True):
    """A remembered response: `support` names the corrections it rests on, `level` the level that knew it."""

    value: str
    confidence: float
    support: list[str]
    level: str
    why: dict[str, Any] | None = None


class Recalled(Reply, frozen=True, kw_only=True):
    """Answers, best first; empty when the memory abstains."""

    id: str
    answers: list[Answer]
    abstained: bool
    state: StateRef
    usage: Usage


class RecalledItem(Reply, frozen=True, kw_only=True):
    """One result of a recall batch."""

    answers: list[Answer]
    abstained: bool


class RecalledBatch(Reply, frozen=True, kw_only=True):
    """Results in the order of the inputs."""

    id: str
    results: list[RecalledItem]
    state: StateRef
    usage: Usage


class Correction(Reply, frozen=True, kw_only=True):
    """A correction as the ledger holds it; text fields are null once erased."""

    id: str
    seq: int
    status: CorrectionStatus
    input: str | None
    right: str | None
    wrong: str | None
    session_id: str | None
    metadata: dict[str, Any]
    created_at: datetime


class EventRow(Reply, frozen=True, kw_only=True):
    """One ledger row: its place in the hash chain and what it says; text fields are null once erased."""

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


class Warmth(Reply, frozen=True, kw_only=True):
    """Whether a bank was in memory when it was asked for, and how long its load took (0: none)."""

    warm: bool
    eta_ms: float

"""What is said about versions of a bank: snapshots changed, compared, checked and carried; rollback; bisection."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from service.wire.admin import Snapshot
from service.wire.parts import BATCH_MAX, Id, Name, Note, Reply, Request, Said, Source, StateRef, Text

PROBES, COMPARED_MAX = 64, 1_000  # corrections that states are asked about to compare them: as a rule, and at most

Probes = Annotated[int, Meta(ge=1, le=COMPARED_MAX)]


class SnapshotChange(Request, frozen=True, kw_only=True):
    """Change what is said about a snapshot; a field that is not given stays, null takes a label or a note away."""

    label: Name | UnsetType | None = UNSET
    note: Note | UnsetType | None = UNSET
    pinned: bool | UnsetType = UNSET


class RollbackRequest(Request, frozen=True, kw_only=True):
    """Move the head: back `to` a snapshot, to the state at `to_time`, or to now without everything from a `source`; one of these.

    `keep` says which corrections are in the new state besides: none, those that came after it and hold still, or chosen ones. `dry_run`
    only tells which answers would flip. `probes`: how many corrections are asked, at most.
    """

    to: Id | None = None
    to_time: Annotated[datetime, Meta(tz=True)] | None = None
    source: Source | None = None
    keep: Literal["none", "corrections_after"] | Annotated[list[Id], Meta(min_length=1, max_length=BATCH_MAX)] = "none"
    levels: Literal["all"] | Annotated[list[Name], Meta(min_length=1, max_length=16)] = "all"
    bank: Name | None = None
    dry_run: bool = False
    reason: Note | None = None
    probes: Probes = PROBES


class Flip(Reply, frozen=True, kw_only=True):
    """A probe whose answer differs between two states. Probes are inputs of the bank's own corrections."""

    correction: str
    input: str
    before: Said
    after: Said


class RolledBack(Reply, frozen=True, kw_only=True):
    """The new head, the snapshot taken before the move, and the probes whose answer changes. Ids are null in a dry run.

    `removed` and `restored`: how many events leave the weights and how many come back. `probes` of `probes_of` corrections were asked: a
    sample where these are more. `job_id`: the new state has first to be folded by this job; nothing was asked and nothing has changed, and
    the same request is to be made again once the job has succeeded.
    """

    head: str | None
    pre_rollback: str | None
    flips: list[Flip]
    probes: int
    removed: int
    restored: int
    dry_run: bool
    state: StateRef
    probes_of: int = 0
    job_id: str | None = None


class Moved(Reply, frozen=True, kw_only=True):
    """A correction that one of two states holds; texts are null once it is forgotten, and while it is in quarantine."""

    id: str
    seq: int
    input: str | None
    right: str | None


class LevelDrift(Reply, frozen=True, kw_only=True):
    """A level's weights in two states: the norm of each, and how far they are apart, ‖a − b‖ / max(‖a‖, ‖b‖)."""

    name: str
    before_norm: float
    after_norm: float
    drift: float


class SnapshotDiff(Reply, frozen=True, kw_only=True):
    """What differs between two states. Lists have the newest corrections, `…_total` counts all.

    `probes` of the `probes_of` live corrections were asked: a sample where these are more, half of it of those that one state lacks.
    """

    before: StateRef
    after: StateRef
    gained: list[Moved]
    gained_total: int
    lost: list[Moved]
    lost_total: int
    flips: list[Flip]
    probes: int
    levels: list[LevelDrift]
    probes_of: int = 0


class Check(Reply, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


class Verified(Reply, frozen=True, kw_only=True):
    """What a snapshot's bytes and its ledger are found to be. `ok`: all checks are."""

    snapshot: str
    ok: bool
    checks: list[Check]


class NewExport(Request, frozen=True, kw_only=True):
    """Make a bundle of a snapshot; with `ledger` the corrections up to it are in it, too."""

    bank: Name | None = None
    ledger: bool = False


class Imported(Reply, frozen=True, kw_only=True):
    """The new snapshot, never the head; and how many of the bundle's probes were asked of it, and are answered as the bundle says."""

    snapshot: Snapshot
    probes: int
    agreeing: int


class NewBisection(Request, frozen=True, kw_only=True):
    """Find what brought the present answer to `input`, or that of the snapshot `until`.

    It is looked for among all corrections, or those after the snapshot `since`.
    """

    input: Text
    bank: Name | None = None
    since: Id | None = None
    until: Id | None = None


class NewBranch(Request, frozen=True, kw_only=True):
    """Make a bank `name` that begins with what a bank holds now, or held at a snapshot."""

    name: Name
    bank: Name | None = None
    at: Id | None = None


class Branch(Reply, frozen=True, kw_only=True):
    """A branch is a bank: `id` names it wherever a bank is named. `bank` is the one that it was made from."""

    id: str
    name: str
    bank: str
    corrections: int
    created_by: str
    created_at: datetime


class Promotion(Request, frozen=True, kw_only=True):
    """Bring what was taught in a branch into the bank that it was made from; with `refold` also when that bank has moved since."""

    refold: bool = False


class Promoted(Reply, frozen=True, kw_only=True):
    """The corrections as the bank has them now, in order; the branch is gone. `before`: a snapshot of the bank before them."""

    bank: str
    corrections: list[str]
    before: str
    state: StateRef

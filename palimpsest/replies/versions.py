"""What is answered about versions of a bank: snapshots, what differs between them, rollback, branches."""

from datetime import datetime

from palimpsest.replies.parts import Reply, Said, StateRef


class LevelBlob(Reply, frozen=True, kw_only=True):
    """The content address of a snapshot's level."""

    name: str
    sha256: str
    bytes: int


class Snapshot(Reply, frozen=True, kw_only=True):
    """An immutable saved state; `tainted_by` names forgotten corrections that it still holds."""

    id: str
    parent: str | None
    kind: str
    seq: int
    corrections: int
    digest: str
    levels: list[LevelBlob]
    label: str | None
    note: str | None
    pinned: bool
    tainted_by: list[str]
    config_hash: str
    is_head: bool
    created_by: str
    created_at: datetime


class Flip(Reply, frozen=True, kw_only=True):
    """A taught input whose answer differs between two states."""

    correction: str
    input: str
    before: Said
    after: Said


class RolledBack(Reply, frozen=True, kw_only=True):
    """The new head, the snapshot that undoes the rollback, and the answers that change. Ids are None in a dry run.

    `removed` and `restored`: how many events leave the weights and how many come back. `probes` of `probes_of` corrections were asked: a
    sample where these are more. `job_id`: nothing was done but that this job folds the new state first; `rollback` waits for it and asks
    again.
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
    """A correction that one of two states holds; texts are None once it is forgotten, and while it is in quarantine."""

    id: str
    seq: int
    input: str | None
    right: str | None


class LevelDrift(Reply, frozen=True, kw_only=True):
    """How far a level's weights are apart in two states: the norm of each, and that of their difference."""

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


class Imported(Reply, frozen=True, kw_only=True):
    """The new snapshot, never the head; and how many of the bundle's probes were asked of it, and are answered as the bundle says."""

    snapshot: Snapshot
    probes: int
    agreeing: int


class Branch(Reply, frozen=True, kw_only=True):
    """A branch is a bank: `id` names it wherever a bank is named. `bank` is the one that it was made from."""

    id: str
    name: str
    bank: str
    corrections: int
    created_by: str
    created_at: datetime


class Promoted(Reply, frozen=True, kw_only=True):
    """The corrections as the bank has them now, in order; the branch is gone. `before`: a snapshot of the bank before them."""

    bank: str
    corrections: list[str]
    before: str
    state: StateRef

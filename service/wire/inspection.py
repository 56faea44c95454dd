"""What is said by and to those who look into a memory: levels, traces, probes, explanations, search, statistics."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from service.wire.parts import CorrectionStatus, Id, Name, Reply, Request, Said, StateRef, Text, Usage

PROBES_MAX = 200
VERSIONS_MAX = 20
SAMPLE_MAX = 64
HEAD = "head"  # what `at` may say for the present state

Versions = Annotated[list[Id], Meta(min_length=1, max_length=VERSIONS_MAX)]
Bucket = Literal["hour", "day", "week"]


class LevelView(Reply, frozen=True, kw_only=True):
    """One level of a bank: its clock, its weights, and what it would know alone.

    `updates` so far, and `tokens_until_update`: the tokens to be taught until the next (0: every correction). `drift_start` and
    `drift_snapshot` compare its weights with those of an empty bank and of the newest snapshot, ‖a − b‖ / max(‖a‖, ‖b‖). It holds `pairs`
    of the `capacity` that it keeps apart. The last four ask a sample of live corrections at their own inputs, this level alone; null where
    there are none. `alone`: the share that it answers right. `strength`: mean confidence of the right answer. `margin`: mean score by which
    that is above the best other. `half_life`: later corrections in which the strength halves; null where the sample shows no decline.
    """

    name: str
    period_tokens: int | None
    updates: int
    tokens_until_update: int
    norm: float
    drift_start: float
    drift_snapshot: float | None
    pairs: int
    capacity: int
    alone: float | None
    strength: float | None
    margin: float | None
    half_life: float | None


class Levels(Reply, frozen=True, kw_only=True):
    """All levels at one state; `compared_with` is the snapshot of `drift_snapshot`, `sample` how many corrections were asked."""

    bank: str
    state: StateRef
    levels: list[LevelView]
    clock_tokens: int
    compared_with: str | None
    corrections: int
    sample: int


class LevelStrength(Reply, frozen=True, kw_only=True):
    """How strongly a level, were it alone, gives a correction's answer at its input. `rank` 1 is the best answer; null: it says nothing."""

    name: str
    score: float
    confidence: float
    rank: int | None


class SnapshotStrength(Reply, frozen=True, kw_only=True):
    """The same of a whole state: a snapshot that holds the correction."""

    snapshot: str
    kind: str
    seq: int
    created_at: datetime
    label: str | None
    score: float
    confidence: float
    rank: int | None


class Removal(Reply, frozen=True, kw_only=True):
    """What took a correction out: a move of the head (`id` of the snapshot that became it) or a `forget` or
    a `quarantine` (its id and `mode`)."""

    by: Literal["rollback", "rebuild", "consolidation", "forget", "quarantine"]
    id: str
    at: datetime
    mode: str | None = None


class Trace(Reply, frozen=True, kw_only=True):
    """Where a correction lives. Null and empty where it is forgotten or in quarantine.

    `snapshots`: the newest of the `holding` ones, newest first. `right_now`: whether its right answer is the one that is
    given at its input. `verified_at`: when that was asked, just now.
    """

    id: str
    seq: int
    status: CorrectionStatus
    superseded_by: str | None
    removed: Removal | None
    right_now: bool | None
    confidence: float | None
    rank: int | None
    levels: list[LevelStrength]
    snapshots: list[SnapshotStrength]
    holding: int
    verified_at: datetime | None
    state: StateRef


class ProbeRequest(Request, frozen=True, kw_only=True):
    """Ask each input of each version; `at` names snapshots, or `head` for the present state."""

    inputs: Annotated[list[Text], Meta(min_length=1, max_length=PROBES_MAX)]
    at: Versions = field(default_factory=lambda: [HEAD])
    bank: Name | None = None


class Cell(Reply, frozen=True, kw_only=True):
    """What a version says to an input. When it abstains, `value` is its best guess, or null if it has none."""

    value: str | None
    confidence: float
    abstained: bool


class AskedVersion(Reply, frozen=True, kw_only=True):
    """A version that was asked: as it was named, and the state it is."""

    at: str
    state: StateRef


class Probed(Reply, frozen=True, kw_only=True):
    """A row for each input, in it a cell for each version, in the order that was asked."""

    versions: list[AskedVersion]
    rows: list[list[Cell]]
    usage: Usage


class Probe(Request, frozen=True, kw_only=True):
    """A question with its right answer; null: there is none, the memory should abstain."""

    input: Text
    expected: Text | None


class NewProbeSet(Request, frozen=True, kw_only=True):
    """Save a named list of probes for a bank."""

    name: Name
    probes: Annotated[list[Probe], Meta(min_length=1, max_length=PROBES_MAX)]
    bank: Name | None = None


class ChangedProbeSet(Request, frozen=True, kw_only=True):
    """Put these probes in the place of all that a set has."""

    probes: Annotated[list[Probe], Meta(min_length=1, max_length=PROBES_MAX)]


class ProbeSet(Reply, frozen=True, kw_only=True):
    """A saved list of probes; in lists without the `probes` themselves."""

    id: str
    bank: str
    name: str
    size: int
    probes: list[Probe] | None
    created_by: str
    created_at: datetime


class RunProbeSet(Request, frozen=True, kw_only=True):
    """Ask a probe set of each version."""

    at: Versions = field(default_factory=lambda: [HEAD])


class ProbeFailure(Reply, frozen=True, kw_only=True):
    """A probe that was not answered as expected: its place in the set, and what was said (null: it abstained)."""

    place: int
    input: str
    expected: str | None
    said: Said


class ProbeRun(Reply, frozen=True, kw_only=True):
    """How one version did on a probe set."""

    at: str
    state: StateRef
    passed: int
    failed: int
    failures: list[ProbeFailure]


class RanProbeSet(Reply, frozen=True, kw_only=True):
    """How each version did, in the order that was asked."""

    id: str
    versions: list[ProbeRun]
    usage: Usage


class ExplainRequest(Request, frozen=True, kw_only=True):
    """Why does the memory answer so? `sample`: corrections nearest to the input that are left out, one at a time."""

    input: Text
    at: Id = HEAD
    sample: Annotated[int, Meta(ge=1, le=SAMPLE_MAX)] = 8
    bank: Name | None = None


class Carrier(Reply, frozen=True, kw_only=True):
    """A correction and the answer without it: `score`, `confidence` and `rank` (null: nothing else says it), and what is `said` instead.

    `carries`: the score that the answer would lose (negative: gain). `cosine` of its input with the question. `level`: where it lies,
    `fast`, or `middle` once its pairs have left the window.
    """

    correction: str
    level: str
    cosine: float
    carries: float
    score: float
    confidence: float
    rank: int | None
    said: Said


class Counter(Reply, frozen=True, kw_only=True):
    """The best other answer, and of its corrections the one nearest to the question."""

    value: str
    score: float
    confidence: float
    correction: str | None
    cosine: float | None


class LevelShare(Reply, frozen=True, kw_only=True):
    """What a level adds to the score of the answer; all levels make up the whole."""

    name: str
    score: float


class Explained(Reply, frozen=True, kw_only=True):
    """The best answer and what carries it, strongest first. `value` is a guess if `abstained`; null, and all else empty, if there is none.

    `method` says how a correction was left out: `fold`, the memory folded again without it (exact), or `pairs`, its pairs taken out of the
    fast level as they are (what the others would have learned without it is not counted); of a correction that lies in the middle level,
    what falls to it of what that says (an estimate).
    """

    value: str | None
    score: float
    confidence: float
    abstained: bool
    level: str | None
    levels: list[LevelShare]
    carriers: list[Carrier]
    sample: int
    method: Literal["fold", "pairs"]
    counter: Counter | None
    state: StateRef
    usage: Usage


class Moment(Reply, frozen=True, kw_only=True):
    """One bucket from `at` on. Of its `corrections`, `measured` have a receipt: in `mistakes` the memory said something else before, in
    `unknown` nothing. `surprise`: mean of 1 − confidence of the right answer before. `drift` of each level between automatic snapshots.
    """

    at: datetime
    corrections: int
    measured: int
    mistakes: int
    unknown: int
    surprise: float | None
    drift: dict[str, float]


class Stats(Reply, frozen=True, kw_only=True):
    """A bank's course: a moment for each bucket of the time that was asked for, oldest first."""

    bank: str
    bucket: Bucket
    series: list[Moment]

"""Looking into a memory: levels, traces, probes, explanations, search, statistics. Nothing here changes what it knows."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.limits import BY_ITEMS
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Pager
from service.api.texts import check_inputs, known_form
from service.errors import Invalid
from service.store import corrections, history, lookup

TAGS = ["inspection"]
WORDS_MAX = 8  # of a search
BUCKETS_MAX = 1_000
EARLIEST, LATEST = datetime(1972, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
SPAN = {"hour": timedelta(days=2), "day": timedelta(days=30), "week": timedelta(days=364)}  # that is shown when nobody says since when

Sample = Annotated[int, QueryParameter(ge=1, le=256, description="Live corrections that are asked of every level, at most.")]
Words = Annotated[str, QueryParameter(min_length=1, max_length=256, description="Parts of texts, all of which have to be found.")]
Bucket = Annotated[wire.Bucket, QueryParameter(description="How long each part of the time is.")]
Since = Annotated[datetime | None, QueryParameter(description="From this time on; else two days, thirty days or a year.")]
Until = Annotated[datetime | None, QueryParameter(description="Up to this time; else now.")]


@get(
    "/v1/memory/levels",
    operation_id="get_levels",
    summary="Each level: its clock, weights, and what it knows alone",
    tags=TAGS,
    opt=needs("memory:inspect"),
)
async def get_levels(caller: NamedDependency[Caller], bank: BankParam = None, sample: Sample = 64) -> Response[wire.Levels]:
    """Strengths are measured now, on a sample of live corrections that is spread evenly over the ledger."""
    return replies.send(await caller.deps.engine.levels(caller.tenant, await caller.bank(bank), sample=sample))


@get(
    "/v1/memory/corrections/{correction_id:str}/trace",
    operation_id="trace_correction",
    summary="Where a correction lives: by level and by snapshot",
    tags=TAGS,
    opt=needs("memory:inspect"),
)
async def trace_correction(caller: NamedDependency[Caller], correction_id: FromPath[str], bank: BankParam = None) -> Response[wire.Trace]:
    """Asked now, at the correction's own input; nothing is asked about a forgotten one."""
    return replies.send(await caller.deps.engine.trace(caller.tenant, await caller.bank(bank), known_form(correction_id)))


@post(
    "/v1/memory/probe",
    operation_id="probe",
    summary="Ask up to 200 inputs of up to 20 versions",
    tags=TAGS,
    opt=needs("memory:inspect") | BY_ITEMS,
    dto=Strict[wire.ProbeRequest],
    status_code=200,
)
async def probe(caller: NamedDependency[Caller], data: JSONBody[wire.ProbeRequest]) -> Response[wire.Probed]:
    """A row for each input, a cell in it for each version."""
    await caller.charge(len(data.inputs) * len(data.at))
    check_inputs("inputs", data.inputs)
    bank = await caller.bank(data.bank)

    async def work(_: str | None) -> wire.Probed:
        return await caller.deps.engine.probe(caller.tenant, bank, data.inputs, at=data.at)

    return await once(caller, work, status=200, quotes=True, reads=True)


@post(
    "/v1/memory/explain",
    operation_id="explain",
    summary="Why the memory answers so",
    tags=TAGS,
    opt=needs("memory:inspect"),
    dto=Strict[wire.ExplainRequest],
    status_code=200,
)
async def explain(caller: NamedDependency[Caller], data: JSONBody[wire.ExplainRequest]) -> Response[wire.Explained]:
    """The corrections that carry the best answer, what each level adds to it, and the best other one."""
    check_inputs("input", [data.input])
    bank = await caller.bank(data.bank)

    async def work(_: str | None) -> wire.Explained:
        return await caller.deps.engine.explain(caller.tenant, bank, data.input, at=data.at, sample=data.sample)

    return await once(caller, work, status=200, quotes=True, reads=True)


@get("/v1/memory/search", operation_id="search", summary="Corrections by what they say", tags=TAGS, opt=needs("memory:inspect"))
async def search(
    caller: NamedDependency[Caller], q: Words, bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Correction]]:
    """Newest first. Upper and lower case are one; input, right, wrong and metadata are searched; forgotten corrections are not found."""
    words = _words(q)
    row = await caller.bank_row(bank)
    asked = hashlib.sha256(" ".join(words).encode()).hexdigest()[:32]
    pager = Pager(f"search:{row.id}:{asked}", int, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda before, number: lookup.search(conn, caller.tenant, row.id, words, before, number), _same, _same)
        events = await history.by_seqs(conn, caller.tenant, row.id, page.items)
        items = await corrections.shown(conn, caller.tenant, row, events[::-1])
    return replies.send(wire.Page(items=items, next_cursor=page.next_cursor))


@get("/v1/stats", operation_id="get_stats", summary="A bank's course: mistakes, surprise, drift", tags=TAGS, opt=needs("memory:inspect"))
async def get_stats(
    caller: NamedDependency[Caller], bank: BankParam = None, bucket: Bucket = "day", since: Since = None, until: Until = None
) -> Response[wire.Stats]:
    """A moment for each bucket that has any part in the time that is asked for; at most 1,000."""
    end = _utc("until", until) or caller.deps.now()
    begin = _utc("since", since) or end - SPAN[bucket]
    first, last = lookup.place_of(begin, bucket), lookup.place_of(end, bucket)
    if begin >= end or last - first >= BUCKETS_MAX:
        message = f"must be before `until`, by at most {BUCKETS_MAX} buckets; take a larger `bucket` or another time"
        raise Invalid(f"since: {message}", errors=[{"field": "since", "message": message}])
    row = await caller.bank_row(bank)
    async with caller.deps.database.read(caller.tenant) as conn:
        counted = {each.place: each for each in await lookup.course(conn, caller.tenant, row.id, bucket, begin, end)}
        drifted = await lookup.drifts(conn, caller.tenant, row.id, begin, end)
    drifts = {lookup.place_of(each.created_at, bucket): each.levels for each in drifted}
    nothing = lookup.Counted(0, 0, 0, 0, 0, None)
    series = [_moment(place, bucket, counted.get(place, nothing), drifts.get(place, {})) for place in range(first, last + 1)]
    return replies.send(wire.Stats(bank=row.id, bucket=bucket, series=series))


def _moment(place: int, bucket: wire.Bucket, counted: lookup.Counted, drift: dict[str, float]) -> wire.Moment:
    return wire.Moment(
        at=lookup.beginning(place, bucket),
        corrections=counted.corrections,
        measured=counted.measured,
        mistakes=counted.mistakes,
        unknown=counted.unknown,
        surprise=counted.surprise,
        drift=drift,
    )


def _words(asked: str) -> list[str]:
    check_inputs("q", [asked])
    words = lookup.words_of(asked)
    if len(words) > WORDS_MAX:
        message = f"has {len(words)} words; {WORDS_MAX} are the most"
        raise Invalid(f"q: {message}", errors=[{"field": "q", "message": message}])
    return words


def _utc(field: str, given: datetime | None) -> datetime | None:
    if given is None:
        return None
    message = ""
    if given.tzinfo is None:
        message = "must name its zone, as in 2026-11-29T12:00:00Z"
    elif not EARLIEST <= given <= LATEST:
        message = f"must be within {EARLIEST.year} and {LATEST.year}"
    if message:
        raise Invalid(f"{field}: {message}", errors=[{"field": field, "message": message}])
    return given


def _same(seq: int) -> int:
    return seq

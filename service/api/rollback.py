"""Going back, and finding out where to: rollback and bisection."""

from typing import Annotated

from litestar import Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.sources import ONE, names_one
from service.api.texts import check_inputs, check_note
from service.errors import Invalid
from service.store.idempotency import Committed

TAGS = ["versions"]
FIRST_YEAR, LAST_YEAR = 1970, 9998  # beyond them a time may have no UTC


class _Preparing(Exception):  # no error: it leaves the Idempotency-Key as free as it was
    """Nothing was done but to queue a job."""

    def __init__(self, told: wire.RolledBack) -> None:
        super().__init__()
        self.told = told


IfMatch = Annotated[
    str | None, HeaderParameter(name="If-Match", max_length=200, description="`etag` of the bank; 412 when its head has moved.")
]


@post(
    "/v1/rollback",
    operation_id="roll_back",
    summary="Return to the behaviour of a snapshot, of a moment, or of a bank that never heard a source",
    tags=TAGS,
    opt=needs("rollback"),
    dto=Strict[wire.RollbackRequest],
    status_code=200,
    responses={202: ResponseSpec(wire.RolledBack, description="The state takes long to fold: a job does that first, nothing was done yet")},
)
async def roll_back(
    caller: NamedDependency[Caller], data: JSONBody[wire.RollbackRequest], if_match: IfMatch = None
) -> Response[wire.RolledBack]:
    """The state before is saved first, so that a rollback can be rolled back. `dry_run` tells which answers would change.

    202 with a `job_id`: more than a request has time for is to be folded, so a job does that first. Make the same request again, with the
    same Idempotency-Key, when the job has succeeded.
    """
    check_note("reason", data.reason)
    _check(data)
    bank = await caller.bank(data.bank)

    async def work(key: str | None) -> wire.RolledBack:
        told = await caller.deps.engine.roll_back(
            caller.tenant,
            bank,
            data.to,
            dry_run=data.dry_run,
            if_match=if_match,
            reason=data.reason,
            actor=caller.actor,
            idempotency_key=key,
            to_time=data.to_time,
            source=data.source,
            keep=data.keep,
            probes=data.probes,
        )
        if told.job_id is not None:
            raise _Preparing(told)
        return told

    async def recover(done: Committed) -> wire.RolledBack:
        return await caller.deps.engine.rolled_back(caller.tenant, done.bank, done.first_seq, probes=data.probes)

    try:
        return await once(caller, work, status=200, recover=recover, quotes=True)
    except _Preparing as preparing:
        return replies.send(preparing.told, 202)


@post(
    "/v1/memory/bisect",
    operation_id="bisect",
    summary="Find the correction that brought the present answer, or that of a snapshot",
    tags=TAGS,
    opt=needs("memory:inspect"),
    dto=Strict[wire.NewBisection],
    status_code=202,
)
async def bisect(caller: NamedDependency[Caller], data: JSONBody[wire.NewBisection]) -> Response[wire.JobStarted]:
    """The job's result names the snapshots around it, the correction, and how many states were asked."""
    check_inputs("input", [data.input])
    bank = await caller.bank(data.bank)

    async def work(_: str | None) -> wire.JobStarted:
        return await caller.deps.engine.bisect(caller.tenant, bank, data.input, since=data.since, until=data.until, actor=caller.actor)

    return await once(caller, work, status=202)


def _check(data: wire.RollbackRequest) -> None:
    faults = {}
    if sum(each is not None for each in (data.to, data.to_time, data.source)) != 1:
        faults["to"] = "give one of to, to_time and source"
    if data.to_time is not None and not FIRST_YEAR <= data.to_time.year <= LAST_YEAR:
        faults["to_time"] = f"a year between {FIRST_YEAR} and {LAST_YEAR}"
    if data.source is not None and not names_one(data.source):
        faults["source"] = ONE
    if data.source is not None and data.keep == "corrections_after":
        faults["keep"] = "nothing comes after a source; it takes none or chosen corrections"
    if data.levels != "all":
        faults["levels"] = (
            "only all: levels of different moments are the fold of no set of corrections, so nothing could be forgotten from them"
        )
    if faults:
        field, why = next(iter(faults.items()))
        raise Invalid(f"{field}: {why}", errors=[{"field": field, "message": why} for field, why in faults.items()])

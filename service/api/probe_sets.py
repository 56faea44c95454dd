"""Probe sets: questions with known answers that are kept with a bank, and asked of any of its versions."""

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.deps import Connection
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Pager
from service.api.texts import check_probes, known_form
from service.errors import Conflict, NotFound
from service.ids import new_id
from service.store import probe_sets

TAGS = ["inspection"]


@post(
    "/v1/probe-sets",
    operation_id="save_probe_set",
    summary="Save a list of probes",
    tags=TAGS,
    opt=needs("snapshots:write"),
    dto=Strict[wire.NewProbeSet],
    status_code=201,
)
async def save_probe_set(caller: NamedDependency[Caller], data: JSONBody[wire.NewProbeSet]) -> Response[wire.ProbeSet]:
    """An `expected` of null says that the memory should abstain."""
    check_probes(data.probes)
    row = await caller.bank_row(data.bank)

    async def work(_: str | None) -> wire.ProbeSet:
        async with caller.deps.database.write(caller.tenant) as conn:
            made = await probe_sets.add_probe_set(
                conn,
                caller.tenant,
                row.id,
                id=new_id("prb"),
                name=data.name,
                probes=data.probes,
                created_by=caller.principal.key_id,
                now=caller.deps.now(),
            )
            await caller.note(conn, "probe_set.create", made.id, {"bank": row.id, "size": made.size})
            return made

    return await once(caller, work, status=201, quotes=True)


@get("/v1/probe-sets", operation_id="list_probe_sets", summary="Probe sets of a bank", tags=TAGS, opt=needs("memory:inspect"))
async def list_probe_sets(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.ProbeSet]]:
    """Without their probes."""
    row = await caller.bank_row(bank)
    pager = Pager(f"probe-sets:{row.id}", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(
            lambda after, number: probe_sets.list_probe_sets(conn, caller.tenant, row.id, after, number), _id, lambda made: made
        )
    return replies.send(page)


@get("/v1/probe-sets/{probe_set_id:str}", operation_id="get_probe_set", summary="One probe set", tags=TAGS, opt=needs("memory:inspect"))
async def get_probe_set(caller: NamedDependency[Caller], probe_set_id: FromPath[str]) -> Response[wire.ProbeSet]:
    """With its probes."""
    async with caller.deps.database.read(caller.tenant) as conn:
        return replies.send(await _visible(conn, caller, probe_set_id))


@put(
    "/v1/probe-sets/{probe_set_id:str}",
    operation_id="change_probe_set",
    summary="Put other probes in the place of a set's",
    tags=TAGS,
    opt=needs("snapshots:write"),
    dto=Strict[wire.ChangedProbeSet],
    status_code=200,
)
async def change_probe_set(
    caller: NamedDependency[Caller], probe_set_id: FromPath[str], data: JSONBody[wire.ChangedProbeSet]
) -> Response[wire.ProbeSet]:
    """All of them; its name and id stay."""
    check_probes(data.probes)
    async with caller.deps.database.write(caller.tenant) as conn:
        found = await _visible(conn, caller, probe_set_id)
        changed = await probe_sets.change_probe_set(conn, caller.tenant, found.id, data.probes)
        await caller.note(conn, "probe_set.change", found.id, {"bank": found.bank, "size": changed.size})
    return replies.send(changed)


@delete(
    "/v1/probe-sets/{probe_set_id:str}",
    operation_id="delete_probe_set",
    summary="Delete a probe set for good",
    tags=TAGS,
    opt=needs("snapshots:write"),
)
async def delete_probe_set(caller: NamedDependency[Caller], probe_set_id: FromPath[str]) -> None:
    """What was measured with it stays where it was told."""
    async with caller.deps.database.write(caller.tenant) as conn:
        found = await _visible(conn, caller, probe_set_id)
        await probe_sets.delete_probe_set(conn, caller.tenant, found.id)
        await caller.note(conn, "probe_set.delete", found.id, {"bank": found.bank})


@post(
    "/v1/probe-sets/{probe_set_id:str}/run",
    operation_id="run_probe_set",
    summary="Ask a probe set of up to 20 versions",
    tags=TAGS,
    opt=needs("memory:inspect"),
    dto=Strict[wire.RunProbeSet],
    status_code=200,
)
async def run_probe_set(
    caller: NamedDependency[Caller], probe_set_id: FromPath[str], data: JSONBody[wire.RunProbeSet]
) -> Response[wire.RanProbeSet]:
    """Passed is what is answered as expected, and silence where none is."""
    async with caller.deps.database.read(caller.tenant) as conn:
        asked = await _visible(conn, caller, probe_set_id)
    probes = asked.probes or []
    await caller.charge(len(probes) * len(data.at))  # besides the request itself: how many there are only the set knows
    if not probes:
        raise Conflict("this probe set is empty: all that it asked was erased; delete it and save another")

    async def work(_: str | None) -> wire.RanProbeSet:
        probed = await caller.deps.engine.probe(caller.tenant, asked.bank, [probe.input for probe in probes], at=data.at)
        return wire.RanProbeSet(id=asked.id, versions=_judged(probes, probed), usage=probed.usage)

    return await once(caller, work, status=200, quotes=True, reads=True)


def _judged(probes: list[wire.Probe], probed: wire.Probed) -> list[wire.ProbeRun]:
    runs = []
    for column, version in enumerate(probed.versions):
        failures = []
        for place, (probe, row) in enumerate(zip(probes, probed.rows, strict=True)):
            cell = row[column]
            said = None if cell.abstained else cell.value
            if said != probe.expected:
                told = wire.Said(value=said, confidence=cell.confidence)
                failures.append(wire.ProbeFailure(place=place, input=probe.input, expected=probe.expected, said=told))
        passed = len(probes) - len(failures)
        runs.append(wire.ProbeRun(at=version.at, state=version.state, passed=passed, failed=len(failures), failures=failures))
    return runs


async def _visible(conn: Connection, caller: Caller, id: str) -> wire.ProbeSet:
    found = await probe_sets.get_probe_set(conn, caller.tenant, known_form(id))
    if not caller.sees(found.bank):
        raise NotFound(f"this key has no probe set {id}")
    return found


def _id(made: wire.ProbeSet) -> str:
    return made.id

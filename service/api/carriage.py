"""Snapshots leave as signed bundles and come back: export by a job, its bytes, import as a snapshot that is never the head."""

import asyncio
from collections.abc import AsyncIterator

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from service import wire
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.pages import BankParam
from service.api.texts import known_form
from service.bundling import BUNDLE_MAX, SIGNATURE, opened, packed, signature
from service.errors import BundleRefused, Capacity, NotFound, TaintedSnapshot
from service.ids import new_id
from service.store import bundles, jobs, quarantines, snapshots
from service.store.lineage import holds, normal
from service.store.rows import BundleRow

TAGS = ["versions"]
MEDIA_TYPE = "application/x-tar"
OUT, IN = "exp", "imp"  # prefixes of ids


@post(
    "/v1/snapshots/{snapshot_id:str}/export",
    operation_id="export_snapshot",
    summary="Make a signed bundle of a snapshot",
    tags=TAGS,
    opt=needs("admin"),
    dto=Strict[wire.NewExport],
    status_code=202,
)
async def export_snapshot(
    caller: NamedDependency[Caller], snapshot_id: FromPath[str], data: JSONBody[wire.NewExport]
) -> Response[wire.JobStarted]:
    """The job's result names the export. It is kept for a day, or until something in it is erased."""
    row = await caller.bank_row(data.bank)

    async def work(_: str | None) -> wire.JobStarted:
        async with caller.deps.database.write(caller.tenant) as conn:
            snapshot = await snapshots.get_kept(conn, caller.tenant, known_form(snapshot_id), row.id)
            payload = {"snapshot": snapshot.id, "ledger": data.ledger, "export": new_id(OUT), "by": caller.principal.key_id}
            job, _found = await jobs.enqueue(
                conn, caller.tenant, kind="export", bank=row.id, payload=payload, dedupe=None, now=caller.deps.now()
            )
            await caller.note(conn, "export", row.id, {"snapshot": snapshot.id, "ledger": data.ledger, "job": job.id})
        caller.deps.ring(job.id, job.kind)
        return wire.JobStarted(job_id=job.id)

    return await once(caller, work, status=202)


@get(
    "/v1/exports/{export_id:str}",
    operation_id="get_export",
    summary="A bundle's bytes",
    tags=TAGS,
    opt=needs("admin"),
    media_type=MEDIA_TYPE,
)
async def get_export(caller: NamedDependency[Caller], export_id: FromPath[str]) -> Stream:
    """A tar archive, see the reference. 409 once something in it was forgotten, or is in quarantine."""
    async with caller.deps.database.read(caller.tenant) as conn:
        row = await bundles.get(conn, caller.tenant, known_form(export_id), caller.deps.now())
        gone = [each.event_id for each in await quarantines.hidden(conn, caller.tenant, row.bank) if holds(row.spans, each.seq)]
    if not row.id.startswith(OUT) or not caller.sees(row.bank):
        raise NotFound(f"no export {export_id!r}")
    if gone:
        raise TaintedSnapshot(f"the export holds {', '.join(gone[:5])}, forgotten or in quarantine by now; make another one")
    sign = packed({SIGNATURE: signature(caller.deps.pepper, row.manifest)})
    headers = {"content-length": str(len(sign) + row.bytes), "content-disposition": f'attachment; filename="{row.id}.tar"'}
    return Stream(_sent(caller, row, sign), media_type=MEDIA_TYPE, headers=headers)


@post(
    "/v1/imports",
    operation_id="import_bundle",
    summary="Bring an exported snapshot back",
    tags=TAGS,
    opt=needs("admin"),
    status_code=201,
    request_max_body_size=BUNDLE_MAX,
)
async def import_bundle(caller: NamedDependency[Caller], bank: BankParam = None) -> Response[wire.Imported]:
    """The body is a bundle of this bank. It becomes a snapshot; the head stays. What is wrong with it is told, and nothing is changed."""
    row = await caller.bank_row(bank)
    data = await caller.request.body()
    bundle = await asyncio.to_thread(opened, data, caller.deps.pepper)
    if bundle.manifest.bank != row.id:
        raise BundleRefused(f"the bundle is of bank {bundle.manifest.bank}; it can be imported there and nowhere else")

    async def work(_: str | None) -> wire.Imported:
        kept, inside = new_id(IN), normal([(0, bundle.manifest.seq)])
        async with caller.deps.database.write(caller.tenant) as conn:
            await bundles.add(conn, caller.tenant, row.id, id=kept, spans=inside, manifest=b"", data=data, now=caller.deps.now())
        try:
            return await caller.deps.engine.import_bundle(caller.tenant, row.id, kept, actor=caller.actor)
        finally:
            async with caller.deps.database.write(caller.tenant) as conn:
                await bundles.drop(conn, caller.tenant, [kept])

    return await once(caller, work, status=201)


async def _sent(caller: Caller, row: BundleRow, sign: bytes) -> AsyncIterator[bytes]:
    yield sign
    for place in range(-(-row.bytes // bundles.PART)):
        async with caller.deps.database.read(caller.tenant) as conn:
            part = await bundles.part(conn, caller.tenant, row.id, place)
        if part is None:
            raise Capacity("the export was erased while it was sent")  # the connection breaks: half a bundle is none
        yield part

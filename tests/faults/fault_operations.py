"""The operations that are crashed: how each is done, how one sees in the rows that it was, and what it leaves in the weights."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fault_world import GUESTS, NEXT, SECRET, SECRET_RIGHT, TAUGHT, Process, Rows, World
from fixtures_service import finished
from saying import PIN

from service.processes.erasing import erase_tenant
from service.store import blob_rows, snapshots

LONG_AGO = timedelta(hours=2)  # when what was left over began: before any save of now
ONCE = {"headers": {"Idempotency-Key": "once"}}
LATER = (PIN, "use_the_app")

COMMITS = {"write: begin", "write: before the commit", "write: after the commit"}
SAVES = COMMITS | {"put: before", "put: between", "put: after"}
DELETES = {"delete: before", "delete: after"}
JOBS = {"sweep: begin", "sweep: before the commit", "sweep: after the commit", "UPDATE job"}

Lessons = list[tuple[str, str]]
WITHOUT_THE_SECRET = TAUGHT[:2] + TAUGHT[3:]


@dataclass(frozen=True)
class Operation:
    """`run` does it and says when it is acknowledged, `again` does it once more after a crash.

    It has at least `fewest` points, and some of each of the `kinds`.
    """

    run: Callable[[Process, World], Awaitable[None]]
    again: Callable[[Process, World, bool], Awaitable[None]]  # told whether it had happened
    happened: Callable[[Rows, World], bool]
    holds: Lessons  # what the weights hold after it
    fewest: int
    kinds: set[str]
    ended: Callable[[Rows, World], bool] = lambda rows, world: True  # seen in the rows once its job has ended
    holds_again: Lessons | None = None  # and after it was done again, if something else
    prepare: Callable[[Process, World], Awaitable[None]] | None = None
    forgets: bool = False  # the secret
    erases: tuple[str, ...] = ()  # texts that are nowhere afterwards

    def lessons(self, happened: bool, again: bool = False) -> Lessons:
        if again and self.holds_again is not None:
            return self.holds_again
        return self.holds if happened or again else TAUGHT


async def _take_snapshot(process: Process, world: World) -> None:
    await process.do("POST", "snapshots", {"label": "crashed"}, expect=201, **ONCE)
    process.points.acknowledged = True


async def _take_another(process: Process, world: World, happened: bool) -> None:
    await process.do("POST", "snapshots", {"label": "again"}, expect=201)


async def _settle(process: Process, world: World) -> None:
    assert await process.service.engine.settle(-1) > 0
    process.points.acknowledged = True


async def _settle_again(process: Process, world: World, happened: bool) -> None:
    assert await process.service.engine.settle(-1) > 0
    kept = (await process.do("GET", "snapshots", params={"bank": world.bank}, expect=200))["items"]
    assert [row["seq"] for row in kept if row["kind"] == "auto"] == [len(TAUGHT)], "retention keeps one, the newest"


def _roll_back(**how):
    async def run(process: Process, world: World) -> None:
        await process.do("POST", "rollback", {"to": world.early, **how}, expect=200, **ONCE)
        process.points.acknowledged = True

    async def again(process: Process, world: World, happened: bool) -> None:
        first = await process.do("POST", "rollback", {"to": world.early, **how}, expect=200, **ONCE)
        assert await process.do("POST", "rollback", {"to": world.early, **how}, expect=200, **ONCE) == first
        kept = (await process.do("GET", "snapshots", params={"bank": world.bank}, expect=200))["items"]
        assert [row["kind"] for row in kept].count("rollback") == 1, "the same key rolls back once"
        assert first["head"] == next(row["id"] for row in kept if row["is_head"])

    return run, again


async def _delete_snapshot(process: Process, world: World) -> None:
    await process.do("DELETE", f"snapshots/{_auto(world)['id']}", expect=204)
    process.points.acknowledged = True


async def _delete_snapshot_again(process: Process, world: World, happened: bool) -> None:
    await process.do("DELETE", f"snapshots/{_auto(world)['id']}", expect=404 if happened else 204)


def _auto(world: World) -> dict:
    return next(row for row in world.rows["snapshot"] if (row["kind"], row["bank"]) == ("auto", world.bank))


def _snapshot_deleted(rows: Rows, world: World) -> bool:
    return next(row for row in rows["snapshot"] if row["id"] == _auto(world)["id"])["destroyed_at"] is not None


async def _export(process: Process, world: World) -> None:
    job = await process.do("POST", f"snapshots/{world.early}/export", {"ledger": True}, expect=202, **ONCE)
    process.points.acknowledged = True
    await process.finish(job["job_id"])


async def _export_again(process: Process, world: World, happened: bool) -> None:
    await ended(process, (await process.do("POST", f"snapshots/{world.early}/export", {}, expect=202))["job_id"])


def _exporting(rows: Rows, world: World) -> bool:
    return any(row["kind"] == "export" for row in rows["job"])


def _exported(rows: Rows, world: World) -> bool:
    (bundle,) = rows["bundle"]
    return sum(len(part["data"]) for part in rows["bundle_part"] if part["bundle"] == bundle["id"]) == bundle["bytes"]


async def _import(process: Process, world: World) -> None:
    await _bring(process, world, **ONCE["headers"])
    process.points.acknowledged = True


async def _import_again(process: Process, world: World, happened: bool) -> None:
    told = await _bring(process, world)
    assert (told["snapshot"]["seq"], told["probes"] > 0, told["agreeing"]) == (5, True, told["probes"])
    assert (await process.do("POST", f"snapshots/{told['snapshot']['id']}/verify", expect=200))["ok"]


async def _bring(process: Process, world: World, **headers: str) -> dict:
    return await process.do("POST", "imports", expect=201, content=world.bundle, headers={"Content-Type": "application/x-tar", **headers})


async def _consolidate(process: Process, world: World) -> None:
    job = await process.do("POST", "consolidations", {}, expect=202, **ONCE)
    process.points.acknowledged = True
    await process.finish(job["job_id"])


async def _consolidate_again(process: Process, world: World, happened: bool) -> None:
    await ended(process, (await process.do("POST", "consolidations", {}, expect=202))["job_id"])


def _forget(mode: str):
    asked = {"mode": mode}

    async def run(process: Process, world: World) -> None:
        job = await process.do("POST", "forget", {"corrections": world.corrections[2:3], **asked}, expect=202, **ONCE)
        process.points.acknowledged = True
        await process.finish(job["job_id"])

    async def again(process: Process, world: World, happened: bool) -> None:
        job = await process.do("POST", "forget", {"corrections": world.corrections[2:3], **asked}, expect=202)
        await ended(process, job["job_id"])

    return run, again


async def _delete_bank(process: Process, world: World) -> None:
    await process.do("DELETE", f"banks/{world.other}", expect=204)
    process.points.acknowledged = True


async def _delete_bank_again(process: Process, world: World, happened: bool) -> None:
    await process.do("DELETE", f"banks/{world.other}", expect=404 if happened else 204)
    await process.do("GET", f"banks/{world.other}", expect=404)


async def _leave_over(process: Process, world: World) -> None:
    """What processes leave that die between two steps of a save or of a deletion, two hours ago and just now."""
    service, now = process.service, datetime.now(UTC)
    tenant, blobs = service.tenant, service.engine.versions.blobs
    orphan, going, fresh = [await blobs.put(tenant, data) for data in (b"orphan", b"going", b"fresh")]
    missing = "0" * 64
    async with service.database.write(tenant) as conn:
        auto = (await snapshots.spare_autos(conn, tenant, world.bank, 0))[0]
        assert await snapshots.destroy_snapshots(conn, tenant, world.bank, [auto], now)
        await blob_rows.stage(conn, tenant, [(orphan, 6), (going, 5), (missing, 1)], now - LONG_AGO)
        await blob_rows.stage(conn, tenant, [(fresh, 5)], now)
        begun = now - LONG_AGO
        assert await blob_rows.begin_delete(conn, tenant, [going], now=begun, before=now) == [going]


async def _tidy(process: Process, world: World) -> None:
    await process.service.maintenance.tidy()
    process.points.acknowledged = True


async def _tidy_again(process: Process, world: World, happened: bool) -> None:
    await process.service.maintenance.tidy()


def _tidied(rows: Rows, world: World) -> bool:
    return sorted(row["state"] for row in rows["blob"] if row["state"] != "live") == ["pending"]


async def _erase_tenant(process: Process, world: World) -> None:
    """The command, beside the service."""
    await erase_tenant(process.service.settings, world.guest)
    process.points.acknowledged = True


async def _erase_tenant_again(process: Process, world: World, happened: bool) -> None:
    await erase_tenant(process.service.settings, world.guest)


def _tenant_erased(rows: Rows, world: World) -> bool:
    erased = [row["id"] for row in rows["erased_tenant"]] == [world.guest]
    held = [name for name, each in rows.items() if name != "erased_tenant" and any(world.guest in row.values() for row in each)]
    assert bool(held) != erased, "a tenant is there or erased"
    return erased


async def _teach(process: Process, world: World) -> None:
    await process.do("POST", "corrections", _lesson(NEXT), expect=201, **ONCE)
    process.points.acknowledged = True


async def _teach_again(process: Process, world: World, happened: bool) -> None:
    first, again = [await process.do("POST", "corrections", _lesson(NEXT), expect=201, **ONCE) for _ in range(2)]
    assert first | {"usage": None} == again | {"usage": None}  # made anew, where something was forgotten just before
    assert first["seq"] == len(TAUGHT) + 1
    assert first["receipt"]["item"]["after"]["value"] == NEXT[1]
    assert (await process.do("POST", "corrections", _lesson(LATER), expect=201))["seq"] == first["seq"] + 1


def _lesson(item: tuple[str, str]) -> dict:
    return {"input": item[0], "right": item[1]}


async def ended(process: Process, job: str) -> None:
    """Wait until somebody has done the job."""
    found = await finished(process.client, job)
    assert found["status"] == "succeeded", found


def _queued(rows: Rows, world: World) -> bool:
    return [row["kind"] for row in rows["job"]].count("consolidation") > 1


def _deleted(rows: Rows, world: World) -> bool:
    return all(row["id"] != world.other for row in rows["bank"])


def _taught(rows: Rows, world: World) -> bool:
    return any((row["bank"], row["seq"]) == (world.bank, len(TAUGHT) + 1) for row in rows["event"])


def _labelled(rows: Rows, world: World) -> bool:
    return any(row["label"] == "crashed" for row in rows["snapshot"])


def _of_kind(kind: str, seq: int):
    return lambda rows, world: any((row["kind"], row["bank"], row["seq"]) == (kind, world.bank, seq) for row in rows["snapshot"])


def _marked(rows: Rows, world: World) -> bool:
    return any((row["bank"], row["seq"]) == (world.bank, 3) for row in rows["tombstone"])


def _head_is(kind: str):
    def ended(rows: Rows, world: World) -> bool:
        version = next(row["head_version"] for row in rows["bank"] if row["id"] == world.bank)
        head = next(row["snapshot"] for row in rows["head"] if (row["bank"], row["version"]) == (world.bank, version))
        found = next(row for row in rows["snapshot"] if row["id"] == head)
        return (found["kind"], found["seq"]) == (kind, len(TAUGHT))

    return ended


def _redacted(rows: Rows, world: World) -> bool:
    event = next(row for row in rows["event"] if (row["bank"], row["seq"]) == (world.bank, 3))
    return event["redacted_at"] is not None and _head_is("rebuild")(rows, world)


OPERATIONS = {
    "snapshot": Operation(_take_snapshot, _take_another, _labelled, TAUGHT, 40, SAVES),
    "automatic snapshot": Operation(_settle, _settle_again, _of_kind("auto", 6), TAUGHT, 70, SAVES | DELETES),
    "rollback": Operation(*_roll_back(), _of_kind("rollback", 6), TAUGHT[:2], 75, SAVES | {"get"}),
    "folded rollback": Operation(*_roll_back(keep="corrections_after"), _of_kind("rollback", 6), TAUGHT[:5], 75, SAVES | {"get"}),
    "deletion of a snapshot": Operation(_delete_snapshot, _delete_snapshot_again, _snapshot_deleted, TAUGHT, 15, COMMITS | DELETES),
    "export": Operation(_export, _export_again, _exporting, TAUGHT, 40, COMMITS | JOBS | {"get"}, ended=_exported),
    "import": Operation(_import, _import_again, _of_kind("import", 5), TAUGHT, 60, SAVES | {"INSERT bundle", "DELETE bundle"}),
    "consolidation": Operation(_consolidate, _consolidate_again, _queued, TAUGHT[:5], 110, SAVES | JOBS, ended=_head_is("consolidation")),
    "rebuild": Operation(*_forget("rebuild"), _marked, WITHOUT_THE_SECRET, 100, SAVES | JOBS, ended=_head_is("rebuild"), forgets=True),
    "erasure": Operation(
        *_forget("erase"),
        _marked,
        WITHOUT_THE_SECRET,
        150,
        SAVES | JOBS | DELETES | {"compact", "compacted"},
        ended=_redacted,
        forgets=True,
        erases=(SECRET, SECRET_RIGHT),
    ),
    "deletion": Operation(_delete_bank, _delete_bank_again, _deleted, TAUGHT, 35, COMMITS | DELETES),
    "tenant erasure": Operation(
        _erase_tenant,
        _erase_tenant_again,
        _tenant_erased,
        TAUGHT,
        25,
        COMMITS | {"drop_tenant: before", "drop_tenant: after", "compact"},
        erases=tuple(right for _, right in GUESTS),
    ),
    "tidying": Operation(_tidy, _tidy_again, _tidied, TAUGHT, 20, COMMITS | DELETES | {"sweep: before the commit"}, prepare=_leave_over),
    "teaching": Operation(_teach, _teach_again, _taught, [*TAUGHT, NEXT], 25, COMMITS, holds_again=[*TAUGHT, NEXT, LATER]),
}

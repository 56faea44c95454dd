"""`palimpsest snapshots`, `diff`, `rollback` and `forget`."""

import functools
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from palimpsest.cli.jobs import watched
from palimpsest.cli.reaching import Shown, asks, bank_of, clean, short
from palimpsest.client import Client
from palimpsest.inspecting import HEAD
from palimpsest.jobs import Forgetting
from palimpsest.replies import Flip, Moved, RolledBack, Snapshot, SnapshotDiff, Verified
from palimpsest.sources import Source
from palimpsest.steps import Blocking

WHEN = click.DateTime(formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"])  # with its zone: 2026-11-29T12:00:00Z
UNSOUND = 1  # exit status of `snapshots verify`


@click.group("snapshots")
def snapshots_command() -> None:
    """List, take and verify snapshots, and carry them as bundles."""


@snapshots_command.command("list")
@click.option("--limit", type=click.IntRange(1), help="Show so many at most.")
@asks
def list_snapshots(memory: Client, show: Shown, limit: int | None) -> None:
    """List snapshots, newest first."""
    show.many(memory.snapshots(), _line, limit)


@snapshots_command.command("take")
@click.option("--label", help="A name for it.")
@click.option("--note", help="Why it is taken.")
@click.option("--pin", is_flag=True, help="Keep it.")
@asks
def take_snapshot(memory: Client, show: Shown, label: str | None, note: str | None, pin: bool) -> None:
    """Save the bank as it is now."""
    taken = memory.take_snapshot(label=label, note=note, pin=pin)
    show.one(taken, _line(taken))


@snapshots_command.command("verify")
@click.argument("snapshot")
@asks
def verify_snapshot(memory: Client, show: Shown, snapshot: str) -> None:
    """Look at the bytes and the ledger of SNAPSHOT, and load it. Exit status 1 when something is wrong."""
    verified = memory.verify_snapshot(snapshot)
    show.one(verified, _checks(verified))
    if not verified.ok:
        sys.exit(UNSOUND)


@snapshots_command.command("export")
@click.argument("snapshot")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--ledger", is_flag=True, help="With the corrections up to it.")
@asks
def export_snapshot(memory: Client, show: Shown, snapshot: str, file: Path, ledger: bool) -> None:
    """Write SNAPSHOT to FILE, as a signed bundle."""
    started = memory.export(snapshot, ledger=ledger)
    watched(memory, started.id)
    started.save(file)
    show.one({"snapshot": snapshot, "file": str(file)}, f"{snapshot} in {file}, {file.stat().st_size:,} bytes")


@snapshots_command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@asks
def import_snapshot(memory: Client, show: Shown, file: Path) -> None:
    """Bring the bundle in FILE back into its bank, as a snapshot that can be asked and returned to."""
    imported = memory.import_bundle(file)
    show.one(imported, f"{_line(imported.snapshot)}  answers as it did: {imported.agreeing} of {imported.probes}")


@click.command("diff")
@click.argument("before")
@click.argument("after", default=HEAD)
@asks
def diff_command(memory: Client, show: Shown, before: str, after: str) -> None:
    """Show what differs from the snapshot BEFORE to the snapshot AFTER, or to the present state."""
    found = memory.diff(before, after)
    show.one(found, _difference(found))


def sourced(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a `Source` or None as `source`, and the options that it is made from."""

    @click.option("--session", "session_id", help="All that was taught in this session.")
    @click.option("--taught-by", "key_id", metavar="KEY_ID", help="All that was taught with this key.")
    @functools.wraps(command)
    def sourcing(session_id: str | None, key_id: str | None, **rest: object) -> None:
        source: Source = {}
        if session_id is not None:
            source["session_id"] = session_id
        if key_id is not None:
            source["key_id"] = key_id
        command(source=source or None, **rest)

    return sourcing


@click.command("rollback")
@click.argument("to", required=False)
@click.option("--time", "to_time", type=WHEN, help="Return to the state of this moment, for example 2026-11-29T12:00:00Z.")
@sourced
@click.option("--keep-later", is_flag=True, help="Keep the corrections that came after it and hold still.")
@click.option("--dry-run", is_flag=True, help="Only tell which answers would change.")
@click.option("--reason", help="For the audit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks
def rollback_command(
    memory: Client,
    show: Shown,
    to: str | None,
    to_time: datetime | None,
    source: Source | None,
    keep_later: bool,
    dry_run: bool,
    reason: str | None,
    yes: bool,
) -> None:
    """Return to the behaviour of the snapshot TO, or of a moment, or of a bank without all that came from somewhere.

    What changes is shown first.
    """
    keep = "corrections_after" if keep_later else "none"
    move = functools.partial(memory.rollback, to, to_time=to_time, source=source, keep=keep)
    if dry_run:
        preview = move(dry_run=True)
        show.one(preview, _preview(preview))
        return
    etag = None
    if not yes:
        etag = memory.get_bank(bank_of(memory)).etag  # read before the preview: what is decided on is what is done
        click.echo(clean(_preview(move(dry_run=True))), err=True)
        click.confirm("Roll back?", abort=True, err=True)
    done = move(reason=reason, if_match=etag)
    show.one(done, f"the head is {done.head}; to undo this: palimpsest rollback {done.pre_rollback}")


@click.command("forget")
@click.argument("corrections", nargs=-1)
@sourced
@click.option("--mode", type=click.Choice(["suppress", "rebuild", "erase"]), default="rebuild", show_default=True)
@click.option("--reason", help="For the audit.")
@click.option("--wait", is_flag=True, help="Wait until the weights are exact.")
@click.option("--yes", is_flag=True, help="Do not ask before erasing.")
@asks
def forget_command(
    memory: Client,
    show: Shown,
    corrections: tuple[str, ...],
    source: Source | None,
    mode: str,
    reason: str | None,
    wait: bool,
    yes: bool,
) -> None:
    """Forget CORRECTIONS, by id, or all that came from somewhere. Nothing is answered with them from then on."""
    forget, token = functools.partial(memory.forget, corrections or None, mode, source=source), None
    if mode == "erase" and not yes:
        preview = forget(dry_run=True)
        token = preview.confirm_token  # what is erased is what was shown
        click.echo(clean(_changes(preview)), err=True)
        what = f"{len(preview.corrections)} corrections, their texts and every snapshot with them"
        click.confirm(f"Erase {what}, for good?", abort=True, err=True)
    forgotten = forget(reason=reason, confirm_token=token)
    told = {"id": forgotten.id, "mode": forgotten.mode, "corrections": forgotten.corrections, "job_id": forgotten.job_id}
    show.one(told, f"{forgotten.id}  {mode}: {len(forgotten.corrections)} forgotten" + _job(forgotten.job_id))
    if wait and forgotten.job_id is not None:
        watched(memory, forgotten.job_id)


def _job(job_id: str | None) -> str:
    return "" if job_id is None else f"; the weights follow by {job_id}"


def _line(snapshot: Snapshot) -> str:
    marks = [word for word, holds in (("head", snapshot.is_head), ("pinned", snapshot.pinned), ("tainted", snapshot.tainted_by)) if holds]
    told = f"{snapshot.id}  {snapshot.created_at:%Y-%m-%d %H:%M:%S}  {snapshot.kind:<13}  {snapshot.corrections:>7} corrections"
    return "  ".join([told, *marks, *([snapshot.label] if snapshot.label else [])])


def _checks(verified: Verified) -> str:
    return "\n".join(f"{'ok   ' if check.ok else 'WRONG'}  {check.name}  {check.detail}".rstrip() for check in verified.checks)


def _difference(found: SnapshotDiff) -> str:
    lines = [f"{found.gained_total} gained, {found.lost_total} lost, {len(found.flips)} of {found.probes} answers differ{_sample(found)}"]
    for sign, moved, total in (("+", found.gained, found.gained_total), ("-", found.lost, found.lost_total)):
        lines += [_moved(sign, one) for one in moved] + ([f"{sign} … {total - len(moved)} older ones"] if total > len(moved) else [])
    drift = ", ".join(f"{level.name} {level.drift:.3g}" for level in found.levels)
    return "\n".join([*lines, *map(_flip, found.flips), f"drift of the levels: {drift}"])


def _moved(sign: str, one: Moved) -> str:
    told = "(forgotten, or in quarantine)" if one.input is None else f"{short(one.input)}  →  {short(one.right)}"
    return f"{sign} {one.id}  {told}"


def _preview(preview: RolledBack) -> str:
    return f"{_changes(preview)}\n{preview.removed} corrections leave the weights, {preview.restored} come back"


def _changes(told: RolledBack | Forgetting[Blocking]) -> str:
    return "\n".join([f"{len(told.flips)} of {told.probes} answers would change{_sample(told)}", *map(_flip, told.flips)])


def _sample(told: RolledBack | Forgetting[Blocking] | SnapshotDiff) -> str:
    return f" (a sample of {told.probes_of})" if told.probes < told.probes_of else ""


def _flip(flip: Flip) -> str:
    before, after = ("(abstains)" if said.value is None else short(said.value, 40) for said in (flip.before, flip.after))
    return f"  {short(flip.input)}: {before}  →  {after}"

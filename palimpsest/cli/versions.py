"""`palimpsest snapshots`, `rollback` and `forget`."""

import click

from palimpsest.cli.jobs import watched
from palimpsest.cli.reaching import Shown, asks, bank_of, clean, short
from palimpsest.client import Client
from palimpsest.replies import Flip, RolledBack, Snapshot


@click.group("snapshots")
def snapshots_command() -> None:
    """List snapshots, or take one."""


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


@click.command("rollback")
@click.argument("to")
@click.option("--dry-run", is_flag=True, help="Only tell which answers would change.")
@click.option("--reason", help="For the audit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks
def rollback_command(memory: Client, show: Shown, to: str, dry_run: bool, reason: str | None, yes: bool) -> None:
    """Return to the behaviour of the snapshot TO; what changes is shown first."""
    if dry_run:
        preview = memory.rollback(to, dry_run=True)
        show.one(preview, _preview(preview))
        return
    etag = None
    if not yes:
        etag = memory.get_bank(bank_of(memory)).etag  # read before the preview: what is decided on is what is done
        click.echo(clean(_preview(memory.rollback(to, dry_run=True))), err=True)
        click.confirm("Roll back?", abort=True, err=True)
    done = memory.rollback(to, reason=reason, if_match=etag)
    show.one(done, f"the head is {done.head}; to undo this: palimpsest rollback {done.pre_rollback}")


@click.command("forget")
@click.argument("corrections", nargs=-1, required=True)
@click.option("--mode", type=click.Choice(["suppress", "rebuild", "erase"]), default="rebuild", show_default=True)
@click.option("--reason", help="For the audit.")
@click.option("--wait", is_flag=True, help="Wait until the weights are exact.")
@click.option("--yes", is_flag=True, help="Do not ask before erasing.")
@asks
def forget_command(memory: Client, show: Shown, corrections: tuple[str, ...], mode: str, reason: str | None, wait: bool, yes: bool) -> None:
    """Forget CORRECTIONS, by id. Nothing is answered with them from then on."""
    if mode == "erase" and not yes:
        click.confirm(f"Erase {len(corrections)} corrections, their texts and every snapshot with them, for good?", abort=True, err=True)
    forgotten = memory.forget(corrections, mode, reason=reason)
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


def _preview(preview: RolledBack) -> str:
    return "\n".join([f"{len(preview.flips)} of {preview.probes} answers would change", *map(_flip, preview.flips)])


def _flip(flip: Flip) -> str:
    before, after = ("(abstains)" if said.value is None else short(said.value, 40) for said in (flip.before, flip.after))
    return f"  {short(flip.input)}: {before}  →  {after}"

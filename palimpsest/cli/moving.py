"""`palimpsest export` and `import`: the corrections of a bank as JSON Lines, out and in again.

A line holds what teaching takes and nothing else, so that an import's own export is the same file, byte for byte, and a bank that was
empty has the same digest. What was rolled back or forgotten is not exported.

An import may be broken off at any moment and goes on by the same command: beside the file it keeps, before it sends a batch, how far it
had come. The batch that was on its way is sent again under the same Idempotency-Key.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from tqdm import tqdm

from palimpsest.asking import NewCorrection
from palimpsest.cli.reaching import Shown, asks, bank_of
from palimpsest.client import Client
from palimpsest.errors import OtherEncoder, PalimpsestError, Refused
from palimpsest.exchange import new_key
from palimpsest.replies import Correction

BATCH_LINES, BATCH_BYTES = 100, 500_000  # the service takes 1,000 and 1,000,000; a bar should move
EXPORTED = ("active", "superseded")


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One correction of the file."""

    input: str
    right: str
    wrong: str | None = None
    session_id: str | None = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)

    def item(self) -> NewCorrection:
        """As it is taught."""
        item: NewCorrection = msgspec.to_builtins(self)
        return item


class Come(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an import had come: `done` lines are taught, the `sent` ones after them may be; `digest` is of all these."""

    id: str
    bank: str
    key: str
    done: int
    sent: int
    digest: str


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@asks
def export_command(memory: Client, show: Shown, file: Path) -> None:
    """Write the corrections of a bank to FILE, as JSON Lines; an old FILE is replaced once all are there."""
    draft, number = file.with_name(f"{file.name}.part"), 0
    total = _number(memory)
    with draft.open("wb") as out, tqdm(total=total, desc="export", unit=" corrections", disable=None) as bar:
        for correction in memory.corrections():
            if correction.status in EXPORTED:
                out.write(_line(correction))
                number += 1
                bar.update()
    draft.replace(file)
    show.one({"corrections": number, "file": str(file)}, f"{number} corrections in {file}")


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@asks
def import_command(memory: Client, show: Shown, file: Path) -> None:
    """Teach the corrections of FILE, JSON Lines, in order. Broken off, it goes on where it was by the same command."""
    raw = file.read_bytes().splitlines()
    lines = _understood(raw)
    beside = file.with_name(f"{file.name}.progress")
    come = _begun(memory, beside, raw)
    with tqdm(total=len(lines), initial=come.done, desc="import", unit=" corrections", disable=None) as bar:
        while come.done < len(lines):
            number = come.sent or _batch(raw[come.done :])
            come = msgspec.structs.replace(come, sent=number, digest=_digest(raw[: come.done + number]))
            _keep(beside, come)
            _teach(memory, lines, come)
            come = msgspec.structs.replace(come, done=come.done + number, sent=0)
            bar.update(number)
    beside.unlink(missing_ok=True)
    show.one({"corrections": len(lines), "bank": come.bank}, f"{len(lines)} corrections of {file} are taught")


def _number(memory: Client) -> int | None:
    """How many corrections there are; a bank of another encoder does not say so, but gives them."""
    try:
        return memory.memory().corrections
    except OtherEncoder:
        return None


def _line(correction: Correction) -> bytes:
    line = Line(
        input=correction.input or "",
        right=correction.right or "",
        wrong=correction.wrong,
        session_id=correction.session_id,
        metadata=correction.metadata,
    )
    return msgspec.json.encode(line, order="deterministic") + b"\n"


def _understood(raw: Sequence[bytes]) -> list[Line]:
    """All lines, before any is sent."""
    lines = []
    for number, text in enumerate(raw, 1):
        try:
            lines.append(msgspec.json.decode(text, type=Line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as why:
            raise PalimpsestError(f"line {number} cannot be taught, nothing was sent: {why}") from None
    return lines


def _begun(memory: Client, beside: Path, raw: Sequence[bytes]) -> Come:
    """Where this import is to go on."""
    bank, key = bank_of(memory), memory.whoami().key_id
    if not beside.exists():
        return Come(new_key(), bank, key, 0, 0, _digest(()))
    try:
        come = msgspec.json.decode(beside.read_bytes(), type=Come)
    except msgspec.MsgspecError as why:
        raise PalimpsestError(f"{beside} is damaged ({why}); delete it to begin anew") from None
    if (come.bank, come.key) != (bank, key):
        raise PalimpsestError(
            f"{beside} is of an import into another bank or with another key; go on with those, or delete it to begin anew"
        )
    if come.digest != _digest(raw[: come.done + come.sent]):
        raise PalimpsestError(f"lines that were taught have changed since; delete {beside} to teach the file from its begin")
    return come


def _batch(rest: Sequence[bytes]) -> int:
    """How many of these lines go into one request."""
    size = 0
    for number, text in enumerate(rest[:BATCH_LINES]):
        size += len(text)
        if size > BATCH_BYTES and number:
            return number
    return min(len(rest), BATCH_LINES)


def _keep(beside: Path, come: Come) -> None:
    draft = beside.with_name(f"{beside.name}.part")
    draft.write_bytes(msgspec.json.encode(come))
    draft.replace(beside)


def _teach(memory: Client, lines: Sequence[Line], come: Come) -> None:
    batch = [line.item() for line in lines[come.done : come.done + come.sent]]
    try:
        memory.correct_many(batch, idempotency_key=f"{come.id}-{come.done}")
    except Refused as error:
        where = f"items[0] is line {come.done + 1}; {come.done} lines are taught, and the same command goes on from there"
        raise PalimpsestError(f"{error} ({where})") from None


def _digest(raw: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(text + b"\n" for text in raw)).hexdigest()

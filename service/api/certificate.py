"""The certificate of a forget, from what its job has written down."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from service import wire
from service.store.rows import ForgetRow

COPIES = (
    wire.Unreached(place="database backups and archived logs", advice="let them expire, or restore, forget again, and back up anew"),
    wire.Unreached(place="exports that were downloaded", advice="delete them where they are; an import of one is refused"),
    wire.Unreached(place="replies that clients have received", advice="clients keep what they were answered"),
)
DEAD_ROWS = wire.Unreached(
    place="freed pages and the log of the PostgreSQL server",
    advice="vacuum and log recycling overwrite them in time; VACUUM FULL event, response, idempotency does at once",
)
OLD_BLOBS = wire.Unreached(place="older versions in a blob store that keeps them", advice="let the bucket's life cycle expire them")
WEIGHTS = wire.Unreached(place="weights of the head and of snapshots", advice="hidden, not removed: use mode rebuild or erase")
TEXTS = wire.Unreached(place="texts in the ledger and weights of older snapshots", advice="tainted, not removed: use mode erase")


def of(row: ForgetRow, asked: Sequence[wire.Membership] | None, *, server: bool) -> wire.Certificate:
    """The certificate as it is now. `asked`: what suppressed corrections say at this moment; `server`: the database is one.

    With the bank everything went that `erase` takes away.
    """
    made, removed = row.certificate_so_far, row.certificate_so_far.get("removed", {})
    told = list(asked) if asked is not None else msgspec.convert(made.get("membership", []), list[wire.Membership])
    done = (row.created_at if row.mode == "suppress" else _time(made.get("completed_at"))) or row.bank_deleted_at
    tested = asked is not None or "membership" in made
    of_turns = any(id.startswith("trn_") for id in row.event_ids)  # there is no question that a turn would answer
    return wire.Certificate(
        id=row.id,
        bank=row.bank,
        mode=row.mode,  # type: ignore[arg-type]  # the column's CHECK lists the same words
        complete=done is not None,
        passed=all(one.passed for one in told) if tested and (told or not of_turns) else None,
        corrections=list(row.event_ids),
        requested_by=row.created_by,
        requested_at=row.created_at,
        completed_at=done,
        job_id=row.job_id,
        weights=_weights(made),
        removed=wire.Removed(tombstones=len(row.seqs), **made.get("emptied", {}), **removed),
        membership=told,
        unreached=_unreached("erase" if row.bank_deleted_at is not None else row.mode, server=server),
        bank_deleted_at=row.bank_deleted_at,
    )


def _weights(made: dict[str, Any]) -> wire.CertifiedWeights | None:
    before, after = made.get("before"), made.get("after")
    if before is None:
        return None
    return wire.CertifiedWeights(
        digest_before=before["digest"],
        digest_after=after["digest"] if after else None,
        seq=(after or before)["seq"],
        snapshot=after["snapshot"] if after else None,
        language=_language(before.get("language"), (after or {}).get("language")),
    )


def _language(before: dict[str, str] | None, after: dict[str, str] | None) -> wire.CertifiedLanguage | None:
    if before is None:
        return None
    after = after or {}
    return wire.CertifiedLanguage(
        digest_before=before.get("digest"),
        digest_after=after.get("digest"),
        unavailable=before.get("unavailable") or after.get("unavailable"),
    )


def _unreached(mode: str, *, server: bool) -> list[wire.Unreached]:
    match mode:
        case "suppress":
            return [WEIGHTS, *COPIES]
        case "rebuild":
            return [TEXTS, *COPIES]
        case _:
            return [*COPIES, OLD_BLOBS, *([DEAD_ROWS] if server else [])]


def _time(told: str | None) -> datetime | None:
    return None if told is None else datetime.fromisoformat(told)

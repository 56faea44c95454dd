"""Versions of a bank: snapshots taken, compared, checked and carried; going back; branches."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Literal

from msgspec import UNSET, UnsetType

from palimpsest.exchange import new_key, segment
from palimpsest.inspecting import HEAD, Inspecting
from palimpsest.jobs import StartedExport, waiting
from palimpsest.replies import Branch, Imported, JobStarted, Page, Promoted, RolledBack, Snapshot, SnapshotDiff, Verified
from palimpsest.sources import Source
from palimpsest.steps import Disk, Listing, Steps, Way, listing, method, on_disk


class Versioning(Inspecting[Way]):
    """The calls about versions."""

    @method
    def take_snapshot(
        self, *, label: str | None = None, note: str | None = None, pin: bool = False, bank: str | None = None
    ) -> Steps[Snapshot]:
        """Save the bank as it is now."""
        return self._post("/v1/snapshots", Snapshot, {"label": label, "note": note, "pin": pin}, bank=bank, key=new_key())

    @listing
    def snapshots(self, *, bank: str | None = None) -> Listing[Snapshot]:
        """Snapshots, newest first."""
        return self._list("/v1/snapshots", Page[Snapshot], bank)

    @method
    def get_snapshot(self, snapshot_id: str, *, bank: str | None = None) -> Steps[Snapshot]:
        """One snapshot."""
        return self._get(f"/v1/snapshots/{segment(snapshot_id)}", Snapshot, bank)

    @method
    def change_snapshot(
        self,
        snapshot_id: str,
        *,
        label: str | UnsetType | None = UNSET,
        note: str | UnsetType | None = UNSET,
        pinned: bool | UnsetType = UNSET,
        bank: str | None = None,
    ) -> Steps[Snapshot]:
        """Label, note or pin a snapshot; what is not given stays, None takes a label or a note away.

        Retention takes no pinned or labelled one, and a pinned one cannot be deleted.
        """
        told = {"label": label, "note": note, "pinned": pinned}
        said = {name: value for name, value in told.items() if value is not UNSET}
        return self._call("PATCH", f"/v1/snapshots/{segment(snapshot_id)}", Snapshot, bank, body=said)

    @method
    def delete_snapshot(self, snapshot_id: str, *, bank: str | None = None) -> Steps[None]:
        """Give up a snapshot's weights for good. Nothing learned is lost: the ledger has it."""
        return self._call("DELETE", f"/v1/snapshots/{segment(snapshot_id)}", NoneType, bank)

    @method
    def diff(self, before: str, after: str = HEAD, *, probes: int | None = None, bank: str | None = None) -> Steps[SnapshotDiff]:
        """What differs between two snapshots, or a snapshot and the present state: corrections, answers, drift of the levels.

        `probes`: how many corrections both are asked about, at most; the service's own number is one that answers at once.
        """
        return self._get(f"/v1/snapshots/{segment(before)}/diff/{segment(after)}", SnapshotDiff, bank, params={"probes": probes})

    @method
    def verify_snapshot(self, snapshot_id: str, *, bank: str | None = None) -> Steps[Verified]:
        """Look at the digests of a snapshot's bytes and the hash chain of its ledger, and load it; `ok` tells whether all is well."""
        return self._call("POST", f"/v1/snapshots/{segment(snapshot_id)}/verify", Verified, bank)

    @method
    def export(self, snapshot_id: str, *, ledger: bool = False, bank: str | None = None) -> Steps[StartedExport[Way]]:
        """Make a signed bundle of a snapshot, with `ledger` of the corrections up to it, too; `.save(file)` fetches it."""
        body = {"ledger": ledger}
        path = f"/v1/snapshots/{segment(snapshot_id)}/export"
        started = yield from self._post(path, JobStarted, body, bank=bank, key=new_key())
        return StartedExport(self._way, self._exchange, started.job_id, deduplicated=started.deduplicated)

    @method
    def import_bundle(self, file: str | Path, *, bank: str | None = None) -> Steps[Imported]:
        """Bring a bundle back into the bank that it came from: as a snapshot, never as the head."""
        bundle = yield from on_disk(Disk(Path(file)))
        return (yield from self._call("POST", "/v1/imports", Imported, bank, body=bundle, key=new_key()))

    @method
    def rollback(
        self,
        to: str | None = None,
        *,
        to_time: datetime | None = None,
        source: Source | None = None,
        keep: Literal["none", "corrections_after"] | Sequence[str] = "none",
        levels: Literal["all"] | Sequence[str] = "all",
        dry_run: bool = False,
        reason: str | None = None,
        if_match: str | None = None,
        probes: int | None = None,
        bank: str | None = None,
    ) -> Steps[RolledBack]:
        """Return `to` a snapshot, to the state at `to_time`, or to now without everything from a `source`; name one of these.

        `keep` folds onto it the corrections that came after and hold still, or chosen ones. `dry_run` only tells which answers would
        change, of `probes` that are asked at most. `if_match` is the bank's `etag` that the decision was made on: `HeadMoved` is raised
        when it is no longer that. Where the new state takes long to fold, a job does so, and this waits for it.

        Raises:
            JobFailed: it could not be folded; nothing has changed.
        """
        body = {
            "to": to,
            "to_time": to_time,
            "source": source,
            "keep": keep if isinstance(keep, str) else list(keep),
            "levels": levels if isinstance(levels, str) else list(levels),
            "dry_run": dry_run,
            "reason": reason,
            "probes": probes,
        }
        headers, key = {} if if_match is None else {"If-Match": if_match}, None if dry_run else new_key()
        while True:
            moved = yield from self._post("/v1/rollback", RolledBack, body, bank=bank, key=key, headers=headers)
            if moved.job_id is None:
                return moved
            yield from waiting(self._exchange, moved.job_id, None, None)

    @method
    def create_branch(self, name: str, *, at: str | None = None, bank: str | None = None) -> Steps[Branch]:
        """Make a bank that begins with what a bank holds now, or held at a snapshot."""
        return self._post("/v1/branches", Branch, {"name": name, "at": at}, bank=bank, key=new_key())

    @listing
    def branches(self, *, bank: str | None = None) -> Listing[Branch]:
        """The branches of a bank."""
        return self._list("/v1/branches", Page[Branch], bank)

    @method
    def diff_branch(self, branch_id: str) -> Steps[SnapshotDiff]:
        """What differs between a bank and its branch, as they are now."""
        return self._get(f"/v1/branches/{segment(branch_id)}/diff", SnapshotDiff, None, by_bank=False)

    @method
    def promote_branch(self, branch_id: str, *, refold: bool = False) -> Steps[Promoted]:
        """Bring what was taught in a branch into its bank; the branch is gone then.

        Raises:
            HeadMoved: the bank has moved since the branch was made; `refold` adds to what it holds now.
        """
        path = f"/v1/branches/{segment(branch_id)}/promote"
        promoted = yield from self._post(path, Promoted, {"refold": refold}, by_bank=False, key=new_key())
        self._exchange.forget_state(branch_id)
        return promoted

    @method
    def delete_branch(self, branch_id: str) -> Steps[None]:
        """Delete a branch for good; its bank stays as it is."""
        yield from self._call("DELETE", f"/v1/branches/{segment(branch_id)}", NoneType, None, by_bank=False)
        self._exchange.forget_state(branch_id)

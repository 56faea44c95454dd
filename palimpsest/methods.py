"""What one can ask of a service: every call of the API once, for both clients. Each is described in docs/api.md.

`bank` is a name or an id; without it the client's own, else the service's default for the key.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from types import NoneType

from palimpsest.asking import Asking
from palimpsest.errors import SecretLost
from palimpsest.exchange import Call, new_key, segment
from palimpsest.jobs import Forgetting, StartedJob, looking, waiting
from palimpsest.replies import (
    AuditEntry,
    Bank,
    Correction,
    EventRow,
    Forgotten,
    Health,
    Job,
    JobStarted,
    Key,
    Memory,
    MintedKey,
    Page,
    RolledBack,
    SessionInfo,
    Snapshot,
    WhoAmI,
)
from palimpsest.sessions import Session
from palimpsest.steps import Listing, Steps, Way, listing, method


class Methods(Asking[Way]):
    """The calls that both clients have."""

    # what is known

    @listing
    def corrections(self, *, bank: str | None = None) -> Listing[Correction]:
        """Corrections with their status, in the order they were taught."""
        return self._list("/v1/corrections", Page[Correction], bank)

    @method
    def get_correction(self, correction_id: str, *, bank: str | None = None) -> Steps[Correction]:
        """One correction."""
        return self._get(f"/v1/corrections/{segment(correction_id)}", Correction, bank)

    @listing
    def search(self, words: str, *, bank: str | None = None) -> Listing[Correction]:
        """Corrections in whose texts or metadata all the words, or parts of words, are found, newest first."""
        return self._list("/v1/memory/search", Page[Correction], bank, q=words)

    @listing
    def events(self, *, bank: str | None = None) -> Listing[EventRow]:
        """The ledger, row by row, with each row's place in the hash chain."""
        return self._list("/v1/events", Page[EventRow], bank)

    @method
    def memory(self, *, bank: str | None = None) -> Steps[Memory]:
        """The learned state as a whole: levels, counts, digest."""
        return self._get("/v1/memory", Memory, bank, fresh=True)

    # versions

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
    def rollback(
        self, to: str, *, dry_run: bool = False, reason: str | None = None, if_match: str | None = None, bank: str | None = None
    ) -> Steps[RolledBack]:
        """Return to the behaviour of a snapshot; `dry_run` only tells which answers would change.

        `if_match` is the bank's `etag` that the decision was made on: `HeadMoved` is raised when it is no longer that.
        """
        body = {"to": to, "dry_run": dry_run, "reason": reason}
        headers = {} if if_match is None else {"If-Match": if_match}
        return self._post("/v1/rollback", RolledBack, body, bank=bank, key=None if dry_run else new_key(), headers=headers)

    @method
    def forget(
        self, corrections: Sequence[str], mode: str = "rebuild", *, reason: str | None = None, bank: str | None = None
    ) -> Steps[Forgetting[Way]]:
        """Forget corrections, by id. Nothing is answered with them from now on, whatever the mode.

        `suppress` leaves it at that; `rebuild` makes the weights those of a memory that never saw them, by a job; `erase` destroys their
        texts and the snapshots that hold them, too.
        """
        body = {"corrections": list(corrections), "mode": mode, "reason": reason}
        forgotten = yield from self._post("/v1/forget", Forgotten, body, bank=bank, key=new_key())
        return Forgetting(self._way, self._exchange, forgotten)

    # jobs

    @method
    def consolidate(self, *, bank: str | None = None) -> Steps[StartedJob[Way]]:
        """Start a consolidation; one that is open is reused."""
        started = yield from self._post("/v1/consolidations", JobStarted, {}, bank=bank, key=new_key())
        return StartedJob(self._way, self._exchange, started.job_id, deduplicated=started.deduplicated)

    @listing
    def jobs(self, *, bank: str | None = None) -> Listing[Job]:
        """Jobs, in the order they were queued."""
        return self._list("/v1/jobs", Page[Job], bank)

    @method
    def get_job(self, job_id: str) -> Steps[Job]:
        """One job."""
        return looking(self._exchange, job_id)

    @method
    def wait(self, job_id: str, *, progress: Callable[[Job], object] | None = None, timeout_s: float | None = None) -> Steps[Job]:
        """The job once it has succeeded; `progress` is called with it whenever it moved.

        Raises:
            JobFailed: it failed or was canceled. JobUnfinished: it did not end in `timeout_s`.
        """
        return waiting(self._exchange, job_id, progress, timeout_s)

    @method
    def cancel_job(self, job_id: str) -> Steps[Job]:
        """Cancel a consolidation that is still queued."""
        return self._post(f"/v1/jobs/{segment(job_id)}/cancel", Job, None, by_bank=False, key=new_key())

    # banks, keys and the trail

    @method
    def create_bank(self, name: str) -> Steps[Bank]:
        """Create an empty bank."""
        return self._post("/v1/banks", Bank, {"name": name}, by_bank=False, key=new_key())

    @listing
    def banks(self) -> Listing[Bank]:
        """The banks that the key may use."""
        return self._list("/v1/banks", Page[Bank], None, by_bank=False)

    @method
    def get_bank(self, bank: str) -> Steps[Bank]:
        """One bank, by name or id."""
        return self._get(f"/v1/banks/{segment(bank)}", Bank, None, by_bank=False)

    @method
    def delete_bank(self, bank: str) -> Steps[None]:
        """Delete a bank, its ledger and its snapshots, for good."""
        yield from self._exchange.perform(Call(method="DELETE", path=f"/v1/banks/{segment(bank)}", reply=NoneType))
        self._exchange.forget_state(bank)

    @method
    def mint_key(
        self, name: str, scopes: Sequence[str], *, banks: Sequence[str] | None = None, expires_at: datetime | None = None
    ) -> Steps[MintedKey]:
        """Mint a key, pinned to banks if their ids are given. Its secret is in the reply and nowhere else.

        Raises:
            SecretLost: the key was made, and the reply with its secret was lost.
        """
        body = {"name": name, "scopes": list(scopes), "banks": None if banks is None else list(banks), "expires_at": expires_at}
        minted = yield from self._post("/v1/keys", MintedKey, body, by_bank=False, key=new_key())
        if minted.key is None:
            raise SecretLost(f"the key {minted.id} was made, and its secret was lost on the way; revoke it and mint another")
        return minted

    @listing
    def keys(self) -> Listing[Key]:
        """Keys without their secrets."""
        return self._list("/v1/keys", Page[Key], None, by_bank=False)

    @method
    def revoke_key(self, key_id: str) -> Steps[Key]:
        """Revoke a key, at once."""
        return self._exchange.perform(Call(method="DELETE", path=f"/v1/keys/{segment(key_id)}", reply=Key))

    @method
    def whoami(self) -> Steps[WhoAmI]:
        """The tenant and the rights of this client's key."""
        return self._get("/v1/whoami", WhoAmI, None, by_bank=False)

    @listing
    def audit(self) -> Listing[AuditEntry]:
        """Who changed what, newest first."""
        return self._list("/v1/audit", Page[AuditEntry], None, by_bank=False)

    @method
    def health(self) -> Steps[Health]:
        """Whether the first recall would be served warm, and the parts."""
        return self._exchange.perform(Call(method="GET", path="/health/ready", reply=Health, also=503))

    # sessions

    def session(self, session_id: str | None = None, *, bank: str | None = None) -> Session[Way]:
        """A conversation, for `with` or `async with`: opened at its begin, under a new name where none is given, and closed at its end."""
        return Session(self._way, self._exchange, self._named(bank), session_id)

    @listing
    def sessions(self, *, bank: str | None = None) -> Listing[SessionInfo]:
        """The open sessions of a bank."""
        return self._list("/v1/sessions", Page[SessionInfo], bank)

    @method
    def get_session(self, session_id: str, *, bank: str | None = None) -> Steps[SessionInfo]:
        """One session; to look at it is not to use it."""
        return self._get(f"/v1/sessions/{segment(session_id)}", SessionInfo, bank)

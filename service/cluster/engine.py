"""The engine port: what the api asks of whoever runs the model. Direct in the embedded service, a framed socket in a cluster.

Every call names the tenant that the key belongs to; a bank that the tenant does not own is `NotFound`. Texts arrive checked. Raises
the errors of `service.errors` only.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from service import wire


class Actor(Struct, frozen=True):
    """Who asks, for the audit: the key and the request."""

    key_id: str
    request_id: str


class Engine(Protocol):
    """Runs the model over the ledger: writes are durable before they are applied, reads see every write that came before."""

    async def teach(
        self,
        tenant: str,
        bank: str,
        items: Sequence[wire.NewCorrection],
        *,
        actor: Actor,
        idempotency_key: str | None,
        ids: Sequence[str] | None = None,
    ) -> list[wire.Taught]:
        """Append the corrections in one transaction, apply them in order, and measure a receipt for each.

        With `idempotency_key` (begun by the api) the append marks the key committed in the same transaction. With `ids`, fresh ones for
        the items, a call that was lost on the way can be made again: whichever comes second finds them in the ledger and is answered as
        by `taught`.
        """

    async def taught(self, tenant: str, bank: str, first_seq: int, items: Sequence[wire.NewCorrection]) -> list[wire.Taught]:
        """The replies for `items`, committed from `first_seq` on and never answered (a crash), measured again on the folded state."""

    async def recall(
        self,
        tenant: str,
        bank: str,
        inputs: Sequence[str],
        *,
        top_k: int,
        min_confidence: float | None,
        at: str | None,
        explain: bool,
        min_seq: int | None,
    ) -> tuple[list[wire.RecalledItem], wire.StateRef, wire.Usage]:
        """Answer each input at the head (`at` None) or at a snapshot; `min_seq` is the state the caller has seen."""

    async def memory(self, tenant: str, bank: str) -> wire.Memory:
        """Summary of the learned state with its digest."""

    async def snapshot(self, tenant: str, bank: str, *, label: str | None, note: str | None, pin: bool, actor: Actor) -> wire.Snapshot:
        """Save the bank as it is now."""

    async def roll_back(
        self,
        tenant: str,
        bank: str,
        to: str | None,
        *,
        dry_run: bool,
        if_match: str | None,
        reason: str | None,
        actor: Actor,
        idempotency_key: str | None,
        to_time: datetime | None = None,
        source: wire.Source | None = None,
        keep: str | list[str] = "none",
        probes: int = wire.PROBES,
    ) -> wire.RolledBack:
        """Move the head to another state, see `wire.RollbackRequest`; every warm copy follows before this returns.

        With `idempotency_key` the move marks the key committed in the same transaction, with the head's new version for a seq. Where the
        reply has a `job_id`, nothing was done: the state is folded by that job first.
        """

    async def rolled_back(self, tenant: str, bank: str, version: int, *, probes: int = wire.PROBES) -> wire.RolledBack:
        """The reply for a rollback that made the head's `version` and was never answered (a crash)."""

    async def delete_snapshot(self, tenant: str, bank: str, snapshot: str, *, actor: Actor) -> None:
        """Give up a snapshot's weights for good; not the head's, nor pinned ones."""

    async def diff(self, tenant: str, bank: str, before: str, after: str, *, probes: int = wire.PROBES) -> wire.SnapshotDiff:
        """What differs between two snapshots; `head` is the present state. Both are asked about at most so many corrections."""

    async def verify(self, tenant: str, bank: str, snapshot: str) -> wire.Verified:
        """Look at a snapshot's bytes and the ledger that it covers, and load it."""

    async def bisect(
        self, tenant: str, bank: str, input: str, *, since: str | None, actor: Actor, until: str | None = None
    ) -> wire.JobStarted:
        """Queue a job that finds what brought the present answer to `input`, or that of the snapshot `until`."""

    async def import_bundle(self, tenant: str, bank: str, bundle: str, *, actor: Actor) -> wire.Imported:
        """Make a snapshot of a bundle in the database whose signature and digests were checked; the head stays."""

    async def create_branch(self, tenant: str, bank: str, name: str, *, at: str | None, actor: Actor) -> wire.Branch:
        """A bank that begins with what the bank holds now, or held at a snapshot."""

    async def diff_branch(self, tenant: str, bank: str, branch: str, *, probes: int = wire.PROBES) -> wire.SnapshotDiff:
        """What differs between the bank and its branch, as they are now."""

    async def promote_branch(self, tenant: str, bank: str, branch: str, *, refold: bool, actor: Actor) -> wire.Promoted:
        """Append what was taught in the branch to the bank's ledger, and delete the branch."""

    async def forget(
        self,
        tenant: str,
        bank: str,
        corrections: Sequence[str],
        *,
        mode: wire.ForgetMode,
        reason: str | None,
        actor: Actor,
    ) -> wire.Forgotten:
        """Tombstone the corrections; from the return on no recall answers with them."""

    async def preview_forget(self, tenant: str, bank: str, corrections: Sequence[str]) -> wire.ForgetPreview:
        """Which answers would change at once if these were forgotten; nothing is changed."""

    async def membership(self, tenant: str, bank: str, corrections: Sequence[str]) -> list[wire.Membership]:
        """What these forgotten corrections still say at their own inputs, at the head; erased ones are left out."""

    async def quarantine(
        self,
        tenant: str,
        bank: str,
        corrections: Sequence[str],
        *,
        session: str | None,
        key: str | None,
        reason: str | None,
        actor: Actor,
    ) -> wire.Quarantine:
        """Hold the corrections, or all of a session or key: from the return on no recall answers with them, and the source is refused."""

    async def lift(self, tenant: str, bank: str, quarantine_id: str, *, actor: Actor) -> wire.Quarantine:
        """Hold a quarantine's corrections no longer: from the return on they answer as if they had never been held."""

    async def create_bank(self, tenant: str, name: str, *, actor: Actor) -> wire.Bank:
        """A new empty bank under the engine's base configuration, with its genesis snapshot."""

    async def delete_bank(self, tenant: str, bank: str, *, actor: Actor) -> None:
        """Delete the bank, its ledger, snapshots and blobs, and drop its warm copy."""

    async def warm(self, tenant: str, bank: str) -> wire.Warmth:
        """Load the bank if need be; whether it was warm, and how long the load took or would take."""

    async def levels(self, tenant: str, bank: str, *, sample: int) -> wire.Levels:
        """What each level is and knows; at most `sample` live corrections are asked of it."""

    async def trace(self, tenant: str, bank: str, correction: str) -> wire.Trace:
        """Where a correction lives now, by level and by snapshot."""

    async def probe(self, tenant: str, bank: str, inputs: Sequence[str], *, at: Sequence[str]) -> wire.Probed:
        """What each of the versions `at` (`wire.HEAD` or snapshots) says to each input."""

    async def explain(self, tenant: str, bank: str, text: str, *, at: str, sample: int) -> wire.Explained:
        """Why the version `at` answers `text` so; at most `sample` corrections are left out for it."""

    async def observe(self, tenant: str, bank: str, turn: wire.NewTurn, *, actor: Actor, ids: Sequence[str]) -> wire.TurnTaken:
        """Append a turn of a conversation to the ledger, under the first of `ids`, and let the bank's language model learn it.

        A call that was lost on the way can be made again: the second finds the id in the ledger, and nothing is learned twice. The other
        ids are what a retry may have called the same turn, which counts for as long as an Idempotency-Key is known.
        """

    async def speak(
        self,
        tenant: str,
        bank: str,
        lines: Sequence[wire.ChatLine],
        *,
        talk: str,
        at: str | None,
        said: Sequence[int],
        most: int,
        last: bool,
        how: wire.Speaking,
    ) -> wire.Spoken:
        """Go on with a conversation by at most `most` tokens after those that were `said`, at the head (`at` None) or at a snapshot.

        What is read and said here moves the fast levels for as long as the answer is made, and nothing of the bank. `talk` is a name of
        this answer alone: under it what was read is kept for the next piece, unless this is the `last`.
        """

    async def health(self) -> list[wire.Component]:
        """The engine's parts: encoder, model thread, blobs."""

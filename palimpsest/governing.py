"""Who may do what, what was done, and what is to be no more: forgetting, quarantine, keys, the audit, webhooks, the change feed."""

from collections.abc import Sequence
from datetime import datetime
from types import NoneType

from palimpsest.errors import SecretLost
from palimpsest.exchange import new_key, segment
from palimpsest.feed import Feed, Told
from palimpsest.jobs import Forgetting
from palimpsest.replies import (
    AuditEntry,
    AuditVerified,
    Certificate,
    Delivery,
    Forgotten,
    Key,
    MadeWebhook,
    MintedKey,
    Page,
    Quarantine,
    RotatedKey,
    Webhook,
    WhoAmI,
)
from palimpsest.sources import Source
from palimpsest.steps import Following, Listing, Steps, Way, listing, method
from palimpsest.versioning import Versioning


class Governing(Versioning[Way]):
    """The calls of whoever answers for a memory."""

    @method
    def forget(
        self,
        corrections: Sequence[str] | None = None,
        mode: str = "rebuild",
        *,
        source: Source | None = None,
        dry_run: bool = False,
        confirm_token: str | None = None,
        reason: str | None = None,
        bank: str | None = None,
    ) -> Steps[Forgetting[Way]]:
        """Forget corrections, by id, or all from a `source`. Nothing is answered with them from now on, whatever the mode.

        `suppress` leaves it at that; `rebuild` makes the weights those of a memory that never saw them, by a job; `erase` destroys their
        texts and the snapshots that hold them, too. `dry_run` only tells which these are and which answers would change; with the
        `confirm_token` that it gives just these are forgotten, or `Conflict` is raised.
        """
        body = {
            "corrections": None if corrections is None else list(corrections),
            "source": source,
            "mode": mode,
            "dry_run": dry_run,
            "confirm_token": confirm_token,
            "reason": reason,
        }
        forgotten = yield from self._post("/v1/forget", Forgotten, body, bank=bank, key=None if dry_run else new_key())
        return Forgetting(self._way, self._exchange, forgotten)

    @method
    def certificate(self, forget_id: str) -> Steps[Certificate]:
        """What a forget has done: what was removed, digests before and after, what its corrections still say."""
        return self._get(f"/v1/forget/{segment(forget_id)}", Certificate, None, by_bank=False)

    @listing
    def certificates(self, *, bank: str | None = None) -> Listing[Certificate]:
        """What was forgotten, newest first; without a bank of the whole tenant, with what was forgotten in banks that are deleted."""
        return self._list("/v1/forget", Page[Certificate], bank)

    @method
    def quarantine(
        self,
        corrections: Sequence[str] | None = None,
        *,
        source: Source | None = None,
        reason: str | None = None,
        bank: str | None = None,
    ) -> Steps[Quarantine]:
        """Hold corrections, or all from a `source`, out of the memory at once, until it is lifted; the source teaches nothing meanwhile."""
        body = {"corrections": None if corrections is None else list(corrections), "source": source, "reason": reason}
        return self._post("/v1/quarantine", Quarantine, body, bank=bank, key=new_key())

    @listing
    def quarantines(self, *, bank: str | None = None) -> Listing[Quarantine]:
        """The quarantines of a bank, lifted ones too."""
        return self._list("/v1/quarantine", Page[Quarantine], bank)

    @method
    def lift_quarantine(self, quarantine_id: str) -> Steps[Quarantine]:
        """Lift a quarantine: what it held answers again.

        Raises:
            Conflict: it was lifted before.
        """
        return self._call("DELETE", f"/v1/quarantine/{segment(quarantine_id)}", Quarantine, None, by_bank=False)

    @method
    def mint_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        banks: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        rate: float | None = None,
    ) -> Steps[MintedKey]:
        """Mint a key, pinned to banks if their ids are given, for `rate` requests a second. Its secret is in the reply and nowhere else.

        Raises:
            SecretLost: the key was made, and the reply with its secret was lost.
        """
        pinned = None if banks is None else list(banks)
        body = {"name": name, "scopes": list(scopes), "banks": pinned, "expires_at": expires_at, "rate": rate}
        minted = yield from self._post("/v1/keys", MintedKey, body, by_bank=False, key=new_key())
        if minted.key is None:
            raise SecretLost(f"the key {minted.id} was made, and its secret was lost on the way; revoke it and mint another")
        return minted

    @listing
    def keys(self) -> Listing[Key]:
        """Keys without their secrets."""
        return self._list("/v1/keys", Page[Key], None, by_bank=False)

    @method
    def rotate_key(self, key_id: str, *, overlap_s: int = 86_400) -> Steps[RotatedKey]:
        """Give a key a successor with the same rights; both work for `overlap_s` seconds. Its secret is in the reply and nowhere else.

        Raises:
            SecretLost: the successor was made, and the reply with its secret was lost.
        """
        path = f"/v1/keys/{segment(key_id)}/rotate"
        made = yield from self._post(path, RotatedKey, {"overlap_s": overlap_s}, by_bank=False, key=new_key())
        if made.key is None:
            raise SecretLost(f"the key {made.id} was made, and its secret was lost on the way; revoke it and rotate {made.replaces} again")
        return made

    @method
    def revoke_key(self, key_id: str) -> Steps[Key]:
        """Revoke a key, at once."""
        return self._call("DELETE", f"/v1/keys/{segment(key_id)}", Key, None, by_bank=False)

    @method
    def whoami(self) -> Steps[WhoAmI]:
        """The tenant and the rights of this client's key."""
        return self._get("/v1/whoami", WhoAmI, None, by_bank=False)

    @listing
    def audit(self) -> Listing[AuditEntry]:
        """Who changed what, newest first."""
        return self._list("/v1/audit", Page[AuditEntry], None, by_bank=False)

    @method
    def verify_audit(self) -> Steps[AuditVerified]:
        """Whether the audit's hash chain holds, and the first entry that does not."""
        return self._get("/v1/audit/verify", AuditVerified, None, by_bank=False)

    @method
    def create_webhook(self, url: str, events: Sequence[str]) -> Steps[MadeWebhook]:
        """Tell an https address of changes of the whole tenant. The secret that signs them is in the reply and nowhere else.

        Raises:
            SecretLost: the webhook was made, and the reply with its secret was lost.
        """
        body = {"url": url, "events": list(events)}
        made = yield from self._post("/v1/webhooks", MadeWebhook, body, by_bank=False, key=new_key())
        if made.secret is None:
            raise SecretLost(f"the webhook {made.id} was made, and its secret was lost on the way; delete it and make another")
        return made

    @listing
    def webhooks(self) -> Listing[Webhook]:
        """Webhooks without their secrets."""
        return self._list("/v1/webhooks", Page[Webhook], None, by_bank=False)

    @method
    def delete_webhook(self, webhook_id: str) -> Steps[None]:
        """Tell an address nothing more."""
        return self._call("DELETE", f"/v1/webhooks/{segment(webhook_id)}", NoneType, None, by_bank=False)

    @listing
    def deliveries(self, webhook_id: str) -> Listing[Delivery]:
        """What became of each delivery of a webhook, newest first."""
        return self._list(f"/v1/webhooks/{segment(webhook_id)}/deliveries", Page[Delivery], None, by_bank=False)

    @method
    def redeliver(self, webhook_id: str, delivery_id: str) -> Steps[Delivery]:
        """Deliver once more."""
        path = f"/v1/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/redeliver"
        return self._post(path, Delivery, None, by_bank=False, key=new_key())

    @listing
    def changes(
        self, *, since: str | None = None, events: Sequence[str] = (), wait_s: float | None = None, bank: str | None = None
    ) -> Following[Told]:
        """What happens, as it happens, in all banks that the key may use, or in `bank`; without end, or for `wait_s` seconds.

        It begins with what happens next, or behind the place `since`, within a week. `events` chooses some. A stream that breaks is taken
        up where it broke; `Unreachable` or a refusal is raised when that does not help.
        """
        return Feed(self._exchange, bank, events, since, wait_s)

"""The one tree of errors a person or a program can meet, and what to do about each.

    PalimpsestError
    ├── Unauthenticated 401        ├── HeadMoved 412            ├── WriterBusy 409
    ├── Forbidden 403              ├── StateUnavailable 409     ├── NotOwner (never leaves the worker)
    ├── NotFound 404               ├── TaintedSnapshot 409      ├── TooLarge 413
    ├── Invalid 400                ├── ChecksumMismatch 422     ├── Quota 429
    ├── Conflict 409               ├── GateFailed 409           ├── StorageFull 507
    ├── IdempotencyMismatch 422    ├── IdempotencyInFlight 409  ├── Capacity 503
    ├── BundleRefused 422          ├── StateUnknown 409         ├── OtherEncoder 409
    └── OutcomeUnknown 503

`status` is the HTTP status, `code` the stable name that clients may branch on; the docstring of each class tells the reader what to do.
`service.api.problems` turns any of them into `application/problem+json`.
"""

from typing import ClassVar


class PalimpsestError(Exception):
    """Something went wrong that has no better name; report it with the request id."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, detail: str = "", *, errors: list[dict[str, str]] | None = None, retry_after_s: int | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = errors or []
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)


class Unauthenticated(PalimpsestError):
    """Send `Authorization: Bearer <key>` with a key that is neither expired nor revoked."""

    status = 401
    code = "unauthenticated"


class Forbidden(PalimpsestError):
    """This key lacks the scope that the call needs; ask an admin for a key that has it."""

    status = 403
    code = "forbidden"


class NotFound(PalimpsestError):
    """No such thing for this key; check the id, and that the key belongs to the tenant that owns it."""

    status = 404
    code = "not-found"


class Invalid(PalimpsestError):
    """The request does not have the form that this call takes; the `errors` list names each field."""

    status = 400
    code = "validation"


class Conflict(PalimpsestError):
    """The thing exists already or is in a state that rules this call out; read it and decide again."""

    status = 409
    code = "conflict"


class TooLarge(PalimpsestError):
    """The body is above the limit; send less at once."""

    status = 413
    code = "too-large"


class IdempotencyMismatch(PalimpsestError):
    """This Idempotency-Key was used with another request; use a new key for a new one."""

    status = 422
    code = "idempotency-mismatch"


class IdempotencyInFlight(PalimpsestError):
    """The first request with this Idempotency-Key is still running; ask again in a moment."""

    status = 409
    code = "idempotency-in-flight"


class HeadMoved(PalimpsestError):
    """The bank's head is no longer the one that `If-Match` names; read the head and decide again."""

    status = 412
    code = "head-moved"


class StateUnavailable(PalimpsestError):
    """The bank has not reached the asked state yet; retry after the given seconds."""

    status = 409
    code = "state-unavailable"


class StateUnknown(PalimpsestError):
    """`Memory-Min-State` is of no state of this bank, which was made anew under its name perhaps; drop it, and read without."""

    status = 409
    code = "state-unknown"


class OtherEncoder(PalimpsestError):
    """The bank was taught with another encoder, or another start of it, than this service has; `detail` says how to go on."""

    status = 409
    code = "other-encoder"


class WriterBusy(PalimpsestError):
    """Another writer holds this bank; retry after the given seconds."""

    status = 409
    code = "writer-busy"


class NotOwner(PalimpsestError):
    """This worker's epoch is no longer the bank's: it drops the warm state, acquires again and retries (never sent to a client)."""

    status = 409
    code = "writer-busy"


class TaintedSnapshot(PalimpsestError):
    """The snapshot still holds a forgotten correction (or was destroyed for one); choose a snapshot that does not."""

    status = 409
    code = "tainted-snapshot"


class GateFailed(PalimpsestError):
    """A correction that the head gets right is wrong in the candidate; the head stays, the candidate is kept with its figures."""

    status = 409
    code = "consolidation-gate-failed"


class ChecksumMismatch(PalimpsestError):
    """Stored bytes do not have the digest they were saved under; the digest is named, an older snapshot serves."""

    status = 422
    code = "checksum-mismatch"


class BundleRefused(PalimpsestError):
    """The bundle cannot be imported here, the detail says why; nothing was changed. Send the bytes that an export of this bank gave."""

    status = 422
    code = "bundle-refused"


class Quota(PalimpsestError):
    """A limit of this tenant or key is reached; wait, or ask for more."""

    status = 429
    code = "quota"


class Capacity(PalimpsestError):
    """No worker can take the request now; retry after the given seconds."""

    status = 503
    code = "capacity"


class OutcomeUnknown(PalimpsestError):
    """A worker was lost on the way and nobody can say whether the write was kept; send it again with the same Idempotency-Key."""

    status = 503
    code = "capacity"


class StorageFull(PalimpsestError):
    """The service could not write to its storage; nothing of this request was kept. Free space, then send it again."""

    status = 507
    code = "storage-full"

"""What can go wrong between a program and its memory, as one tree; `code` is the service's stable name for it.

    PalimpsestError
    ├── Refused: the service answered with a problem
    │   ├── Unauthenticated 401    ├── NotFound 404            ├── HeadMoved 412           ├── GateFailed 409
    │   ├── Forbidden 403          ├── MethodNotAllowed 405    ├── TaintedSnapshot 409     ├── StorageFull 507
    │   ├── Invalid 400            ├── Conflict 409            ├── ChecksumMismatch 422    └── Internal 500
    │   ├── TooLarge 413           ├── IdempotencyMismatch 422 ├── BundleRefused 422       ├── StateUnknown 409
    │   ├── OtherEncoder 409
    │   └── NotNow: it passes; the client has waited and tried again before it raises one of these
    │       ├── StateUnavailable 409   ├── WriterBusy 409   ├── IdempotencyInFlight 409   ├── Quota 429   └── Capacity 503
    ├── Unreachable: no answer came
    ├── VersionMismatch: the other side is older or newer, or is no Palimpsest
    ├── SecretLost: a key or a webhook was made, and the reply with its secret did not arrive
    ├── JobFailed, JobUnfinished: about a job that was waited for
    └── NotConfigured: a setting of the client cannot be used

A service that is newer may use a code that is not here; it is raised as `Refused`, with the code.
"""

from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct, field

if TYPE_CHECKING:
    from palimpsest.replies import Job


class PalimpsestError(Exception):
    """Whatever this package raises by itself."""


class NotConfigured(PalimpsestError, ValueError):
    """An address, a key or a setting cannot be used; the message says which and why."""


class Unreachable(PalimpsestError):
    """Nobody answered, also after further tries. Whether a write was kept is not known; it is kept at most once."""


class VersionMismatch(PalimpsestError):
    """The service and this client do not understand each other; the message says who is older."""


class SecretLost(PalimpsestError):
    """The reply that holds a new key's or webhook's secret was lost on the way; the message says what to do."""


class JobFailed(PalimpsestError):
    """A job that was waited for failed or was canceled; `job` is what the service says of it."""

    def __init__(self, job: "Job") -> None:
        self.job = job
        why = (job.error or {}).get("detail") or (job.error or {}).get("code") or "no cause is told"
        super().__init__(f"the {job.kind} {job.id} is {job.status}: {why}")


class JobUnfinished(PalimpsestError, TimeoutError):
    """A job did not end in the time that was given; it goes on all the same. `job` is what was last said of it."""

    def __init__(self, job: "Job", seconds: float) -> None:
        self.job = job
        super().__init__(f"the {job.kind} {job.id} is {job.status} after {seconds:g} s ({job.progress:.0%})")


class Problem(Struct, frozen=True):
    """The body of a refusal (RFC 9457), as far as this client reads it."""

    code: str
    detail: str = ""
    request_id: str = ""
    errors: list[dict[str, str]] = field(default_factory=list)


class Refused(PalimpsestError):
    """The service refused a request. `errors` names the fields at fault, `request_id` is what its log knows the request by."""

    of_code: ClassVar[str] = ""

    def __init__(self, problem: Problem, status: int, retry_after_s: float | None = None) -> None:
        self.code, self.detail, self.request_id, self.errors = problem.code, problem.detail, problem.request_id, problem.errors
        self.status, self.retry_after_s = status, retry_after_s
        told = f" [request {problem.request_id}]" if problem.request_id else ""
        super().__init__(f"{problem.code}: {problem.detail}{told}")


class Unauthenticated(Refused):
    """The key is missing, unknown, expired or revoked."""

    of_code = "unauthenticated"


class Forbidden(Refused):
    """The key lacks the scope that the call needs."""

    of_code = "forbidden"


class NotFound(Refused):
    """No such thing for this key."""

    of_code = "not-found"


class Invalid(Refused):
    """The request does not have the form that the call takes; `errors` names each field."""

    of_code = "validation"


class MethodNotAllowed(Refused):
    """The path does not take the method."""

    of_code = "method-not-allowed"


class Conflict(Refused):
    """The thing exists already or is in a state that rules this call out."""

    of_code = "conflict"


class TooLarge(Refused):
    """The body is above the limit; send less at once."""

    of_code = "too-large"


class IdempotencyMismatch(Refused):
    """The Idempotency-Key was used with another body."""

    of_code = "idempotency-mismatch"


class HeadMoved(Refused):
    """The bank's head is no longer the one that was named; read it and decide again."""

    of_code = "head-moved"


class TaintedSnapshot(Refused):
    """The snapshot still holds a forgotten correction; choose another."""

    of_code = "tainted-snapshot"


class GateFailed(Refused):
    """The candidate answers worse than the head."""

    of_code = "consolidation-gate-failed"


class ChecksumMismatch(Refused):
    """Stored bytes do not have the digest they were saved under."""

    of_code = "checksum-mismatch"


class BundleRefused(Refused):
    """The bundle cannot be imported into this bank, `detail` says why; nothing was changed."""

    of_code = "bundle-refused"


class StorageFull(Refused):
    """The service could not write to its storage; nothing of the request was kept."""

    of_code = "storage-full"


class Internal(Refused):
    """Something went wrong inside the service; report it with the request id."""

    of_code = "internal"


class NotNow(Refused):
    """A refusal that passes by itself; `retry_after_s` is what the service advises."""


class StateUnavailable(NotNow):
    """The bank has not reached the state that this client has seen."""

    of_code = "state-unavailable"


class StateUnknown(Refused):
    """What was seen of a bank was not seen of this one: it was made anew under its name. The client forgets it and asks again by itself."""

    of_code = "state-unknown"


class OtherEncoder(Refused):
    """The bank was taught with another encoder, or another start of it, than the service has."""

    of_code = "other-encoder"


class WriterBusy(NotNow):
    """Another writer holds the bank."""

    of_code = "writer-busy"


class IdempotencyInFlight(NotNow):
    """The first request with this Idempotency-Key is still running."""

    of_code = "idempotency-in-flight"


class Quota(NotNow):
    """A limit of the tenant or the key is reached."""

    of_code = "quota"


class Capacity(NotNow):
    """Nobody can take the request now."""

    of_code = "capacity"


def _leaves(kind: type[Refused]) -> list[type[Refused]]:
    return [leaf for child in kind.__subclasses__() for leaf in ([child] if child.of_code else _leaves(child))]


BY_CODE = {kind.of_code: kind for kind in _leaves(Refused)}
"""Every code that this client knows, and its class."""


def refusal(problem: Problem, status: int, retry_after_s: float | None) -> Refused:
    """The error of a problem; also of a code that a newer service invented."""
    return BY_CODE.get(problem.code, Refused)(problem, status, retry_after_s)

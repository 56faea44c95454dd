"""Errors on their way from a worker to an api: by name, so that whoever catches one there catches it here.

What nobody expected is logged where it happened and crosses without its message, which may quote a memory.
"""

import structlog

from service.cluster.link import Failure
from service.errors import NotOwner, PalimpsestError, WriterBusy
from service.telemetry import places

log = structlog.get_logger()


def failure_of(call_id: int, error: Exception, method: str) -> Failure:
    """The frame for an error that a call raised."""
    match error:
        case NotOwner():  # the worker's own affair; whoever asks again finds the bank's next owner
            told: PalimpsestError = WriterBusy(retry_after_s=error.retry_after_s or 1)
        case PalimpsestError():
            told = error
        case _:
            log.error("call failed", action="call", method=method, error=type(error).__qualname__, places=places(error))
            told = PalimpsestError("unexpected error in a worker; its cause is in the worker's log")
    kinds = [kind.__name__ for kind in type(told).__mro__ if issubclass(kind, PalimpsestError)]
    return Failure(call_id, kinds, told.status, told.code, told.detail, told.errors, told.retry_after_s)


def error_of(failure: Failure) -> PalimpsestError:
    """The error that a frame tells of: of its class, or of the nearest parent that this process knows with its status and code."""
    known = _known()
    kind = next((known[name] for name in failure.kinds if name in known), PalimpsestError)
    error = kind(failure.detail, errors=failure.errors, retry_after_s=failure.retry_after_s)
    if (error.status, error.code) != (failure.status, failure.code):
        vars(error).update(status=failure.status, code=failure.code)  # of this error alone
    return error


def _known() -> dict[str, type[PalimpsestError]]:
    """By name, also those that are defined elsewhere, as `service.store.failures.CommitUnknown` is. Looked up anew: an import adds some."""
    known: dict[str, type[PalimpsestError]] = {}
    waiting: list[type[PalimpsestError]] = [PalimpsestError]
    while waiting:
        kind = waiting.pop()
        known[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return known

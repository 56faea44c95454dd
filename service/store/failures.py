"""The one place where a driver's error becomes one of ours."""

import contextlib
import sqlite3
from collections.abc import Iterator

import psycopg
from sqlalchemy import exc

from service.errors import Capacity, NotFound, OutcomeUnknown, StorageFull

FULL = ("database or disk is full", "disk I/O error", "No space left on device", "could not extend file", "File too large")
GONE = "what this belongs to is gone: its bank was deleted meanwhile, or its tenant erased"


class CommitUnknown(OutcomeUnknown):
    """It is unknown whether the write was kept; read the bank's events, or send it again with the same Idempotency-Key."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What a driver raises inside is raised as `StorageFull`, `Capacity` or `NotFound`."""
    try:
        yield
    except exc.IntegrityError as error:
        if not refers_to_nothing(error):
            raise
        raise NotFound(GONE) from error
    except exc.TimeoutError as error:
        raise Capacity("the database is busy", retry_after_s=1) from error
    except (exc.OperationalError, exc.InternalError, exc.InterfaceError) as error:
        if _full(error.orig):
            raise StorageFull() from error
        raise _unusable(error.orig) from error
    except psycopg.errors.ForeignKeyViolation as error:
        raise NotFound(GONE) from error
    except (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError, sqlite3.OperationalError) as error:
        if _full(error):
            raise StorageFull() from error
        raise _unusable(error) from error


def _full(error: BaseException | None) -> bool:
    return any(sign in str(error) for sign in FULL)


def _unusable(error: BaseException | None) -> Capacity:
    why = type(error).__name__
    return Capacity(f"the database cannot be used now ({why}); see that it runs and can be reached", retry_after_s=1)


def refers_to_nothing(error: exc.IntegrityError) -> bool:
    """Whether a row was to belong to another that is not there (any more)."""
    return getattr(error.orig, "sqlstate", "") == "23503" or "FOREIGN KEY" in str(error.orig)

"""What a request means by `corrections` or a `source`: a fixed list of corrections, looked up once."""

from collections.abc import Sequence

from service import wire
from service.api.caller import Caller
from service.errors import Conflict, Invalid, NotFound
from service.store import history
from service.store.rows import BankRow

ONE = "name either session_id or key_id"
MOST = 10_000  # corrections of a source that one call forgets


def names_one(source: wire.Source) -> bool:
    """Whether it is a source: not two, and not none."""
    return (source.session_id is None) != (source.key_id is None)


def check_source(corrections: Sequence[str] | None, source: wire.Source | None) -> None:
    """Refuse a request that names both, neither, or a source that is two or none.

    Raises:
        Invalid: with the field.
    """
    if (corrections is None) == (source is None):
        field, message = "corrections", "name either corrections or a source"
    elif source is not None and not names_one(source):
        field, message = "source", ONE
    else:
        return
    raise Invalid(f"{field}: {message}", errors=[{"field": field, "message": message}])


async def named(caller: Caller, bank: BankRow, corrections: Sequence[str] | None, source: wire.Source | None) -> list[str]:
    """The corrections that are meant, each once.

    Raises:
        NotFound: the source has taught this bank nothing. Conflict: it has taught too much for one call.
    """
    if source is None:
        return list(dict.fromkeys(corrections or []))
    async with caller.deps.database.read(caller.tenant) as conn:
        found = await history.ids_of_source(conn, caller.tenant, bank.id, session=source.session_id, key=source.key_id, limit=MOST + 1)
    if not found:
        raise NotFound("this source has taught this bank nothing")
    if len(found) > MOST:
        raise Conflict(f"this source has taught more than {MOST} corrections, the most at once; name them in parts, as corrections")
    return found

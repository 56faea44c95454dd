"""Prepared statements: parsed and planned once for each connection to PostgreSQL, instead of each time they are sent.

For a statement with a dozen parts, as the one that appends a correction, planning takes the server longer than carrying it out. So a
connection of ours is told each statement once, under a name, and from then on the name with the values. These are written into the text
(`EXECUTE name ('…')`) and not sent as parameters beside it: so several statements are still one message, of which no half can arrive.

A plan serves all values and all sizes of the tables, and may be made while they are empty. Therefore it goes by an index wherever there is
one, and the statements are such that this is right: each finds its rows by a key.
"""

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

PLANNED_ONCE = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off"  # options of a connection that keeps plans
STATEMENTS = 256  # kept here; those of the store are constants of its modules


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement under its name: the one that makes it known to a connection, and its call, with a place for each value (`%(name)s`)."""

    name: str
    making: str
    call: str


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that knows which statements it was told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (the driver's)
        super().__init__(*args, **kwargs)
        self._known: set[str] = set()

    async def prepare(self, statements: Iterable[Prepared]) -> None:
        """Make statements known that are not yet. Not inside a transaction that something else depends on.

        Raises:
            psycopg.Error: they are not known now, and the connection is of no use.
        """
        new = {each.name: each for each in statements if each.name not in self._known}
        if new:
            await self.execute(";".join(each.making for each in new.values()).encode())
            self._known |= new.keys()


@functools.lru_cache(STATEMENTS)
def prepared(text: str) -> Prepared:
    """A statement with places of the form `%(name)s`, as psycopg has them; a percent sign of its own is doubled."""
    places = _Places()
    said, name = text % places, f"p{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    values = ",".join(f"%({place})s" for place in places)
    return Prepared(name, f"PREPARE {name} AS {said}", f"EXECUTE {name}({values})" if values else f"EXECUTE {name}")


class _Places(dict[str, str]):
    """Gives numbers to places in the order in which they are asked for."""

    def __missing__(self, place: str) -> str:
        self[place] = number = f"${len(self) + 1}"
        return number

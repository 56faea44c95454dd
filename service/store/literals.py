"""Values as they stand in the text of a message to PostgreSQL: what psycopg writes, for a third of the time.

A correction writes some sixty values, most of them a row's columns as arrays of one element. For each of them, and for each element,
psycopg looks for a way by its type, and adds the type to what it has written. Here the few types that are sent have one way, and none is
added: the statement that is called names the type of each of its places. Texts are quoted by PostgreSQL's own library in either case.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import psycopg
from psycopg.pq import Escaping
from psycopg.sql import Literal


def literals(values: Mapping[str, Any], connection: psycopg.BaseConnection[Any]) -> dict[str, str]:
    """The values by their names, each as an expression.

    Raises:
        psycopg.DataError: a text holds the character NUL, which PostgreSQL has not.
    """
    quote = Escaping(connection.pgconn).escape_literal
    return {name: _literal(value, quote, connection) for name, value in values.items()}


def _literal(value: Any, quote: Callable[[bytes], bytes | bytearray | memoryview], connection: psycopg.BaseConnection[Any]) -> str:  # noqa: ANN401 (whatever is sent)
    if value is None:
        return "NULL"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:d}"
    text = _array(value) if isinstance(value, list) else _text(value)
    if text is None:
        return Literal(value).as_string(connection)
    return bytes(quote(text.encode())).decode()


def _array(values: list[Any]) -> str | None:
    """The elements as PostgreSQL reads an array; None where one of them is of a type that is not known here."""
    elements = []
    for value in values:
        if value is None:
            elements.append("NULL")
            continue
        text = f"{value:d}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)
        if text is None:
            return None
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        elements.append(f'"{escaped}"')
    return f"{{{','.join(elements)}}}"


def _text(value: Any) -> str | None:  # noqa: ANN401 (whatever is sent)
    """A text, bytes or a time as PostgreSQL reads them; None for all else."""
    if isinstance(value, str):
        if "\0" in value:
            raise psycopg.DataError("a text for PostgreSQL cannot hold the character NUL")
        return value
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return str(value)
    return None

"""What is sent to PostgreSQL arrives as it was: every value of a message, alone and in an array."""

from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.store.literals import literals

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
TEXTS = ["", "NULL", "null", "it's", '"', "\\", "\\x00", "{a,b}", " a ", "a\nb\tc", "%s %(a)s %%", "E'\\n'", "$1", "--", ";", "'" * 9]
TEXTS += ["Zürich 東京 🦆"]
NUMBERS = [0, -1, 2**31 - 1, -(2**31)]
TIMES = [datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), datetime(1999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))]
BYTES = [b"", b"\x00\xff'\\\"", bytes(range(256)) * 6]
KINDS = {"text": TEXTS, "integer": NUMBERS, "bigint": [2**62, -(2**62)], "timestamptz": TIMES, "bytea": BYTES, "boolean": [True, False]}


@on_postgresql
@pytest.mark.parametrize("kind", KINDS)
async def test_values_arrive_as_they_are(database, tenant, kind):
    values = KINDS[kind]
    for value in [*values, None]:
        assert await database.send(tenant, [(f"SELECT %(one)s::{kind}", {"one": value})]) == [(value,)]
    for array in (values, [], [None], [*values, None, *values], values[:1]):
        assert await database.send(tenant, [(f"SELECT %(many)s::{kind}[]", {"many": array})]) == [(array,)]


@on_postgresql
async def test_values_of_other_types_go_as_the_driver_writes_them(database, tenant):
    asking = "SELECT %(half)s::double precision, %(halves)s::double precision[], %(long)s::interval"
    values = {"half": 0.5, "halves": [0.5, None, -1e300], "long": timedelta(seconds=5)}
    assert await database.send(tenant, [(asking, values)]) == [tuple(values.values())]


@on_postgresql
@pytest.mark.parametrize("value", ["a\0b", ["a", "\0"]])
async def test_character_that_postgresql_has_not_is_refused_and_the_next_message_is_taken(database, tenant, value):
    with pytest.raises(psycopg.DataError):
        await database.send(tenant, [("SELECT %(it)s::text", {"it": value})])
    assert await database.send(tenant, [("SELECT %(it)s::text", {"it": "b"})]) == [("b",)]


@on_postgresql
def test_texts_are_quoted_so_that_the_server_reads_them_back(database_url):
    letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("PREPARE p AS SELECT $1::text, $2::text[]")

        @settings(deadline=None)
        @given(letters, st.lists(st.none() | letters))
        def told(alone, many):
            said = literals({"alone": alone, "many": many}, connection)
            assert connection.execute(f"EXECUTE p({said['alone']}, {said['many']})".encode()).fetchall() == [(alone, many)]

        told()

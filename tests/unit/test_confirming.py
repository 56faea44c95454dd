"""A confirm token is good for one thing, for a while, and from one service."""

from datetime import UTC, datetime, timedelta

import pytest

from service.api import confirming
from service.errors import Conflict

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
WHAT = ("ten_1", "bank_1", "erase", ["cor_1", "cor_2"])
TOKEN = confirming.token(b"pepper", WHAT, NOW + confirming.GOOD_FOR)


def test_token_is_good_for_what_it_was_given_for():
    for later in (timedelta(0), confirming.GOOD_FOR - timedelta(seconds=1)):
        confirming.check(b"pepper", TOKEN, WHAT, NOW + later)


@pytest.mark.parametrize(
    "what",
    [
        ("ten_2", "bank_1", "erase", ["cor_1", "cor_2"]),
        ("ten_1", "bank_2", "erase", ["cor_1", "cor_2"]),
        ("ten_1", "bank_1", "rebuild", ["cor_1", "cor_2"]),
        ("ten_1", "bank_1", "erase", ["cor_1"]),
        ("ten_1", "bank_1", "erase", ["cor_1,cor_2"]),
    ],
)
def test_token_is_for_nothing_else(what):
    with pytest.raises(Conflict):
        confirming.check(b"pepper", TOKEN, what, NOW)


def test_token_ends_and_cannot_be_prolonged():
    end, _, signed = TOKEN.partition(".")
    for given, at in ((TOKEN, NOW + confirming.GOOD_FOR), (f"{int(end) + 60}.{signed}", NOW)):
        with pytest.raises(Conflict):
            confirming.check(b"pepper", given, WHAT, at)


def test_token_of_another_service_is_none():
    with pytest.raises(Conflict):
        confirming.check(b"another", TOKEN, WHAT, NOW)


@pytest.mark.parametrize("given", ["", ".", "x.y", "9" * 30 + ".00", "１２３.00", TOKEN.upper(), "\ud800"])
def test_anything_else_is_none(given):
    with pytest.raises(Conflict):
        confirming.check(b"pepper", given, WHAT, NOW)

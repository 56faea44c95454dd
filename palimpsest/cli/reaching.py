"""What the client's commands share: which service they ask, how they show what it says, how a refusal is told."""

import functools
import os
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

import click
import msgspec

from palimpsest.cli import profiles
from palimpsest.client import AsyncClient, Client
from palimpsest.errors import PalimpsestError

T = TypeVar("T")
C = TypeVar("C", Client, AsyncClient)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # what may make a terminal do or hide something


class Shown:
    """Shows replies: to people in words, with `--json` to programs, one JSON value a line."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def one(self, reply: object, said: str) -> None:
        """A reply, or what is `said` of it."""
        click.echo(msgspec.json.encode(reply).decode() if self.as_json else clean(said))

    def many(self, replies: Iterable[T], line: Callable[[T], str], limit: int | None = None) -> None:
        """Each of a list as it comes."""
        for reply in islice(replies, limit):
            self.one(reply, line(reply))


def clean(text: str) -> str:
    """The text without anything that a terminal would act on: what was taught came from anywhere."""
    return CONTROL.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def short(text: str | None, width: int = 60) -> str:
    """The text on one line, cut to a width."""
    if text is None:
        return "(erased)"
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


class Place(msgspec.Struct, frozen=True):
    """Which service is asked, by which key, about which bank; None leaves it to the environment."""

    url: str | None = None
    key: str | None = None
    bank: str | None = None

    def client(self, kind: type[C]) -> C:
        """A client of it."""
        return kind(self.url, api_key=self.key, bank=self.bank)


def placed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a `Place` as `place`, and the options that it is made from; refusals are told in one line."""

    @click.option("--url", help="Address of the service.  [PALIMPSEST_URL]")
    @click.option("--key", help="API key; better in a profile than in a list of processes.  [PALIMPSEST_KEY]")
    @click.option("--bank", help="Name or id of the bank.  [PALIMPSEST_BANK]")
    @click.option("--profile", envvar="PALIMPSEST_PROFILE", help="A profile of `palimpsest profile`.  [PALIMPSEST_PROFILE]")
    @functools.wraps(command)
    def asking(url: str | None, key: str | None, bank: str | None, profile: str | None, **rest: object) -> None:
        try:
            command(place=_place(url, key, bank, profile), **rest)
        except PalimpsestError as error:
            raise click.ClickException(clean(str(error))) from None

    return asking


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a client as `memory` and a `Shown` as `show`, and the options that these are made from."""

    @placed
    @click.option("--json", "as_json", is_flag=True, help="Show replies as JSON, one a line.")
    @functools.wraps(command)
    def asking(place: Place, as_json: bool, **rest: object) -> None:
        with place.client(Client) as memory:
            command(memory=memory, show=Shown(as_json=as_json), **rest)

    return asking


def _place(url: str | None, key: str | None, bank: str | None, profile: str | None) -> Place:
    """What was said, else a profile. That is taken whole: its key never goes to another address than its own."""
    if profile is not None and (url or key):
        raise click.UsageError("--profile says address and key; give no --url or --key beside it")
    if profile is None and (url or key or "PALIMPSEST_URL" in os.environ or "PALIMPSEST_KEY" in os.environ):
        return Place(url, key, bank)
    known = profiles.read()
    name = profile if profile is not None else known.default
    if name is None:
        return Place(bank=bank)
    chosen = known.named(name)
    return Place(chosen.url, chosen.key, bank or chosen.bank)


def bank_of(memory: Client) -> str:
    """The id of the bank that the client's calls are about: its own, else the key's one bank, else `default`."""
    named = memory.bank
    if named is None:
        pinned = memory.whoami().banks
        named = pinned[0] if pinned is not None and len(pinned) == 1 else "default"
    return memory.get_bank(named).id

"""`palimpsest profile`: services by name."""

import sys

import click

from palimpsest.cli import profiles
from palimpsest.cli.profiles import Profile, Profiles
from palimpsest.cli.reaching import clean
from palimpsest.client import Client
from palimpsest.errors import PalimpsestError


@click.group("profile")
def profile_command() -> None:
    """Keep address, key and bank of services under names."""


@profile_command.command("add")
@click.argument("name")
@click.option("--url", required=True, help="Address of the service.")
@click.option("--bank", help="Name or id of the bank.")
@click.option("--default", "is_default", is_flag=True, help="Use it where nothing else is said; the first one is used so anyway.")
def add(name: str, url: str, bank: str | None, is_default: bool) -> None:
    """Add or replace a profile. The key is asked for, or read from standard input; it is tried before it is kept."""
    key = click.prompt("API key", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().strip()
    try:
        with Client(url, api_key=key) as memory:
            me = memory.whoami()
        known = profiles.read()
        kept = known.profiles | {name: Profile(url, key, bank)}
        profiles.write(Profiles(name if is_default else known.default or name, kept))
    except PalimpsestError as error:
        raise click.ClickException(clean(str(error))) from None
    click.echo(f"{name}: a key with {', '.join(me.scopes)}, kept in {profiles.path()}")


@profile_command.command("list")
def list_profiles() -> None:
    """List profiles without their keys; the default one has a star."""
    known = _read()
    for name, profile in sorted(known.profiles.items()):
        click.echo(f"{'*' if name == known.default else ' '} {name}  {profile.url}  {profile.bank or ''}".rstrip())


@profile_command.command("use")
@click.argument("name")
def use(name: str) -> None:
    """Make a profile the default one."""
    known = _read()
    _known(known, name)
    profiles.write(Profiles(name, known.profiles))


@profile_command.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Remove a profile; its key stays valid at the service."""
    known = _read()
    _known(known, name)
    kept = {other: profile for other, profile in known.profiles.items() if other != name}
    profiles.write(Profiles(None if known.default == name else known.default, kept))


def _read() -> Profiles:
    try:
        return profiles.read()
    except PalimpsestError as error:
        raise click.ClickException(str(error)) from None


def _known(known: Profiles, name: str) -> None:
    try:
        known.named(name)
    except PalimpsestError as error:
        raise click.ClickException(str(error)) from None

"""Profiles: which service, which key, which bank, under a name; in one file of the user's configuration that nobody else may read.

default = "home"

[profiles.home]
url = "http://127.0.0.1:8000"
key = "pal_..."
bank = "default"
"""

import json
import os
import tomllib
from pathlib import Path

import click
import msgspec

from palimpsest.errors import NotConfigured


class Profile(msgspec.Struct, frozen=True):
    """A service as a person uses it."""

    url: str
    key: str
    bank: str | None = None


class Profiles(msgspec.Struct, frozen=True):
    """The file."""

    default: str | None = None
    profiles: dict[str, Profile] = msgspec.field(default_factory=dict)

    def named(self, name: str) -> Profile:
        """The profile of this name.

        Raises:
            NotConfigured: there is none.
        """
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none yet; palimpsest profile add makes one"
            raise NotConfigured(f"there is no profile {name!r}; the profiles are: {known}")
        return self.profiles[name]


def path() -> Path:
    """Where the file is."""
    return Path(click.get_app_dir("palimpsest")) / "config.toml"


def read() -> Profiles:
    """All profiles; none if there is no file.

    Raises:
        NotConfigured: the file is damaged, or others may read it.
    """
    file = path()
    try:
        if file.stat().st_mode & 0o077:
            raise NotConfigured(f"{file} holds keys and others may read it; run: chmod 600 {file}")
        return msgspec.convert(tomllib.loads(file.read_text()), Profiles)
    except FileNotFoundError:
        return Profiles()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as why:
        raise NotConfigured(f"{file} cannot be used: {why}") from None


def write(profiles: Profiles) -> None:
    """Replace the file, whole or not at all."""
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(_toml(profiles))
    draft.replace(file)


def _toml(profiles: Profiles) -> str:
    lines = [] if profiles.default is None else [f"default = {_quoted(profiles.default)}", ""]
    for name, profile in sorted(profiles.profiles.items()):
        given = {field: value for field, value in msgspec.structs.asdict(profile).items() if value is not None}
        lines += [f"[profiles.{_quoted(name)}]", *(f"{field} = {_quoted(value)}" for field, value in given.items()), ""]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

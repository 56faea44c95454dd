"""Which start of the encoder Palimpsest has on a board where the settings ask for one: never one that has learned from what is played.

What is shipped has learned from the training rows of all domains (`model.start`), and the streams of the boards are such rows. So a set of
intents is played with a start of the same recipe that has never seen it, one of `docs/measured/starts`: each leaves several domains out, so
it has seen less than what ships. A board that mixes everything is played with none. A start of its own that the settings name is taken as
it is.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import click
from msgspec import structs

from model.encoder import Encoder, EncoderRefused
from model.start import shipped
from service.processes.encoders import for_new_banks
from service.processes.parts import load_encoder
from service.settings import Settings, SettingsRefused, from_environment

STARTS = Path(__file__).resolve().parent.parent / "docs" / "measured" / "starts"
EVERYTHING = "everything"  # a board of rows of all kinds
WITHOUT = {  # of each set: the start that left it out, and its digest
    "hwu64": ("without-banking77-facts-hwu64", "08c8eec6f9f38667415718fce012cf7064782b3bbb3d6ce25fe9d9e172cd0a0e"),
    "banking77": ("without-banking77-facts-hwu64", "08c8eec6f9f38667415718fce012cf7064782b3bbb3d6ce25fe9d9e172cd0a0e"),
    "clinc150": ("without-clinc150-rewordings", "8a94f92dc4668e968566c6e88f260edbbbbfd297c8f4b1516c28fedd7437d64e"),
}


def settings_of(environ: Mapping[str, str]) -> Settings:
    """The settings of the environment for a benchmark, whose banks are new: a start that is left to the banks is what new ones get.

    Raises:
        SettingsRefused: a setting cannot be used.
    """
    return for_new_banks(from_environment(environ))


def encoder_of(environ: Mapping[str, str]) -> Encoder:
    """The encoder that a service which a benchmark starts on nothing has with these settings, or one clear message."""
    try:
        return load_encoder(settings_of(environ))
    except (EncoderRefused, SettingsRefused) as refused:
        raise click.ClickException(str(refused)) from None


def unseen(settings: Settings, name: str) -> Settings:
    """The settings for a data set; unchanged where they do not ask for a shipped start, or it has learned from no row that is played.

    Raises:
        EncoderRefused: no start of its recipe that left the set out is here.
    """
    if settings.encoder_start not in shipped.STARTS:
        return settings
    if name == EVERYTHING:
        return structs.replace(settings, encoder_start="none", encoder_start_sha256="")
    if name not in WITHOUT:
        return settings
    if settings.encoder_start != "shipped":
        raise EncoderRefused(
            f"the start {settings.encoder_start} has learned from {name}, and none of its recipe is kept that has not: "
            "set PALIMPSEST_ENCODER_START=shipped to measure the recipe of today, or none to measure without a start"
        )
    called, sha256 = WITHOUT[name]
    file = STARTS / f"{called}.safetensors"
    if not file.is_file() or name not in json.loads(file.with_suffix(".json").read_text())["left_out"]:
        raise EncoderRefused(
            f"{file} is not there, or does not say that it left {name} out, and the shipped start has learned from {name}: "
            "take it from the repository, or set PALIMPSEST_ENCODER_START=none to measure without a start"
        )
    return structs.replace(settings, encoder_start=str(file), encoder_start_sha256=sha256)

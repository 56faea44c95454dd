"""Which start of the encoder Palimpsest has on a board: never one that has learned from the rows that the board plays.

What is shipped has learned from the training rows of all domains (`model.start`), and the streams of the boards are such rows. So a set of
intents is played with the start of the same recipe that has never seen it, `docs/measured/starts/without-<set>.safetensors`. A start
that the settings name is taken as it is, and so is none.
"""

import json
from pathlib import Path

from msgspec import structs

from model.encoder_weights import PINNED
from service.settings import Settings

STARTS = Path(__file__).resolve().parent.parent / "docs" / "measured" / "starts"
LEARNED = ("hwu64", "banking77", "clinc150")  # whose training rows the shipped start has learned from, and boards play


def unseen(settings: Settings, name: str) -> Settings:
    """The settings for a data set; unchanged where the shipped start would not be used, or has learned from no row that is played."""
    if name not in LEARNED or settings.encoder_start != "shipped" or settings.encoder_sha256.strip().lower() not in ("", PINNED):
        return settings
    file = STARTS / f"without-{name}.safetensors"
    if not file.is_file():  # installed without the repository
        return structs.replace(settings, encoder_start="none")
    digest = json.loads(file.with_suffix(".json").read_text())["start_sha256"]
    return structs.replace(settings, encoder_start=str(file), encoder_start_sha256=digest)

"""Which start of the encoder Palimpsest has on a board: never one that has learned from the rows that the board plays.

What is shipped has learned from the training rows of all domains (`model.start`), and the streams of the boards are such rows. So a set of
intents is played with the start of the same recipe that has never seen it, `docs/measured/starts/without-<set>.safetensors`; and a board
that mixes everything, with none. A start that the settings name is taken as it is, and so is none.
"""

import json
from pathlib import Path

from msgspec import structs

from model.encoder import EncoderRefused
from model.encoder_weights import PINNED
from service.settings import Settings

STARTS = Path(__file__).resolve().parent.parent / "docs" / "measured" / "starts"
EVERYTHING = "everything"  # a board of rows of all kinds
WITHOUT = {  # digests of the starts that left a set out
    "hwu64": "e5a01905ad3b8844de242286a3b7fdf3dee1ba9402f9f25588f6ff57107886a0",
    "banking77": "",
    "clinc150": "2e35dabff48dd09f15cc40f63ed2274988c4b362934e5e02085da6df7d78bbcb",
}


def unseen(settings: Settings, name: str) -> Settings:
    """The settings for a data set; unchanged where the shipped start would not be used, or has learned from no row that is played.

    Raises:
        EncoderRefused: the start that left the set out is not here.
    """
    if settings.encoder_start != "shipped" or settings.encoder_sha256.strip().lower() not in ("", PINNED):
        return settings
    if name == EVERYTHING:
        return structs.replace(settings, encoder_start="none")
    if name not in WITHOUT:
        return settings
    file = STARTS / f"without-{name}.safetensors"
    if not file.is_file() or json.loads(file.with_suffix(".json").read_text())["left_out"] != [name]:
        raise EncoderRefused(
            f"{file} is not there, or does not say that it left {name} out, and the shipped start has learned from {name}: "
            "take it from the repository, or set PALIMPSEST_ENCODER_START=none to measure without a start"
        )
    return structs.replace(settings, encoder_start=str(file), encoder_start_sha256=WITHOUT[name])

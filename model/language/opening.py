"""Which language model: the small one that is shipped, or a folder of any decoder that can become one (`model/hope/convert.py`).

No code of a folder is run, and nothing is fetched: a folder holds config.json, safetensors and tokenizer.json, or it is refused.
"""

import json
from pathlib import Path

from safetensors import SafetensorError

from model.hope.convert import from_decoder
from model.hope.lm import HopeLM
from model.language.speaker import Speaker

SMALL = Path(__file__).with_name("small")
PERIODS = (64, 1_048_576)  # tokens, of a converted decoder's levels: within a conversation; in sleep alone
RATE = 0.3  # of their online steps; of a model that knows much, not measured
WINDOW = 512  # tokens that a converted decoder's attention sees
STATE_MAX = 256 * 2**20  # bytes that a bank may carry: it goes into snapshots


class LanguageRefused(ValueError):
    """The folder cannot be the language model of this service; the message says why."""


def opened(folder: Path | None = None) -> Speaker:
    """The language model in a folder; None: the one that is shipped.

    Raises:
        LanguageRefused: see the module.
    """
    where = SMALL if folder is None else folder
    try:
        told = json.loads((where / "config.json").read_text())
        model = HopeLM.from_pretrained(where, use_safetensors=True) if told.get("model_type") == "hope" else _converted(where, told)
        speaker = Speaker(model.float(), _tokenizer(where))
    except LanguageRefused:
        raise
    except (ValueError, OSError, SafetensorError) as error:
        raise LanguageRefused(f"{where} cannot be the language model: {error}") from None
    except Exception as error:  # `tokenizers` raises nothing narrower
        raise LanguageRefused(f"the tokenizer.json in {where} cannot be read: {error}") from None
    if speaker.vocabulary > speaker.config.vocab_size:
        raise LanguageRefused(f"the tokenizer in {where} knows {speaker.vocabulary} tokens, the model {speaker.config.vocab_size}")
    if speaker.state_bytes > STATE_MAX:
        raise LanguageRefused(
            f"a bank would carry {speaker.state_bytes:,} bytes of {where}, at most {STATE_MAX:,} are taken; take a smaller model"
        )
    return speaker


def _converted(where: Path, told: dict[str, object]) -> HopeLM:
    longest, layers = told.get("max_position_embeddings"), told.get("num_hidden_layers")
    window = min(WINDOW, longest) if isinstance(longest, int) else None
    return from_decoder(where, rate=RATE, periods=PERIODS[-1:] if layers == 1 else PERIODS, adapt="down", window=window)


def _tokenizer(where: Path) -> Path:
    if not (where / "tokenizer.json").is_file():
        raise LanguageRefused(f"there is no tokenizer.json in {where}; save one beside the model with a fast tokenizer's save_pretrained")
    return where / "tokenizer.json"

"""HOPE (Behrouz et al. 2025, "Nested Learning"): self-modifying Titans and a continuum memory, in a language model of Hugging Face's form.

Read in this order: `rules` (one write), `chunk` (many at once), `memory`, `titans` (the mixer), `level` and `cms` (the continuum memory),
`online` (learning while reading), `lm`. What is literal and what is not: docs/deviations.md.
"""

from model.hope.config import MixerConfig, paper_literal, service
from model.hope.lm import HopeLM, HopeOutput
from model.hope.lm_config import HopeConfig
from model.hope.online import HopeState
from model.hope.saved_state import StateRefused, decode, encode
from model.hope.state import NotFinite, stack, unstack

__all__ = [
    "HopeConfig",
    "HopeLM",
    "HopeOutput",
    "HopeState",
    "MixerConfig",
    "NotFinite",
    "StateRefused",
    "decode",
    "encode",
    "paper_literal",
    "service",
    "stack",
    "unstack",
]

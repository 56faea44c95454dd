"""Training speed by width: HOPE with heads of several widths against a Hugging Face Llama of the same width and parameters.

Two layers: what a layer costs is asked, not what a model of some size costs (that is the task `speed`). Forward and backward, contestants
in turn in one process, medians of the rounds (`bench.language.speed`). What the memories compute grows with width × head width, a
transformer's work with width², so the ratio depends on both.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from bench.language.ablations import changed
from bench.language.rivals import KINDS, Kind, build, made, parameters
from bench.language.sizes import Size, fit
from bench.language.speed import training
from bench.language.trials import code_of

WIDTHS, HEADS = (128, 256, 512), (16, 32, 64)
LAYERS, BATCH, CONTEXT, VOCAB = 2, 8, 256, 256
ROUNDS = 5
RIVAL = "transformer++"


def by_width(widths: Sequence[int] = WIDTHS, heads: Sequence[int] = HEADS, rounds: int = ROUNDS) -> dict[str, Any]:
    """One line of the ledger: `rows[width]` by contestant, with parameters and training tokens/s (median, lowest, highest).

    Raises:
        NoFit: a head width with which HOPE cannot have as many parameters as the Llama.
    """
    rows = {}
    for width in widths:
        models = contestants(width, heads)
        rates = training(models, VOCAB, batch=BATCH, context=CONTEXT, rounds=rounds)
        rows[str(width)] = {
            name: {"parameters": parameters(model)[0], "train": [rates[name].median, rates[name].low, rates[name].high]}
            for name, model in models.items()
        }
    shape = {"layers": LAYERS, "batch": BATCH, "context": CONTEXT, "rounds": rounds}
    return {**widths_of(widths, heads), "code": code_of("hope"), **shape, "rows": rows}


def widths_of(widths: Sequence[int] = WIDTHS, heads: Sequence[int] = HEADS) -> dict[str, Any]:
    """What the ledger finds the line by."""
    return {"task": "widths", "kind": "hope", "widths": list(widths), "heads": list(heads)}


def contestants(width: int, heads: Sequence[int]) -> dict[str, nn.Module]:
    """A Llama with its usual FFN, and HOPE as large as it with heads of each width."""
    models: dict[str, nn.Module] = {RIVAL: build(RIVAL, VOCAB, width, LAYERS, CONTEXT, 0)}
    size = Size(f"width {width}", width, LAYERS, parameters(models[RIVAL])[0])
    for head in heads:
        kind = Kind(f"head {head}", partial(changed, head_width=head), knob=KINDS["hope"].knob, step=1)
        found = fit(kind, size, VOCAB, CONTEXT)
        models[kind.name] = made(kind, found.shape, 0, found.knob)
    return models

"""The speed contest of one size: every kind at its fitted size, and the open Titans where it is installed."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from bench.language import neural_memory
from bench.language.rivals import KINDS, Shape, parameters
from bench.language.sizes import SIZES
from bench.language.speed import decoding, training
from bench.language.trials import TASKS, Trial, fitted

CONTEXTS = (1_000, 10_000, 100_000)
ROUNDS = 5


def contest(size: str, kinds: Sequence[str], contexts: Sequence[int] = CONTEXTS, rounds: int = ROUNDS) -> dict[str, Any]:
    """One line of the ledger: `rows` by kind, with training tokens/s, and milliseconds a token behind each context."""
    shape = TASKS["text"]
    models: dict[str, nn.Module] = {kind: fitted(Trial("text", size, kind, 0, 0, 1.0), 256)[0] for kind in kinds}
    if neural_memory.installed():
        plain = Shape(256, SIZES[size].width, SIZES[size].layers, shape.context)
        models[neural_memory.NAME] = neural_memory.NeuralMemoryLM(plain, KINDS["transformer++"].usual(plain))
    rates = training(models, 256, batch=shape.batch, context=shape.context, rounds=rounds)
    rows = {}
    for name, model in models.items():
        rows[name] = {
            "parameters": parameters(model)[0],
            "train": [rates[name].median, rates[name].low, rates[name].high],
            "decode": {str(context): cost for context, cost in decoding(model, 256, contexts).items()} if name in KINDS else {},
        }
    return {**contest_of(size, kinds), "batch": shape.batch, "context": shape.context, "rows": rows}


def contest_of(size: str, kinds: Sequence[str]) -> dict[str, Any]:
    """What the ledger finds a contest by: with the open Titans or without it is not the same one."""
    return {"task": "speed", "size": size, "kinds": [*kinds, *([neural_memory.NAME] if neural_memory.installed() else [])]}

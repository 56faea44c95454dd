"""Equal parameters: for each kind the knob at which it has as many as the others, within `TOLERANCE`.

All kinds of a size share width, layers and context; what differs is the width of the FFN (Mamba2: its state and number of blocks).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.language.rivals import KINDS, Kind, Shape, made, parameters, with_layers

TOLERANCE = 0.03  # of the total, what is promised
CLOSE = 0.01  # what is sought: the first number of blocks that comes so close is taken


@dataclass(frozen=True, slots=True)
class Size:
    """A size class: width, layers, and parameters in all, embeddings included."""

    name: str
    width: int
    layers: int
    target: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A kind at its knob: blocks, knob and parameters."""

    kind: str
    shape: Shape
    knob: int
    turned: str  # what the knob is
    total: int
    apart: int  # parameters that are not embeddings

    def off(self, target: int) -> float:
        """How far the total is from the target, as a share of it."""
        return self.total / target - 1


SIZES = {
    "tiny": Size("tiny", width=32, layers=2, target=38_000),  # to try the bench out: no result
    "mini": Size("mini", width=64, layers=4, target=224_000),
    "small": Size("small", width=128, layers=4, target=830_000),
    "medium": Size("medium", width=256, layers=4, target=3_250_000),
    "large": Size("large", width=512, layers=6, target=19_000_000),
}


class NoFit(ValueError):
    """A kind cannot have so many parameters at this width; the message says what it can have."""


def fit(kind: str | Kind, size: Size, vocab: int, context: int) -> Fitted:
    """The kind (one of `KINDS`, by name, or any other) with its total nearest to the size's target.

    Raises:
        NoFit: it would be more than `TOLERANCE` off.
    """
    kind = KINDS[kind] if isinstance(kind, str) else kind
    shape = Shape(vocab, size.width, size.layers, context)
    found = []
    for layers in kind.depths(size.layers):
        fitted = _at(kind, with_layers(shape, layers), size.target)
        if abs(fitted.off(size.target)) <= CLOSE:
            return fitted
        found.append(fitted)
    best = min(found, key=lambda fitted: abs(fitted.off(size.target)))
    if abs(best.off(size.target)) > TOLERANCE:
        raise NoFit(
            f"{kind.name} at width {size.width} and {best.shape.layers} blocks comes to {best.total:,} parameters, "
            f"{best.off(size.target):+.1%} off the target {size.target:,}; choose another target"
        )
    return best


def table(fits: Sequence[Fitted], target: int) -> str:
    """A row for each kind."""
    rows = [f"{'kind':<24}{'blocks':>7}  {'knob':<16}{'parameters':>12}{'not embedding':>15}{'off':>8}"]
    for fitted in fits:
        knob = f"{fitted.turned} {fitted.knob}"
        rows.append(
            f"{fitted.kind:<24}{fitted.shape.layers:>7}  {knob:<16}{fitted.total:>12,}{fitted.apart:>15,}{fitted.off(target):>+8.2%}"
        )
    return "\n".join(rows)


def _at(kind: Kind, shape: Shape, target: int) -> Fitted:
    """Parameters are linear in the knob, so two counts give the nearest one."""
    first = _count(kind, shape, kind.step)
    each = (_count(kind, shape, 2 * kind.step)[0] - first[0]) // kind.step
    knob = max(kind.smallest, (round((target - first[0]) / each / kind.step) + 1) * kind.step)
    return Fitted(kind.name, shape, knob, kind.knob, *_count(kind, shape, knob))


def _count(kind: Kind, shape: Shape, knob: int) -> tuple[int, int]:
    return parameters(made(kind, shape, 0, knob))

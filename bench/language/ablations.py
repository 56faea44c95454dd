"""HOPE with one part changed at a time, in the layout of the paper's table 6: the variants of the task `ablations`.

They are a registry of their own and no kinds: no other task runs them. Each is the kind `hope` but for what its name says, and has as many
parameters, by the same knob (the hidden width of each level).

Where the paper takes something out that the kind `hope` has not, the variant puts it in, and the paper's sign is turned around:
- momentum: `hope` learns in its memories without it, so the variant is *with* momentum
- inner projection q: static in `hope`, as in the paper's text, so the variant is *with* q
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.language.hope import hope
from bench.language.rivals import Kind, Shape
from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.hope.titans import READERS, SelfModifyingTitans

HOPE = "hope"


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the table. `paper`: perplexity of the row with this change minus without it there; None where the paper has no such row."""

    kind: Kind
    paper: float | None
    note: str = ""

    def idle(self, shape: Shape) -> int:
        """Parameters that no loss reaches at this shape. They are not counted where sizes are compared."""
        with torch.device("meta"):
            return _idle(self.kind.make(shape, self.kind.smallest))


def changed(shape: Shape, hidden: int, *, static: bool = False, **titans: Any) -> nn.Module:  # noqa: ANN401
    """The kind `hope` with other switches of its mixer; `static`: one static block of `hidden` in place of the continuum memory."""
    with torch.device("meta"):  # its configuration without its weights: nothing is drawn
        usual: dict[str, Any] = hope(shape, hidden).config.to_dict()  # type: ignore[union-attr, operator]
    levels = [{"name": "ffn", "period_tokens": None, "hidden": hidden, "kind": "swiglu"}] if static else usual["levels"]
    return HopeLM(HopeConfig.from_dict({**usual, "titans": usual["titans"] | titans, "levels": levels}))


def _idle(model: nn.Module) -> int:
    """Without retention nothing asks the memories of α, so that they, their convolution and their heads teach nothing and learn nothing."""
    assert isinstance(model, HopeLM)
    count = 0
    for mixer in (block.mixer for block in model.blocks):
        assert isinstance(mixer, SelfModifyingTitans)
        if not mixer.config.retention:
            heads = sum(weight.numel() for weight in mixer.retention.parameters())
            taps = sum(weight.numel() for weight in mixer.conv.parameters()) // len(READERS)
            count += heads + taps + sum(start.numel() // len(mixer.config.learners) for start in mixer.start.values())
    return count


def _variants(*rows: tuple[str, float | None, str, Callable[[Shape, int], nn.Module]]) -> dict[str, Variant]:
    return {name: Variant(Kind(name, make, knob="level width", step=1), paper, note) for name, paper, note, make in rows}


VARIANTS: dict[str, Variant] = _variants(
    (HOPE, None, "", hope),
    ("w/o DGD", 13.41 - 12.24, "", lambda shape, hidden: changed(shape, hidden, dgd=False)),
    (
        "with momentum",
        12.24 - 13.58,
        "hope has none by default; the paper's row is *w/o momentum*",
        lambda shape, hidden: changed(shape, hidden, momentum=True),
    ),
    (
        "w/o weight decay",
        13.71 - 12.24,
        "its α memories have nothing to say and are not counted",
        lambda shape, hidden: changed(shape, hidden, retention=False),
    ),
    ("w/o CMS", 13.04 - 12.24, "one static SwiGLU block", lambda shape, hidden: changed(shape, hidden, static=True)),
    ("w/o inner projection k", 13.77 - 12.24, "", lambda shape, hidden: changed(shape, hidden, adaptive=("v", "eta", "alpha", "mem"))),
    ("w/o inner projection v", 13.90 - 12.24, "", lambda shape, hidden: changed(shape, hidden, adaptive=("k", "eta", "alpha", "mem"))),
    (
        "with inner projection q",
        12.24 - 12.19,
        "static in hope by default; the paper's row is *w/o inner projection q*",
        lambda shape, hidden: changed(shape, hidden, adaptive=("k", "v", "eta", "alpha", "q", "mem")),
    ),
    (
        "w/o self-modification",
        None,
        "the main memory alone learns, from static projections; not in the paper's table",
        lambda shape, hidden: changed(shape, hidden, adaptive=("mem",), targets="shared"),
    ),
)

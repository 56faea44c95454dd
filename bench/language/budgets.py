"""How many tokens each task gets where none are asked for, at which size and of which kinds; and what all of it costs.

Two shared cores are what there is, so the plan is made to fit about five core-hours. Seconds of CPU for one token, one thread, on a machine
with a load of 6, all seven kinds together: .0029 at small (HOPE .00076, Titans .00070, Mamba2 .00054, gated DeltaNet .00047, others .00015
each), .0012 at mini, and about .012 at medium, which is why the second size is mini and not medium. Core-hours for the tasks text and
continual at three seeds each, by the tokens of each trial, measuring included (medium is estimated):

| size | 256,000 | 512,000 | 1,536,000 |
| --- | ---: | ---: | ---: |
| mini | .8 | 1.3 | 3.3 |
| small | 2.0 | 3.3 | 8.1 |
| medium | 8 | 13 | 33 |

- shakespeare: 1,536,000 tokens, those of the published reference (2,000 steps of 12 windows of 64), at the published size, for HOPE and
  Transformer++ alone: 1.2 h. The question is the published figure.
- text: 307,200 tokens (150 steps), all kinds, both sizes: 1.0 and .4 h
- continual: 460,800 tokens (75 steps a domain), all kinds, both sizes: 1.5 and .6 h. With 128,000 a domain nothing was forgotten yet once.
- levels and ablations: HOPE against itself, at mini: 153,600 and 122,880 tokens (200 and 160 steps), .2 and .4 h

Together 5.3 h. Beside them speed and widths take minutes, alone on a quiet machine.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of a trial of a task. `size` and `kinds`: it is asked of these alone, where they are among those asked for; None: of all."""

    tokens: int
    size: str | None = None
    kinds: tuple[str, ...] | None = None


BUDGETS = {
    "shakespeare": Budget(1_536_000, "small", ("transformer++", "hope")),
    "text": Budget(307_200),
    "continual": Budget(460_800),
    "levels": Budget(153_600, "mini"),
    "ablations": Budget(122_880, "mini"),
}


def asked(wanted: tuple[str, ...], of: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Those of `wanted` that a budget names; all of them where it names none, or none that is wanted."""
    named = (of,) if isinstance(of, str) else of or ()
    return tuple(name for name in wanted if name in named) or wanted

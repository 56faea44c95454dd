"""`python -m bench calibration`: how sure is a memory of what it was taught, and of what it never was? And how sure should it be?

Banks of 1 to 5,000 corrections of three intent sets, a fifth of whose classes are never taught, consolidated by themselves as a running
service would. Each is asked *inside* questions (rows of taught classes that were not taught), *near* ones (of the classes left out) and
*far* ones (of the other sets). Only training and validation rows: what is fitted here may be tested on the others.

- *near*, *far*: AUROC, how often an inside question is the surer one
- *error*: expected calibration error of the confidence, inside, 15 bins
- *near refused*, *far refused*, *silenced*: those below the default threshold; of the inside ones, those whose answer was right

Then the confidence of banks that have a slow level is fitted anew (`model.answering.weights`): a logistic of score, its logarithm and
margin, each also times the logarithm of the corrections, where never taught questions have a tenth of each bank's weight. The second row of
such a bank is of a fit without its set. The constants of the fit on all sets are printed last; those of the memory are rounded so that a
lower score is never surer. Younger banks keep an older fit, which ranks their questions better than any tried since (docs/journal.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from bench.asking import Progress
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, words_of
from bench.scoreboard.measures import auroc, calibration_error
from bench.scoreboard.report import Figure, Line, Table
from bench.scoreboard.sources import INTENTS, Intents, intents

if TYPE_CHECKING:
    from bench.subjects import EngineMemory

Floats = NDArray[np.float64]

SIZES = (1, 4, 12, 40, 120, 300, 600, 2_000, 5_000)
REPEATED = 40  # up to so many corrections a bank says little about others: `OF_SMALL` of them are asked
OF_SMALL = 6
LEFT_OUT = 5  # one of so many classes is never taught
ASKED = 400  # questions of each kind
NEVER = 0.1  # the share of what was never taught in the weight of a bank
RIDGE, STEPS = 1e-3, 60  # of the fit
KINDS = ("inside", "near", "far")
FIGURES = ("near", "far", "error", "near_refused", "far_refused", "silenced")
TABLES = (
    Table(
        "calibration",
        "Confidence: of what was taught and of what was never taught",
        ("set", "corrections", "confidence"),
        tuple(Figure(name, name.replace("_", " ")) for name in FIGURES),
    ),
    Table(
        "constants",
        "Constants of the confidence, fitted on all sets (`model.config`)",
        ("constant",),
        (Figure("value", "value", ".2f"),),
    ),
)


@dataclass(frozen=True, slots=True)
class Course:
    """What a bank is taught, in order, and what it may be asked inside and near. `number`: of this set."""

    set: str
    number: int
    sizes: tuple[int, ...]
    taught: Sequence[Row]
    inside: Sequence[Row]
    near: Sequence[str]


def courses(name: str, data: Intents, sizes: Sequence[int]) -> list[Course]:
    """The banks of a set: several small ones, and one that grows through the larger sizes."""
    small, large = tuple(size for size in sizes if size <= REPEATED), tuple(size for size in sizes if size > REPEATED)
    banks = [(number, small) for number in range(OF_SMALL) if small] + [(OF_SMALL, large)] * bool(large)
    return [_course(name, data, number, of) for number, of in banks]


def _course(name: str, data: Intents, number: int, sizes: tuple[int, ...]) -> Course:
    rng = np.random.default_rng(number)
    left_out = {data.classes[place] for place in rng.permutation(len(data.classes))[: len(data.classes) // LEFT_OUT]}
    aside = set(data.valid) if data.valid_is_train else set[Row]()
    rows = [data.train[place] for place in rng.permutation(len(data.train))]
    near = [text for text, intent in (*data.valid, *rows) if intent in left_out]
    taught = [row for row in rows if row[1] not in left_out and row not in aside][: sizes[-1]]
    return Course(name, number, sizes, taught, [row for row in data.valid if row[1] not in left_out], near[:ASKED])


@click.command("calibration")
@options(seeds=1)
@click.option("--size", "sizes", multiple=True, type=click.IntRange(1), default=SIZES, show_default=True, help="Several for several.")
def command(chosen: Chosen, sizes: tuple[int, ...]) -> None:
    """Confidence in what was taught and in what never was; and the constants that would be best. Seeds change nothing."""
    sizes = tuple(sorted(set(sizes)))
    loaded = {name: data_of(partial(intents, name)) for name in INTENTS}
    banks = {name: courses(name, data.holds, sizes) for name, data in loaded.items()}
    far = {name: [text for other in INTENTS if other != name for text, _ in loaded[other].holds.valid[: ASKED // 2]] for name in INTENTS}
    texts = {name: list(_texts(banks[name], far[name])) for name in INTENTS}
    steps = sum(
        len(bank.taught) + sum(len(rows) for size in bank.sizes for rows in _asked(bank, far[name], size).values())
        for name, some in banks.items()
        for bank in some
    )

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        heard: list[Line] = []
        for name, some in banks.items():
            for bank in some:
                label, product = bench.on(name).products(by_itself=True)[0]
                named = {"set": name, "bank": bank.number, "memory": label}
                heard += await bench.use(named, product, partial(_play, bank=bank, far=far[name]), progress)
        return judged(heard)

    run_board("calibration", TABLES, chosen, list(loaded.values()), texts, measure, steps=steps, given={"sizes": list(sizes)})


def _texts(banks: Sequence[Course], far: Sequence[str]) -> Sequence[str]:
    rows = [row for bank in banks for row in (*bank.taught, *bank.inside)]
    answers = dict.fromkeys(intent for bank in banks for _, intent in bank.taught)
    return [*(text for text, _ in rows), *(text for bank in banks for text in bank.near), *far, *words_of(answers)]


def _asked(bank: Course, far: Sequence[str], size: int) -> dict[str, list[Row]]:
    """The questions of each kind at a size of the bank, and what is right there: nothing, of what was never taught."""
    known = {intent for _, intent in bank.taught[:size]}
    inside = [row for row in bank.inside if row[1] in known][:ASKED]
    return {"inside": inside, "near": [(text, "") for text in bank.near], "far": [(text, "") for text in far]}


async def _play(memory: "EngineMemory", progress: Progress, *, bank: Course, far: Sequence[str]) -> list[Line]:
    """Everything that was heard at each size of a bank, of each kind of question: score, margin, confidence, right."""
    lines: list[Line] = []
    done = 0
    for size in bank.sizes:
        await memory.tell_many(bank.taught[done:size], progress)
        done = size
        for kind, rows in _asked(bank, far, size).items():
            found = await memory.stand([text for text, _ in rows], progress)
            told = [
                [round(one.score, 4), round(one.margin, 4), round(one.confidence, 4), one.value == right]
                for one, (_, right) in zip(found, rows, strict=True)
                if one is not None
            ]
            lines.append({"table": "heard", "set": bank.set, "bank": bank.number, "corrections": size, "kind": kind, "told": told})
    return lines


@dataclass(frozen=True, slots=True)
class Heard:
    """Questions of all banks, n of them."""

    sets: NDArray[np.str_]
    corrections: NDArray[np.int64]
    kinds: NDArray[np.str_]
    told: Floats  # (n, 4) score, margin, confidence, right
    weights: Floats  # (n,) each bank's sum to one, `NEVER` of it for what was never taught

    @classmethod
    def of(cls, lines: Sequence[Line]) -> "Heard":
        """What the lines of the table `heard` have, those of no question left out."""
        full = [line for line in lines if line["told"]]
        told = np.concatenate([np.array(line["told"], np.float64) for line in full])
        spread = {
            name: np.repeat([line[name] for line in full], [len(line["told"]) for line in full]) for name in ("set", "corrections", "kind")
        }
        of_kind = [(1.0 - NEVER if line["kind"] == "inside" else NEVER / 2) / len(line["told"]) for line in full]
        return cls(spread["set"], spread["corrections"], spread["kind"], told, np.repeat(of_kind, [len(line["told"]) for line in full]))

    @property
    def features(self) -> Floats:
        """(n, 8) of the fit: score, ln score, margin, 1, and these times ln of the corrections over those of the youngest settled bank."""
        from model.answering import KNOWING, LEAST, SETTLING

        score, margin = self.told[:, 0], self.told[:, 1]
        plain = np.stack([score, np.log(np.maximum(score, LEAST)), margin, np.ones(len(score))], 1)
        return np.concatenate([plain, plain * np.log(np.clip(self.corrections, SETTLING, KNOWING) / SETTLING)[:, None]], 1)


def fitted(features: Floats, right: Floats, weights: Floats) -> Floats:
    """(8,) the constants of the logistic, by Newton's method on the weighted likelihood with a little of ridge."""
    scale = np.abs(features).max(axis=0)
    scaled, found = features / scale, np.zeros(features.shape[1])
    for _ in range(STEPS):
        sure = 1.0 / (1.0 + np.exp(-np.clip(scaled @ found, -500.0, 500.0)))
        slope = scaled.T @ (weights * (sure - right)) + RIDGE * weights.mean() * found
        bend = (scaled * (weights * sure * (1.0 - sure))[:, None]).T @ scaled + RIDGE * weights.mean() * np.eye(len(found))
        found -= np.linalg.solve(bend, slope)
    return np.asarray(found / scale)


def judged(lines: Sequence[Line]) -> list[Line]:
    """The tables: each bank with the confidence that it has and, if it is settled, with one fitted on the other sets; and the constants."""
    from model.answering import SETTLING

    heard = Heard.of(lines)
    features, right, settled, found = heard.features, heard.told[:, 3], heard.corrections >= SETTLING, list[Line]()
    of_others = np.full(len(right), np.nan)
    for name in dict.fromkeys(heard.sets.tolist()):
        mine, others = (heard.sets == name) & settled, (heard.sets != name) & settled
        if others.any():
            constants = fitted(features[others], right[others], heard.weights[others])
            of_others[mine] = 1.0 / (1.0 + np.exp(-np.clip(features[mine] @ constants, -500.0, 500.0)))
    for name, size in dict.fromkeys(zip(heard.sets.tolist(), heard.corrections.tolist(), strict=True)):
        mine = (heard.sets == name) & (heard.corrections == size)
        for confidence, sure in (("as it is", heard.told[:, 2]), ("fitted on the others", of_others)):
            if np.isfinite(sure[mine]).all():
                figures = figures_of({kind: sure[mine & (heard.kinds == kind)] for kind in KINDS}, right[mine & (heard.kinds == "inside")])
                found.append({"table": "calibration", "set": name, "corrections": size, "confidence": confidence, "seed": 0, **figures})
    if settled.any():
        constants = fitted(features[settled], right[settled], heard.weights[settled])
        names = [f"{of}: {each}" for of in ("settled", "growth") for each in ("score", "ln score", "margin", "1")]
        found += [
            {"table": "constants", "constant": name, "seed": 0, "value": float(value)} for name, value in zip(names, constants, strict=True)
        ]
    return found


def figures_of(sure: Mapping[str, Floats], right: Floats) -> Line:
    """`FIGURES` from the confidences of each kind of question."""
    from model.config import RecallConfig

    inside, threshold = sure["inside"], RecallConfig("").abstain_below
    hit = inside[right > 0]
    return {
        **{kind: auroc(inside.tolist(), sure[kind].tolist()) for kind in ("near", "far")},
        "error": calibration_error(inside.tolist(), (right > 0).tolist()),
        **{f"{kind}_refused": float((sure[kind] < threshold).mean()) for kind in ("near", "far")},
        "silenced": float((hit < threshold).mean()) if len(hit) else 0.0,
    }

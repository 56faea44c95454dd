"""The markdown section of docs/results.md, written from the report's JSON alone."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from bench.language import hope_report
from bench.language.rates import GRID
from bench.language.summary import Figure, Line, figure, groups, table
from bench.language.trials import TASKS

RIVAL = "transformer++"
TITLES = {
    "shakespeare": "tinyshakespeare, characters",
    "text": "Novels, PEPs and the Rust book, bytes",
    "continual": "Three domains one after another",
}


def markdown(report: Mapping[str, Any]) -> str:
    """The section: what was run, then a table for each task and size."""
    lines: list[Line] = report["runs"]
    parts = ["## Language models at equal parameters", _how(report)]
    for size, by_kind in groups(lines, "shakespeare"):
        parts += [_title("shakespeare", size, by_kind), _plain(by_kind, nats=True)]
    for size, by_kind in groups(lines, "text"):
        parts += [_title("text", size, by_kind), _plain(by_kind, nats=False)]
    for size, by_kind in groups(lines, "continual"):
        parts += [_title("continual", size, by_kind), _forgetting(by_kind), *_in_context(by_kind)]
    for size, by_kind in groups(lines, "levels"):
        parts += [f"### HOPE's levels at work, {size}", *(part for each in by_kind.values() for part in hope_report.levels(each))]
    for size, by_kind in groups(lines, "ablations"):
        parts += [f"### Ablations of HOPE, {size} (the paper's table 6)", hope_report.ablations(by_kind)]
    for line in lines:
        if line["task"] == "speed":
            parts += [f"### Speed, {line['size']}", _speed(line)]
        if line["task"] == "widths":
            parts += ["### Training speed by width", hope_report.widths(line)]
    return "\n\n".join(parts) + "\n"


def _title(task: str, size: str, by_kind: Mapping[str, Sequence[Line]]) -> str:
    shape = TASKS[task]
    tokens = " and ".join(f"{count:,}" for count in dict.fromkeys(line["tokens"] for lines in by_kind.values() for line in lines))
    return f"### {TITLES[task]}, {size} ({tokens} training tokens each, {shape.batch} windows of {shape.context})"


def _how(report: Mapping[str, Any]) -> str:
    plan, machine = report["plan"], report["machine"]
    grid = ", ".join(f"{rate:g}" for rate in GRID)
    tuned = (
        f"tuned for each kind ({grid}; a third of the text task, one seed, on texts that no result is measured on)"
        if report["tuned"]
        else "one for all, not tuned"
        if plan["rate"]
        else f"where the kind was not tuned by this command ({grid}), what was best for it on a third of the text task, one seed, on "
        "texts that no result is measured on; sizes other than small and mini have the rates of the nearer of the two"
    )
    return (
        f"`{report['command']}`\n\n"
        f"Up to {plan['seeds']} seed{'s' * (plan['seeds'] != 1)} "
        f"(± is the standard deviation over those that are there), the same tokens and batches in the same order for every kind, AdamW; "
        f"rates, which every table shows: {tuned}. palimpsest {report['version']}, torch {machine['torch']}, "
        f"transformers {machine['transformers']}, Python {machine['python']}, {machine['device']}. Fewest bits are in bold."
    )


def _plain(by_kind: Mapping[str, Sequence[Line]], *, nats: bool) -> str:
    bits = {kind: figure(lines, lambda line: line["bits"]) for kind, lines in by_kind.items()}
    first = _first(by_kind)
    domains = [] if nats or first is None else list(first["by_domain"])
    unit = ["nats a character", "bits a character"] if nats else ["bits a byte", *domains]
    rows = [["kind", "parameters", "rate", *unit, "as a stream", f"against {RIVAL}", "each seed"]]
    for kind, lines in by_kind.items():
        if (mean := bits[kind]) is None:
            rows.append([kind, *_size(lines), *["diverged"] * len(unit), "", "", ""])
            continue
        values = [_bold(str(_scaled(mean, math.log(2) if nats else 1.0)), _is_best(mean, bits))]
        values += [str(mean)] if nats else [_over(lines, lambda line, name=name: line["by_domain"][name]) for name in domains]  # type: ignore[misc]
        stream, each = _over(lines, lambda line: line["stream"]), " ".join(f"{value:.3f}" for value in mean.each)
        rows.append([kind, *_size(lines), *values, stream, _against(mean, bits), each])
    note = (
        "*as a stream*: bits where the tail is read on and on, by the carried state where it has a constant size, else by a sliding window."
    )
    return f"{table(rows)}\n\n{note}"


def _forgetting(by_kind: Mapping[str, Sequence[Line]]) -> str:
    forgot = {kind: figure(lines, lambda line: line["forgetting"]) for kind, lines in by_kind.items()}
    final = {kind: figure(lines, lambda line: line["bits"]) for kind, lines in by_kind.items()}
    forgot_on = {kind: figure(lines, lambda line: line["streams"][-1][0] - line["streams"][0][0]) for kind, lines in by_kind.items()}
    final_on = {kind: figure(lines, lambda line: fmean(line["streams"][-1])) for kind, lines in by_kind.items()}
    first = _first(by_kind)
    domains = first["domains"] if first else ["first domain"]
    head = [
        "kind",
        "parameters",
        "rate",
        f"{domains[0]} learned",
        f"{domains[0]} at the end",
        "forgetting",
        *domains[1:],
        "mean at the end",
        "forgetting as a stream",
        "mean as a stream",
    ]
    rows = [head]
    for kind, lines in by_kind.items():
        forgotten, last = forgot[kind], final[kind]
        if forgotten is None or last is None:
            rows.append([kind, *_size(lines), *["diverged"] * (len(head) - 3)])
            continue
        cells = [_over(lines, lambda line: line["matrix"][1][0]), _over(lines, lambda line: line["matrix"][-1][0])]
        others = [_over(lines, lambda line, at=at: line["matrix"][-1][at]) for at in range(1, len(domains))]  # type: ignore[misc]
        means = [_bold(str(forgotten), _is_best(forgotten, forgot)), *others, _bold(str(last), _is_best(last, final))]
        on = [_bold(str(value[kind]), _is_best(value[kind], value)) for value in (forgot_on, final_on)]  # type: ignore[arg-type]
        rows.append([kind, *_size(lines), *cells, *means, *on])
    note = "Bits a byte. Forgetting: what the first domain costs at the end more than right after it was learned; in windows, each afresh, "
    return note + "and as a stream that each kind reads in the better way that it has.\n\n" + table(rows)


def _in_context(by_kind: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    first = _first(by_kind)
    if first is None:
        return
    edges = first["context"]["window"]["edges"]
    unseen = first["domains"][-1]
    rows = [["kind", "read", *(f"{low:,}–{high - 1:,}" for low, high in pairwise(edges)), "saved"]]
    for kind, lines in by_kind.items():
        whole = [line for line in lines if "failed" not in line]
        for way in whole[0]["context"] if whole else ():
            figures = [_over(whole, lambda line, at=at: line["context"][way]["bits"][at]) for at in range(len(edges) - 1)]  # type: ignore[misc]  # noqa: B023
            saved = _over(whole, lambda line: line["context"][way]["bits"][0] - line["context"][way]["bits"][-1])  # noqa: B023
            rows.append([kind, way, *figures, saved])
    yield (
        f"Language learned in context: bits a byte of {unseen}, which no weight had seen then, by how many bytes of it were read before. "
        "*carried*: the state goes on; *window*: the trained window slides over the text.\n\n" + table(rows)
    )


def _speed(line: Line) -> str:
    rows: Mapping[str, Any] = line["rows"]
    rival = rows.get(RIVAL)
    contexts = sorted({int(context) for row in rows.values() for context in row["decode"]})
    head = [
        "kind",
        "parameters",
        "training tokens/s",
        f"against {RIVAL}",
        *(f"ms/token at {context:,}" for context in contexts),
        "last / first",
    ]
    body = [head]
    for kind, row in rows.items():
        ratio = f"{row['train'][0] / rival['train'][0]:.2f}" if rival else "–"
        costs = [f"{row['decode'][str(context)]:.2f}" if str(context) in row["decode"] else "–" for context in contexts]
        growth = f"{row['decode'][str(contexts[-1])] / row['decode'][str(contexts[0])]:.2f}" if row["decode"] else "–"
        body.append([kind, f"{row['parameters']:,}", f"{row['train'][0]:,.0f}", ratio, *costs, growth])
    return f"Forward and backward on {line['batch']} windows of {line['context']}; one row decoded.\n\n{table(body)}"


def _first(by_kind: Mapping[str, Sequence[Line]]) -> Line | None:
    """Any line that has results."""
    return next((line for lines in by_kind.values() for line in lines if "failed" not in line), None)


def _size(lines: Sequence[Line]) -> list[str]:
    count = next((f"{line['parameters']:,}" for line in lines if "parameters" in line), "–")
    return [count, f"{lines[0]['rate']:g}"]


def _over(lines: Sequence[Line], of: Callable[[Line], float]) -> str:
    return str(figure(lines, of) or "–")


def _scaled(value: Figure, by: float) -> Figure:
    return Figure(tuple(each * by for each in value.each))


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def _is_best(value: Figure, among: Mapping[str, Figure | None]) -> bool:
    return value.mean == min(other.mean for other in among.values() if other is not None)


def _against(value: Figure, among: Mapping[str, Figure | None]) -> str:
    rival = among.get(RIVAL)
    return "–" if rival is None else f"{value.mean - rival.mean:+.3f}"

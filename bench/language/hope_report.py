"""The tables of the tasks that are HOPE's own: levels, ablations, and training speed by width. Written from the report's JSON alone."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.language.ablations import HOPE, VARIANTS
from bench.language.summary import Figure, Line, figure, table

RIVAL = "transformer++"
DEAD = 1e-3  # bits a token: a level whose absence costs no more is told
NOTHING = 0  # the place of the reading in which nothing learns online


def levels(lines: Sequence[Line]) -> Iterator[str]:
    """What learning online is worth, then every level of every layer."""
    whole = _whole(lines)
    if not whole:
        yield "diverged"
        return
    how = whole[0]["streams"]
    yield (
        f"{_trained(whole)}; {_nats(figure(whole, lambda line: line['bits']))} nats a character in windows. Then the same weights on "
        f"{how['rows']} streams of {how['tokens']:,} characters of the tail, the state carried, nats a character:\n\n{_readings(whole)}"
    )
    yield (
        "No dead level? *Left out*: bits a character more in windows, the level's output matrix zeroed in a copy. The rest while "
        f"both learn, the slow one every {how['slow_period']:,} tokens: updates of a stream, the length of one and of all that was learned "
        f"as shares of the length of the level's weights, updates that were cut to the longest step.\n\n{_left_out(whole)}"
    )
    yield _verdict(whole)


def ablations(by_kind: Mapping[str, Sequence[Line]]) -> str:
    """A row for each variant, differences by seed to the kind hope."""
    base = {line["seed"]: line for line in _whole(by_kind.get(HOPE, ()))}
    head = ["variant", "parameters", "nats", "against hope", "as a stream", "against hope", "in the paper", "agrees"]
    rows = [head]
    for name, lines in by_kind.items():
        whole, variant = _whole(lines), VARIANTS.get(name)
        title = f"{name} ({variant.note})" if variant and variant.note else name
        if not whole:
            rows.append([title, "–", "diverged", *[""] * (len(head) - 3)])
            continue
        cells, agrees = [], []
        for measure in ("bits", "stream"):
            difference = _differences(whole, base, measure) if name != HOPE else None
            cells += [_nats(figure(whole, lambda line, measure=measure: line[measure])), _signed(difference)]  # type: ignore[misc]
            agrees.append(_agrees(difference, variant.paper if variant else None))
        paper = "–" if variant is None or variant.paper is None else f"{variant.paper:+.2f}"
        rows.append([title, f"{whole[0]['parameters']:,}", *cells, paper, " / ".join(agrees) if agrees[0] != "–" else "–"])
    trained = next((f"{_trained(whole)} each. " for lines in by_kind.values() if (whole := _whole(lines))), "")
    return (
        f"{trained}Nats a character in windows and as a stream; differences to hope seed by seed, + is worse. *In the paper*: perplexity "
        "with the change minus without it (table 6). *Agrees*, in windows / as a stream: whether the sign is the paper's; *open* where the "
        f"spread over the seeds is larger than the difference.\n\n{table(rows)}"
    )


def widths(line: Line) -> str:
    """Tokens/s of the Llama, and of HOPE by head width as a ratio to it."""
    rows: Mapping[str, Any] = line["rows"]
    names = [name for name in next(iter(rows.values())) if name != RIVAL]
    body = [["width", "parameters", f"{RIVAL}, tokens/s", *(f"{name}: ratio (tokens/s)" for name in names)]]
    for width, row in rows.items():
        rival = row[RIVAL]["train"][0]
        ratios = [f"{row[name]['train'][0] / rival:.2f} ({row[name]['train'][0]:,.0f})" for name in names]
        body.append([width, f"{row[RIVAL]['parameters']:,}", f"{rival:,.0f}", *ratios])
    return (
        f"Training, forward and backward, {line['layers']} layers, {line['batch']} windows of {line['context']}, in turn in one process, "
        f"medians of {line['rounds']} rounds; HOPE with heads of each width against a Llama of the same width and as many parameters.\n\n"
        + table(body)
    )


def _readings(whole: Sequence[Line]) -> str:
    how, names = whole[0]["streams"], list(whole[0]["readings"])
    means = {name: figure(whole, lambda line, name=name: line["readings"][name][0]) for name in names}  # type: ignore[misc]
    best = min(value.mean for value in means.values() if value)
    rows = [["learning online", "whole stream", f"first {how['first']:,}", f"last {how['last']:,}", "against nothing"]]
    for name, value in means.items():
        cells = [str(figure(whole, lambda line, name=name, at=at: line["readings"][name][at])) for at in range(3)]  # type: ignore[misc]
        saved = figure(whole, lambda line, name=name: line["readings"][name][0] - line["readings"][names[NOTHING]][0])  # type: ignore[misc]
        cells[0] = f"**{cells[0]}**" if value and value.mean == best else cells[0]
        rows.append([name, *cells, _signed(saved) if name != names[NOTHING] else "–"])
    return table(rows)


def _left_out(whole: Sequence[Line]) -> str:
    rows = [["level", "layer", "left out", "updates", "one update", "learned", "cut"]]
    for name in whole[0]["left_out"]:
        moves = name in whole[0]["online"]
        for layer in (None, *range(len(whole[0]["left_out"][name]["layers"]))):
            cells = [_mean(whole, name, part, layer) for part in ("updates", "update", "learned", "clipped")] if moves else []
            shown = [f"{cells[0]:.0f}", *(f"{100 * cell:.3g} %" for cell in cells[1:])] if cells else ["–"] * 4
            rows.append([name, "all" if layer is None else str(layer + 1), _signed(_without(whole, name, layer)), *shown])
    return table(rows)


def _verdict(whole: Sequence[Line]) -> str:
    found: list[str] = []
    for name, costs in whole[0]["left_out"].items():
        for layer in range(len(costs["layers"])):
            left = _without(whole, name, layer)
            if left is not None and left.mean <= DEAD:
                found.append(f"leaving {name} out of layer {layer + 1} costs {left.mean:+.4f} bits")
            if name in whole[0]["online"] and not _mean(whole, name, "updates", layer) * _mean(whole, name, "update", layer):
                found.append(f"{name} in layer {layer + 1} never moves")
            if name in whole[0]["online"] and _mean(whole, name, "refused", layer):
                found.append(f"{name} in layer {layer + 1} met numbers that are not finite")
    return f"**Without effect or at fault: {'; '.join(found)}.**" if found else "Every level of every layer is used, and those online move."


def _without(whole: Sequence[Line], name: str, layer: int | None) -> Figure | None:
    return figure(whole, lambda line: line["left_out"][name]["all"] if layer is None else line["left_out"][name]["layers"][layer])


def _mean(whole: Sequence[Line], name: str, part: str, layer: int | None) -> float:
    """Over the seeds, and over the layers where none is named."""
    return fmean(fmean(each) if layer is None else each[layer] for each in (line["online"][name][part] for line in whole))


def _differences(lines: Sequence[Line], base: Mapping[int, Line], measure: str) -> Figure | None:
    """Nats, seed by seed: the seeds have the same batches."""
    pairs = [line for line in lines if line["seed"] in base]
    return figure(pairs, lambda line: math.log(2) * (line[measure] - base[line["seed"]][measure]))


def _agrees(difference: Figure | None, paper: float | None) -> str:
    if difference is None or paper is None:
        return "–"
    if abs(difference.mean) <= difference.spread:
        return "open"
    return "yes" if difference.mean * paper > 0 else "no"


def _trained(whole: Sequence[Line]) -> str:
    count = len({line["seed"] for line in whole})
    return f"{whole[0]['tokens']:,} training tokens, {count} seed{'s' * (count != 1)}" + (", so no spread" if count == 1 else "")


def _whole(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if "failed" not in line]


def _nats(value: Figure | None) -> str:
    return "–" if value is None else str(Figure(tuple(math.log(2) * each for each in value.each)))


def _signed(value: Figure | None) -> str:
    if value is None:
        return "–"
    return f"{value.mean:+.3f}" + (f" ± {value.spread:.3f}" if len(value.each) > 1 else "")

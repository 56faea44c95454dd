"""`python -m bench lm`: HOPE and its rivals as language models, at equal parameters, equal tokens, on the same data."""

import os
import platform
import shlex
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from bench.data import DataAbsent, directory
from bench.table import write_json

MEASURED_ALONE = ("speed", "widths")  # tasks that nothing may run beside; a line of the ledger each, and no trial
DEFAULT = Path("bench-results/lm.json")
SIZES = ("tiny", "mini", "small", "medium", "large")
TASKS = ("shakespeare", "text", "continual", "levels", "ablations", "speed", "widths")


@click.command()
@click.option(
    "--sizes", multiple=True, type=click.Choice(SIZES), default=("small", "mini"), show_default=True, help="Several times for several."
)
@click.option("--tasks", multiple=True, type=click.Choice(TASKS), default=TASKS, show_default=True, help="Several times for several.")
@click.option("--kinds", multiple=True, metavar="KIND", help="A kind of model; several times for several. Default: all.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--tokens", type=click.IntRange(1_000), help="Training tokens of each model. Default: a budget for each task.")
@click.option("--tune", is_flag=True, help="First find each kind's rate on a small grid.")
@click.option("--rate", type=click.FloatRange(0, 1, min_open=True), help="One rate for all, tuned or not.")
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that train; speed is always measured alone."
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), default=DEFAULT, show_default=True, help="The report."
)
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Curves. Default: beside the report.")
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="The section for docs/results.md. Default: beside the report."
)
def lm(
    sizes: tuple[str, ...],
    tasks: tuple[str, ...],
    kinds: tuple[str, ...],
    seeds: int,
    tokens: int | None,
    tune: bool,
    rate: float | None,
    jobs: int,
    json_path: Path,
    png: Path | None,
    markdown: Path | None,
) -> None:
    """Which kind of model needs the fewest bits, forgets least, learns in context, and what does it cost?

    Every finished run is a line of the file beside the report that ends in .jsonl: a bench that was interrupted goes on, and one that is
    called again with more seeds or kinds adds to it. A run that was interrupted goes on from its last checkpoint, beside the report, too.

    Without --tokens the plan is one of about five core-hours: each task has its own number of tokens, shakespeare is for HOPE and
    Transformer++ at small alone, levels and ablations at mini (`bench.language.budgets` says why). With --tokens all tasks have as many, at
    all sizes and of all kinds, and the tasks of HOPE a quarter. Without --tune and --rate each kind has the rate that --tune
    found for it. The texts are looked for in the directory that PALIMPSEST_DATA names, else in
    ../shared/data beside the repository.

    Three tasks are of the kind hope alone and left out without it: levels (the same weights with levels that learn online and without; no
    dead level), ablations (one part changed at a time, as in the paper's table 6), and widths
    (training speed by width and head width against a Llama of the same size).
    """
    from bench.language.plan import OF_HOPE, Plan, done, outdated, quiet
    from bench.language.rivals import KINDS
    from bench.language.sizes import NoFit
    from bench.ledger import Ledger  # torch loads from here on

    if odd := [kind for kind in kinds if kind not in KINDS]:
        raise click.UsageError(f"there is no kind {odd[0]!r}; there are {', '.join(KINDS)}")
    if "hope" not in (kinds or KINDS) and set(tasks) <= set(OF_HOPE):
        raise click.UsageError(f"the tasks {', '.join(OF_HOPE)} are of the kind hope, which is not among --kinds")
    quiet()
    plan = Plan(sizes, kinds or tuple(KINDS), tasks, seeds, tokens, rate)
    ledger = Ledger(json_path.with_suffix(".jsonl"))
    try:
        click.echo(_sizes(plan))
        measure(plan, ledger, directory(os.environ), jobs, tune=tune, unfinished=json_path.with_suffix(".unfinished"))
    except (DataAbsent, NoFit) as refused:
        raise click.ClickException(str(refused)) from None
    lines = done(plan.trials(ledger), ledger)
    lines += [line for line in ledger.lines if line["task"] in MEASURED_ALONE and plan.has(line["task"])]
    for kind, count in outdated(lines).items():
        click.echo(
            f"{count} runs of {kind} are of an earlier version of its source; take them out of the .jsonl to run them again", err=True
        )
    _publish(_report(plan, lines, tuned=rate is None and _was_tuned(plan, ledger)), json_path, png, markdown)


def measure(plan: Any, ledger: Any, below: Path, jobs: int, *, tune: bool, unfinished: Path | None = None) -> None:  # noqa: ANN401
    """Tune if asked, run the trials, then, with nothing beside them, what is about speed; what the ledger has is not run again.

    Raises:
        DataAbsent: texts are not there. NoFit: a kind cannot have a size.
    """
    from bench.language.contest import contest, contest_of
    from bench.language.plan import execute, missing
    from bench.language.widths import by_width, widths_of

    for make in ([plan.tuning] if tune else []) + [lambda: plan.trials(ledger)]:
        trials = make()
        with tqdm(desc="train", total=sum(trial.tokens for trial in missing(trials, ledger)), unit=" tokens", unit_scale=True) as bar:
            execute(trials, ledger, below, jobs, bar.update, tqdm.write, unfinished)
    for size in plan.sizes if "speed" in plan.tasks else ():
        if ledger.find(contest_of(size, plan.kinds)) is None:
            tqdm.write(f"speed {size}: contexts of up to 100,000 tokens are really read, this takes minutes")
            ledger.add(contest(size, plan.kinds))
    if plan.has("widths") and ledger.find(widths_of()) is None:
        ledger.add(by_width())


def _sizes(plan: Any) -> str:  # noqa: ANN401
    from bench.language.ablations import VARIANTS
    from bench.language.sizes import SIZES as CLASSES
    from bench.language.sizes import fit, table
    from bench.language.trials import TASKS as SHAPES
    from bench.language.trials import Trial, fitted

    context = SHAPES["text"].context
    parts = []
    for size in (CLASSES[name] for name in plan.sizes):
        fits = [fit(kind, size, 256, context) for kind in plan.kinds]
        parts.append(f"{size.name}: {size.target:,} parameters, bytes\n{table(fits, size.target)}")
        if plan.has("ablations"):
            variants = [fitted(Trial("ablations", size.name, name, 0, 0, 1.0), 256)[1] for name in VARIANTS]
            parts.append(f"{size.name}, ablations\n{table(variants, size.target)}")
    return "\n\n".join(parts)


def _was_tuned(plan: Any, ledger: Any) -> bool:  # noqa: ANN401
    from bench.language.plan import tuned

    return all(tuned(ledger, size, kind) is not None for size in plan.sizes for kind in plan.kinds)


def _report(plan: Any, lines: list[dict[str, Any]], *, tuned: bool) -> dict[str, Any]:  # noqa: ANN401
    machine = {"torch": version("torch"), "transformers": version("transformers"), "python": platform.python_version(), "device": _device()}
    command = "python -m bench " + shlex.join(sys.argv[1:])
    return {
        "benchmark": "lm",
        "version": version("palimpsest"),
        "command": command,
        "machine": machine,
        "plan": asdict(plan),
        "tuned": tuned,
        "runs": lines,
    }


def _device() -> str:
    return f"CPU {platform.machine()}, one thread, {platform.system()}"


def _publish(report: dict[str, Any], json_path: Path, png: Path | None, markdown: Path | None) -> None:
    from bench.language.pictures import draw
    from bench.language.report import markdown as section

    text = section(report)
    write_json(json_path, report)
    draw(report["runs"], png or json_path.with_suffix(".png"))
    (markdown or json_path.with_suffix(".md")).write_text(text)
    click.echo(text)

"""`python -m bench synthetic`: formal languages, MAD and recall, in the layout of the paper's tables 5 and 4 beside its own rows."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from torch import nn

    from bench.synthetic.learner import Recipe
    from bench.synthetic.report import Run
    from bench.synthetic.suite import Entry
    from bench.synthetic.task import Task


@click.command()
@click.option(
    "--tasks", multiple=True, help="A family (languages, mad, recall) or one task; several times for several. Default: languages."
)
@click.option("--kinds", multiple=True, help="A kind of model; several times for several. Default: lstm and hope.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each kind on each task.")
@click.option("--budget", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Times the usual number of steps.")
@click.option("--harder", is_flag=True, help="All settings of the MAD tasks, whose mean is a MAD score; else the baseline of each.")
@click.option("--device", default="cpu", show_default=True, help="Where to train: cpu, cuda, cuda:1, …")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of torch on the CPU; these models are small.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write every run here as it ends, and go on from it."
)
@click.option("--markdown", "markdown_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the tables to this file.")
@click.option("--weights", type=click.Path(file_okay=False, path_type=Path), help="Keep the weights of new runs here, as safetensors.")
def synthetic(
    tasks: tuple[str, ...],
    kinds: tuple[str, ...],
    seeds: int,
    budget: float,
    harder: bool,
    device: str,
    threads: int,
    json_path: Path | None,
    markdown_path: Path | None,
    weights: Path | None,
) -> None:
    """Train small models on made-up tasks: what can an architecture track, recall, memorize?

    A run that is in the --json file already, with the same recipe, is not repeated: an interrupted command goes on where it stopped.
    """
    import torch

    from bench.synthetic import report
    from bench.synthetic.kinds import names
    from bench.synthetic.suite import entries

    wanted = kinds or ("lstm", "hope")
    if odd := [kind for kind in wanted if kind not in names()]:
        raise click.UsageError(f"there is no kind {odd[0]!r}; there are {', '.join(names())}")
    try:
        chosen = entries(tasks or ("languages",), harder=harder)
        runs = report.read(json_path) if json_path else []
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except report.Unreadable as error:
        raise click.ClickException(str(error)) from None
    torch.set_num_threads(threads)
    shown = run_all(chosen, wanted, seeds, budget, device, runs, json_path, weights)
    text = report.render(shown)
    click.echo(text)
    if markdown_path is not None:
        markdown_path.parent.mkdir(parents=True, exist_ok=True)
        markdown_path.write_text(text + "\n")


def run_all(
    chosen: "Sequence[Entry]",
    kinds: Sequence[str],
    seeds: int,
    budget: float,
    device: str,
    runs: "list[Run]",
    json_path: Path | None,
    weights: Path | None,
) -> "list[Run]":
    """Every run that is asked for, in the order of the tables; `runs` grows by the new ones, and `json_path` with it."""
    from bench.synthetic import report

    shown = []
    for entry in chosen:
        for seed in range(seeds):
            task: Task | None = None
            for kind in kinds:
                recipe = entry.recipe_of(kind, budget)
                run = next((run for run in runs if run.same_as(entry.name, kind, seed, recipe)), None)
                if run is None:
                    task = task or entry.task(seed)
                    run = one(entry, task, kind, seed, recipe, device, weights)
                    runs.append(run)
                    if json_path is not None:
                        report.write(json_path, runs)
                shown.append(run)
    return shown


def one(entry: "Entry", task: "Task", kind: str, seed: int, recipe: "Recipe", device: str, weights: Path | None) -> "Run":
    """Make a model, train it, keep its weights."""
    from safetensors.torch import save_model

    from bench.synthetic.learner import learn
    from bench.synthetic.report import Run

    model = model_for(entry, task, kind, seed).to(device)
    with tqdm(desc=f"{kind}, {entry.name}, seed {seed}", total=recipe.steps, unit=" steps", leave=False, mininterval=2) as bar:

        def told(done: int, words: str) -> None:
            bar.set_postfix_str(words, refresh=False)
            bar.update(done)

        learned = learn(model, task, recipe, seed=seed, told=told)
    if weights is not None:
        weights.mkdir(parents=True, exist_ok=True)
        save_model(model, str(weights / f"{_file_name(kind)}-{_file_name(entry.name)}-{seed}.safetensors"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Run(entry.family, entry.name, entry.group, kind, seed, parameters, asdict(recipe), learned, dict(task.notes))


def model_for(entry: "Entry", task: "Task", kind: str, seed: int) -> "nn.Module":
    """A fresh model of a kind, with MAD's decoder around it where a task asks for the whole row back."""
    import torch

    from bench.synthetic.autoencoder import Autoencoder
    from bench.synthetic.kinds import SIZES, make

    model = make(kind, entry.family, task.vocabulary, task.longest, seed)
    if not task.whole:
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder(model, task.vocabulary, SIZES[entry.family].width, task.longest)


def _file_name(words: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in words).strip("_")

"""The command `python -m model.train`: train a language model, resume, evaluate, sample, export.

python -m model.train run --data shakespeare.txt --tokenizer char --model llama --tokens 1536000 --out runs/llama
python -m model.train resume runs/llama
python -m model.train evaluate runs/llama --stream
python -m model.train sample runs/llama --prompt "ROMEO:"
python -m model.train export runs/llama models/llama
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

import click
from torch import Tensor, nn

from model.hope.convert import whole_folder
from model.train.corpus import open_corpus
from model.train.evaluate import Score, Scorer
from model.train.loop import Diverged
from model.train.models import KINDS, Sizes, build, resolve
from model.train.progress import Progressbar
from model.train.sample import sample as sampled
from model.train.session import Session, Texts, chosen_device, read_texts, scores_of
from model.train.settings import Run, Settings
from model.train.tokens import Tokenizer

INTERRUPTED = 130  # what a shell reports after Ctrl-C
SCALES = {"k": 10**3, "M": 10**6, "G": 10**9}


class Count(click.ParamType[int]):
    """A number of tokens: 1536000, 1_536_000, 1.5M, 20k."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """The whole number."""
        text = str(value)
        scale = SCALES.get(text[-1:], 1)
        try:
            return round(float(text[:-1] if scale > 1 else text) * scale)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a number of tokens such as 1536000, 1.5M or 20k", param, ctx)


COUNT = Count()
FOLDER = click.Path(path_type=Path, file_okay=False)
DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.")
QUIET = click.option("--quiet", is_flag=True, help="No progress bar.")


@click.group()
def main() -> None:
    """Train language models by one loop, measure them in bits per byte."""


@main.command()
@click.option("--data", multiple=True, required=True, help="Text: a file (also .xz, .gz), a folder of domains, or NAME=PATH. Repeatable.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the run.")
@click.option("--tokens", type=COUNT, required=True, help="Training tokens: 1536000, 1.5M, 20k.")
@click.option("--tokenizer", default="byte", show_default=True, help="byte, char, or bpe:VOCAB (trained on the training text).")
@click.option("--model", default="llama", show_default=True, help=f"{', '.join(KINDS)}, or a JSON configuration with a model_type.")
@click.option("--layers", default=4, show_default=True)
@click.option("--width", default=128, show_default=True)
@click.option("--heads", default=4, show_default=True)
@click.option("--batch", default=12, show_default=True, help="Windows in a batch.")
@click.option("--context", default=64, show_default=True, help="Tokens in a window.")
@click.option("--accumulate", default=1, show_default=True, help="Batches that make a step.")
@click.option("--windows", default=1, show_default=True, help="Windows read one after another through the carried state.")
@click.option("--bptt", is_flag=True, help="Let the gradient flow through the carried state.")
@click.option("--optimizer", default="adamw", show_default=True, help="adamw, muon or m3.")
@click.option("--rate", default=1e-3, show_default=True, help="Peak rate.")
@click.option("--rate-end", default=0.1, show_default=True, help="Where the cosine ends, in peak rates.")
@click.option("--schedule", default="cosine", show_default=True, help="cosine or constant.")
@click.option("--warmup", default=0.02, show_default=True, help="Share of the tokens over which the rate rises.")
@click.option("--inner-warmup", default=0.1, show_default=True, help="Share over which the inner rate of a HOPE model rises.")
@click.option("--beta2", default=0.95, show_default=True, help="Memory of AdamW's second moment.")
@click.option("--weight-decay", default=0.1, show_default=True, help="Of matrices; never of norms and biases.")
@click.option("--decay-embeddings", is_flag=True, help="Of embeddings, too.")
@click.option("--decay-starts", default=0.0, show_default=True, help="Of the starts of fast memories; below 0.01.")
@click.option("--clip", default=1.0, show_default=True, help="Global norm of the outer gradient; 0 for none.")
@click.option("--precision", default="fp32", show_default=True, help="fp32, or bf16 by autocast.")
@click.option("--validation", default=0.1, show_default=True, help="Share of every domain, at its end.")
@click.option("--evaluate-every", type=COUNT, default=0, show_default=True, help="Tokens between evaluations; 0: at the end only.")
@click.option("--evaluate-tokens", type=COUNT, default=0, show_default=True, help="Validation tokens read at each; 0: all.")
@click.option("--checkpoint-every", type=COUNT, default=0, show_default=True, help="Tokens between checkpoints; 0: at the end only.")
@click.option("--keep", default=2, show_default=True, help="Newest checkpoints that stay.")
@click.option("--seed", default=0, show_default=True)
@DEVICE
@QUIET
def run(out: Path, device: str, quiet: bool, model: str, layers: int, width: int, heads: int, **told: Any) -> None:  # noqa: ANN401
    """Train a new model."""
    with clear_errors():
        where, session, plan = chosen_device(device), Session(out), planned(model, told)
        session.refuse_used()
        texts = read_texts(plan)
        shape = resolve(model, Sizes(layers, width, heads), vocabulary=len(texts.tokenizer.pieces), context=plan.context)
        plan = replace(plan, model=shape)
        fresh = build(shape, plan.loop.seed).to(where)
        session.begin(plan, texts)
        finish(session, fresh, texts, quiet=quiet)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--tokens", type=COUNT, help="Another budget than before; the schedule follows it from here on.")
@DEVICE
@QUIET
def resume(folder: Path, tokens: int | None, device: str, quiet: bool) -> None:
    """Go on from the newest checkpoint of FOLDER, as if there had been no stop."""
    with clear_errors():
        where, session = chosen_device(device), Session(folder)
        texts, plan = session.texts(), session.run()
        if tokens is not None:
            plan = replace(plan, loop=plan.loop.but(tokens=tokens))
            plan.save(folder / "run.json")
        finish(session, build(plan.model, plan.loop.seed).to(where), texts, quiet=quiet)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--stream", is_flag=True, help="As one stream with a carried state, instead of windows.")
@click.option("--data", multiple=True, help="Other texts than the run's validation text; read whole.")
@click.option("--context", type=int, help="Tokens in a window, or in a piece of the stream; default: as trained.")
@click.option("--limit", type=COUNT, default=0, show_default=True, help="Tokens of each domain; 0: all.")
@DEVICE
def evaluate(folder: Path, stream: bool, data: tuple[str, ...], context: int | None, limit: int, device: str) -> None:
    """Score the newest checkpoint of FOLDER; JSON on standard output."""
    with clear_errors():
        session = Session(folder)
        plan = session.run()
        model, tokenizer = session.trained(chosen_device(device))
        texts = other_texts(data, tokenizer) if data else session.texts().validation
        scorer, length = Scorer(tokenizer, plan.loop.precision), plan.context if context is None else context
        scores: dict[str, Score] = {}
        for name, ids in texts.items():
            if stream:
                scores[name] = scorer.stream(model, ids[: limit + 1] if limit else ids, context=length)
            else:
                scores[name] = scorer.windows(model, ids, batch=plan.batch, context=length, limit=limit)
        click.echo(json.dumps(scores_of(scores), indent=2))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--prompt", default="\n", help="What the text begins with; default: a new line.")
@click.option("--length", default=500, show_default=True, help="Tokens to add.")
@click.option("--temperature", default=0.8, show_default=True, help="0 takes the likeliest token each time.")
@click.option("--seed", default=0, show_default=True)
@DEVICE
def sample(folder: Path, prompt: str, length: int, temperature: float, seed: int, device: str) -> None:
    """Write text by the newest checkpoint of FOLDER."""
    with clear_errors():
        model, tokenizer = Session(folder).trained(chosen_device(device))
        click.echo(sampled(model, tokenizer, prompt, length, temperature=temperature, seed=seed))


@main.command()
@click.argument("folder", type=FOLDER)
@click.argument("target", type=FOLDER)
def export(folder: Path, target: Path) -> None:
    """Write the newest checkpoint of FOLDER as a model in Hugging Face's form, with its tokenizer, to the new folder TARGET."""
    with clear_errors():
        model, tokenizer = Session(folder).trained("cpu")
        with whole_folder(target) as growing:
            model.save_pretrained(growing)  # type: ignore[operator]
            tokenizer.save(growing / "tokenizer.json")
    click.echo(f"{target}: {sum(weight.numel() for weight in model.parameters()):,} parameters")


def planned(model: str, told: dict[str, Any]) -> Run:
    """The run that the options describe; its model is complete once the vocabulary is known.

    Raises:
        ValueError: a value out of range, named with its field.
    """
    around = {field.name for field in fields(Run)}
    loop = {name: value for name, value in told.items() if name not in around}
    loop["clip"] = loop["clip"] or None
    return Run(model={"model_type": model}, loop=Settings(**loop), **{name: value for name, value in told.items() if name in around})


def finish(session: Session, model: nn.Module, texts: Texts, *, quiet: bool) -> None:
    """Train to the end, or to the first Ctrl-C, and say how it went."""
    plan = session.run()
    with stoppable() as stop, Progressbar(plan.loop.tokens, session.checkpoints().progress().tokens, quiet=quiet) as bar:
        history = session.train(model, texts, bar, stop)
    if not history.finished:
        click.echo(f"stopped; the checkpoint is safe. Go on with: python -m model.train resume {session.folder}", err=True)
        sys.exit(INTERRUPTED)
    scores = history.scores
    if scores:
        click.echo(f"validation loss {scores['loss']:.4f} nats per token, {scores['bits_per_byte']:.4f} bits per byte")
        click.echo(f"{history.steps[-1].tokens:,} tokens, {history.tokens_per_s:,.0f} tokens/s")
    click.echo(f"checkpoints, curves.jsonl and curves.png are in {session.folder}")


def other_texts(data: tuple[str, ...], tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Whole texts, by domain."""
    return {domain.name: tokenizer.encode(domain.text()) for domain in open_corpus(data)}


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Whether the process was asked to stop (SIGINT, SIGTERM). A second time it stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for known, former in before.items():
            signal.signal(known, former)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def clear_errors() -> Iterator[None]:
    """What the user can put right is told in one line, without a traceback."""
    try:
        yield
    except (ValueError, Diverged) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main(prog_name="python -m model.train")

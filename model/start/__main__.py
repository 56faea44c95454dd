"""The command `python -m model.start`: learn a start of the encoder, judge it on a domain that it has never seen.

python -m model.start train --leave-out clinc150 --leave-out rewordings --out docs/measured/starts/without-clinc150-rewordings.safetensors
python -m model.start evaluate docs/measured/starts/without-clinc150-rewordings.safetensors     # on both
python -m model.start take docs/measured/starts/without-clinc150-rewordings.safetensors --strength 0.25 --out less.safetensors
python -m model.start train --out model/start/start.safetensors     # what is shipped; its digest goes into model/start/weights.py
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.encoder import PINNED, Encoder, EncoderRefused, find_weights, tokenizer_in
from model.encoder_weights import read_weights
from model.start import resuming
from model.start.batches import Batches
from model.start.comparing import Hits, compared
from model.start.judging import figures, judge, worse
from model.start.network import ChangedEncoder
from model.start.probes import PROBES, own_pairs, probe
from model.start.recipes import Record, record_of, told_beside, write_beside
from model.start.sources import DOMAINS, Asked, SourceAbsent, Sources
from model.start.training import Recipe, Step, Training, plain_vectors
from model.start.weights import read_start, with_share, write_start

DATA = "PALIMPSEST_DATA"
DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data"
USUAL = Recipe()
SHOWN = 0.95  # of the loss that the bar shows
OWN = "pairs"  # the name of what a user asks
BATCH = 32  # texts in one call of the encoder
FILE = click.Path(path_type=Path, dir_okay=False)
QUIET = click.option("--quiet", is_flag=True, help="No progress bar.")
DATA_OPTION = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), envvar=DATA, default=DEFAULT, show_default=True, help="The shared sets."
)
ENCODER = click.option("--encoder", envvar="PALIMPSEST_ENCODER", help="Directory of the encoder. Default: the packaged one.")
ENCODER_DIGEST = click.option("--encoder-sha256", envvar="PALIMPSEST_ENCODER_SHA256", default=PINNED, help="Digest of its weights.")


@click.group()
def main() -> None:
    """Meta-learn a start of the sentence encoder from public tasks, and judge it on what it has not seen."""


@main.command()
@click.option("--out", type=FILE, required=True, help="The start, a .safetensors file; its recipe is written beside it.")
@click.option("--leave-out", "left_out", multiple=True, type=click.Choice(DOMAINS), help="A domain that is not learned from. Repeatable.")
@click.option("--steps", default=USUAL.steps, show_default=True, type=click.IntRange(1))
@click.option("--rank", default=USUAL.rank, show_default=True, type=click.IntRange(1, 64), help="Of the change of each linear map.")
@click.option("--rate", default=USUAL.rate, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Peak rate.")
@click.option(
    "--keep", default=USUAL.keep, show_default=True, type=click.FloatRange(min=0), help="Weight of the distance to the plain vectors."
)
@click.option("--temperature", default=USUAL.temperature, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option(
    "--passages",
    "passages_share",
    default=USUAL.passages_share,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of batches that are general text.",
)
@click.option(
    "--wordings", "wordings_share", default=USUAL.wordings_share, show_default=True, type=click.FloatRange(0, 1), help="Share of the rest."
)
@click.option(
    "--hard", "hard_share", default=USUAL.hard_share, show_default=True, type=click.FloatRange(0, 1), help="Share of hard batches."
)
@click.option(
    "--strength", default=USUAL.strength, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Share of the change taken."
)
@click.option("--seed", default=USUAL.seed, show_default=True, type=click.IntRange(0))
@DATA_OPTION
@ENCODER
@ENCODER_DIGEST
@QUIET
def train(
    out: Path,
    left_out: tuple[str, ...],
    data: Path,
    encoder: str | None,
    encoder_sha256: str,
    quiet: bool,
    **told: Any,  # noqa: ANN401
) -> None:
    """Learn a start. Minutes on one core; the same command gives the same file on one kind of processor, also when it was stopped."""
    torch.set_num_threads(1)  # several threads would add in another order
    recipe, sources = Recipe(**told), Sources(data)
    with clear_errors():
        domains, files = sources.domains(left_out), sources.digests()
        directory, base = find_weights(encoder), encoder_sha256.strip().lower()
        weights, tokenizer = read_weights(directory, base), tokenizer_in(directory)
        network = ChangedEncoder(weights, recipe.rank, recipe.seed)

        def tokens(text: str) -> Sequence[int]:
            ids: list[int] = tokenizer.encode(text).ids
            return ids

        batches = Batches(
            domains,
            lambda texts: plain_vectors(network, tokens, texts),
            sources.passages(),
            passages_share=recipe.passages_share,
            seed=recipe.seed,
            wordings_share=recipe.wordings_share,
            hard_share=recipe.hard_share,
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        training, made_of = (
            Training(network, batches, tokens, recipe),
            {**asdict(recipe), "base": base, "left_out": left_out, "files": files},
        )
        steps = run(training, recipe.steps, resuming.beside(out), made_of, quiet=quiet)
        start = write_start(out, training.changes(), base)
        resuming.beside(out).unlink(missing_ok=True)
        beside = write_beside(out, Record(recipe, left_out, domains, files, steps), start)
    click.echo(f"{out} {start.sha256}\n{beside}")


def run(training: Training, steps: int, part: Path, made_of: dict[str, Any], *, quiet: bool) -> list[Step]:
    """All steps, from where an earlier run stopped; what each showed."""
    done, loss = resuming.take_up(part, training, made_of), None
    with tqdm(total=steps, initial=len(done), unit=" steps", disable=quiet, dynamic_ncols=True) as bar:
        for number in range(len(done), steps):
            step = training.step(number)
            loss = step.loss if loss is None else SHOWN * loss + (1.0 - SHOWN) * step.loss
            bar.set_postfix_str(f"loss {loss:.3f}, drift {step.drift:.4f}", refresh=False)
            bar.update()
            done.append(step)
            if len(done) % resuming.EVERY == 0 and len(done) < steps:
                resuming.keep(part, training, done, made_of)
    return done


@main.command()
@click.argument("start", type=FILE)
@click.option(
    "--domain",
    "names",
    multiple=True,
    type=click.Choice((*DOMAINS, *PROBES)),
    help="Repeatable. Default, without --pairs: those it has not seen.",
)
@click.option("--pairs", type=FILE, help='Your own texts, a line for each pair: {"taught": "…", "asked": "…"}, which mean the same.')
@click.option("--validation", is_flag=True, help="Validation rows instead of test rows: for choosing between recipes.")
@DATA_OPTION
@ENCODER
@QUIET
def evaluate(
    start: Path, names: tuple[str, ...], pairs: Path | None, validation: bool, data: Path, encoder: str | None, quiet: bool
) -> None:
    """Judge a START beside the plain encoder; JSON on standard output. Ends with 1 where it is worse in a figure of a domain.

    For each figure: how many questions fare better and worse, the difference in points with its 95 % interval, and the chance of such a
    division if a coin decided (exact sign test). `lost` names the figures that are worse beyond chance.
    """
    torch.set_num_threads(1)
    with clear_errors():
        given = read_start(start, sha256_of(start))
        left_out: Sequence[str] = record_of(start, given)["left_out"]
        directory = find_weights(encoder)
        encoders = {
            "plain": Encoder.load(directory, expected_sha256=given.base),
            "start": Encoder.load(directory, expected_sha256=given.base, start=given),
        }
        asked = {name: asked_of(name, data, validation) for name in names or (() if pairs else left_out)}
        if pairs:
            asked[OWN] = own_pairs(pairs)
        if validation and (whole := sorted(set(asked) - set(DOMAINS))):
            raise click.UsageError(f"--validation: there are no validation rows of {', '.join(whole)}, only of {', '.join(DOMAINS)}")
        if not asked:
            raise click.ClickException(
                f"{start} has learned from every domain: judge one that leaves some out, or name one by --domain, or your own --pairs"
            )
        hits = {name: {said: judged(one, name, some, quiet) for said, one in encoders.items()} for name, some in asked.items()}
    found = {name: {said: rounded(some) for said, some in both.items()} for name, both in hits.items()}
    beside = {name: compared(both["plain"], both["start"]) for name, both in hits.items()}
    behind = {name: worse(both["plain"], both["start"]) for name, both in found.items()}
    seen = sorted(set(asked) & set(DOMAINS) - set(left_out))  # judged on what it has learned from: that says little
    said = {
        "start_sha256": given.sha256,
        "domains": found,
        "questions": {name: {figure: one.as_json() for figure, one in some.items()} for name, some in beside.items()},
        "worse": behind,
        "lost": {name: [figure for figure, one in some.items() if one.lost] for name, some in beside.items()},
        "seen": seen,
    }
    click.echo(json.dumps(said, indent=2))
    sys.exit(any(behind.values()))


@main.command()
@click.argument("start", type=FILE)
@click.option("--strength", required=True, type=click.FloatRange(0, 1, min_open=True), help="Share of what was learned that is taken.")
@click.option("--out", type=FILE, required=True, help="The start with that share; its recipe is written beside it.")
def take(start: Path, strength: float, out: Path) -> None:
    """Take another share of what a START has learned: the file that `train` writes with this --strength, without training again.

    The START must have taken a share that is a power of two (1, 0.5, 0.25): of others the bits were rounded.
    """
    with clear_errors():
        given = read_start(start, sha256_of(start))
        record = record_of(start, given)
        try:
            was = float(record["recipe"]["strength"])
        except (KeyError, TypeError, ValueError) as error:
            raise click.ClickException(
                f"the record beside {start} does not say which share it took ({error!r}); keep the one that `train` writes"
            ) from error
        changes = with_share(given, was, strength)
        out.parent.mkdir(parents=True, exist_ok=True)
        taken = write_start(out, changes, given.base)
        told_beside(out, record, taken, strength)
    click.echo(f"{out} {taken.sha256}")


def asked_of(name: str, data: Path, validation: bool) -> Asked:
    """What a domain or a probe is judged by."""
    return probe(name, data) if name in PROBES else Sources(data).asked(name, validation=validation)


def judged(encoder: Encoder, name: str, asked: Asked, quiet: bool) -> dict[str, Hits]:
    """Which questions of a domain an encoder answers rightly, for each figure."""

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        begins = tqdm(range(0, len(texts), BATCH), desc=name, disable=quiet, leave=False, dynamic_ncols=True)
        return np.concatenate([encoder.encode(texts[begin : begin + BATCH]).vectors for begin in begins])

    return judge(asked, encode)


def rounded(hits: Mapping[str, Hits]) -> dict[str, float]:
    """The figures of a domain, to a hundredth."""
    return {name: round(value, 2) for name, value in figures(hits).items()}


def sha256_of(path: Path) -> str:
    """The digest of a file that is judged, whichever it is: the command line names it, nothing is learned with it."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a user can repair ends in one message."""
    try:
        yield
    except (EncoderRefused, SourceAbsent, ValueError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()

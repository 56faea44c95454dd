"""`palimpsest teach`, `ask`, `probe` and `corrections`."""

import sys

import click

from palimpsest.cli.reaching import Shown, asks, clean, short
from palimpsest.client import Client
from palimpsest.replies import Cell, Correction

SILENT = 3  # exit status of `ask` when the memory abstains


@click.command("teach")
@click.argument("input")
@click.argument("right")
@click.option("--wrong", help="The wrong answer that was given.")
@click.option("--paraphrase", "paraphrases", multiple=True, help="The situation in other words, asked for the receipt; may be repeated.")
@click.option("--session", "session_id", help="The conversation that it came up in.")
@asks
def teach_command(
    memory: Client, show: Shown, input: str, right: str, wrong: str | None, paraphrases: tuple[str, ...], session_id: str | None
) -> None:
    """Teach: in the situation INPUT the right answer is RIGHT."""
    taught = memory.correct(input, right, wrong, paraphrases=paraphrases, session_id=session_id)
    before, check = taught.receipt.item.before.value, taught.receipt.paraphrase
    said = f"{taught.id}  was: {'nothing' if before is None else short(before)}  now: {short(taught.receipt.item.after.value)}"
    show.one(taught, f"{said}  paraphrases right: {check.fixed} of {check.n}" if check.n else said)


@click.command("ask")
@click.argument("input")
@click.option("--top-k", type=click.IntRange(1, 100), default=1, show_default=True, help="Answers to show.")
@click.option("--min-confidence", type=click.FloatRange(0, 1), help="Abstain below this; 0 shows guesses, too.")
@click.option("--at", help="Ask this snapshot.")
@click.option("--explain", is_flag=True, help="Say why (with --json).")
@asks
def ask_command(memory: Client, show: Shown, input: str, top_k: int, min_confidence: float | None, at: str | None, explain: bool) -> None:
    """Ask what is right in the situation INPUT. Exit status 3 when nothing is remembered."""
    recalled = memory.recall(input, top_k=top_k, min_confidence=min_confidence, at=at, explain=explain)
    if show.as_json:
        show.one(recalled, "")
    for answer in () if show.as_json else recalled.answers:
        click.echo(clean(answer.value if top_k == 1 else f"{answer.confidence:.2f}  {answer.value}"))
    if recalled.abstained:
        click.echo("nothing is remembered" if not recalled.answers else "these are guesses", err=True)
        sys.exit(SILENT)


@click.command("probe")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--at", "versions", multiple=True, default=("head",), show_default=True, help="A snapshot, or `head`; may be repeated.")
@asks
def probe_command(memory: Client, show: Shown, inputs: tuple[str, ...], versions: tuple[str, ...]) -> None:
    """Ask INPUTS of one or several versions of the memory, side by side."""
    for asked, row in zip(inputs, memory.probe(inputs, versions).rows, strict=True):
        answers = dict(zip(versions, row, strict=True))
        told = [f"  {at:<31} {_said(cell)}" for at, cell in answers.items()]
        show.one({"input": asked, "answers": answers}, "\n".join([short(asked, 100), *told]))


@click.command("corrections")
@click.option("--limit", type=click.IntRange(1), help="Show so many at most.")
@asks
def corrections_command(memory: Client, show: Shown, limit: int | None) -> None:
    """List corrections with their status, in the order they were taught."""
    show.many(memory.corrections(), _line, limit)


def _said(cell: Cell) -> str:
    return "(abstains)" if cell.abstained else f"{cell.confidence:.2f}  {short(cell.value)}"


def _line(correction: Correction) -> str:
    return f"{correction.seq:>7}  {correction.status:<11}  {correction.id}  {short(correction.input)}  →  {short(correction.right)}"

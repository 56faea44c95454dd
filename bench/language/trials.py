"""A trial: one model of one kind trained and measured on one task. What is equal for all kinds is fixed here.

Equal for all kinds of a task: the texts, the batches and their order (by the seed), the number of tokens, AdamW with a warm-up of 2 % and
a cosine to a tenth, weight decay 0.1, clip 1.0, float32. Different: the model, and its rate where it was tuned.

- shakespeare: characters of tinyshakespeare, 12 windows of 64, the published small CPU setting; nats are `bits · ln 2`
- text:        bytes of all three domains, 8 windows of 256; the result is the mean of the domains; besides, the tails are read as streams,
               where a model with a state of constant size carries it on and the others slide their window
- continual:   the three domains in turn, a third of the tokens each, at a constant rate; after the second domain, language learned in
               context is measured on the third, which no weight has seen yet
- levels:      `shakespeare` for the kind hope alone, then the same weights with levels that learn online and without (`levels`)
- ablations:   `shakespeare` for HOPE with one part changed; the kinds of this task are those of `ablations`
- tune:        a third of `text`, with a seed of its own, for one rate of the grid; scored on the last part of its training texts, which it
               leaves out: no rate is chosen on a text that a result is measured on

How many tokens a plan gives each task, and what that costs: `budgets`. A trial that was interrupted goes on at its last checkpoint, and is
then what it would have been, bit for bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from bench.language import ablations, hope, levels, rivals  # `hope` joins the kinds by being imported
from bench.language.ablations import VARIANTS
from bench.language.context import Read, by_position, carried, doubling, sliding, streams
from bench.language.continual import in_turn
from bench.language.corpora import DOMAINS, Corpus, batches, chosen_on, domain, mixed, shakespeare
from bench.language.rivals import KINDS, Kind, Shape, made
from bench.language.sizes import SIZES, Fitted, fit
from bench.language.sources import digest
from bench.language.stream import bits_per_token
from bench.language.unfinished import EVERY, Unfinished
from model.hope.lm import HopeLM
from model.train.batches import Batches
from model.train.history import Evaluate, Evaluated, Event, Saved, Stepped
from model.train.loop import train
from model.train.settings import Settings

TUNING_SEED = 1_000
TUNING_SHARE = 3  # one of so many parts of the tokens
POINTS = 6  # of a validation curve
GLANCE = 8_192  # tokens that a point of a curve is measured on
MEASURED = 32_768  # tokens of each domain's tail that a result is measured on, from all over it
BETWEEN = 16_384  # the same after each domain of the continual run
STREAMS, STREAM = 4, 4_096  # how many streams are read in context, and how long they are

Told = Callable[[int], object]  # tokens trained on since the last call


@dataclass(frozen=True, slots=True)
class Task:
    """How a task is batched."""

    batch: int
    context: int


TASKS = {
    "shakespeare": Task(12, 64),
    "text": Task(8, 256),
    "continual": Task(8, 256),
    "levels": Task(12, 64),
    "ablations": Task(12, 64),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """All that decides a trial's result, but for the texts."""

    task: str
    size: str
    kind: str
    seed: int
    tokens: int
    rate: float

    @property
    def shape(self) -> Task:
        """Batch and context; tuning is done on text."""
        return TASKS["text" if self.task == "tune" else self.task]

    @property
    def made_as(self) -> Kind:
        """What `kind` names: a variant of HOPE in `ablations`, one of `KINDS` else."""
        return VARIANTS[self.kind].kind if self.task == "ablations" else KINDS[self.kind]

    def named(self) -> dict[str, Any]:
        """The fields, as the ledger keeps them."""
        return asdict(self)


def run(trial: Trial, below: Path, told: Told = lambda tokens: None, unfinished: Path | None = None) -> dict[str, Any]:
    """Train and measure; everything measured, ready for JSON, the trial's own fields first. `cpu_s` is what it took.

    With `unfinished` the training goes on from what an interrupted one left below that folder.

    Raises:
        DataAbsent: the texts are not there. NoFit: the kind cannot have the size. Diverged: the training did.
    """
    kept = Unfinished(unfinished, _begun(trial))
    match trial.task:
        case "shakespeare" | "ablations":
            measured = _learned(trial, shakespeare(below), None, told, kept)
        case "text":
            measured = _learned(trial, _mixed(below), _domains(below), told, kept)
        case "tune":
            parts = [chosen_on(corpus) for corpus in _domains(below)]
            measured = _learned(trial, mixed(parts), parts, told, kept)
        case "continual":
            measured = _continual(trial, _domains(below), told, kept)
        case "levels":
            measured = _levels(trial, shakespeare(below), told, kept)
        case _:
            raise ValueError(f"there is no task {trial.task!r}; there are {', '.join([*TASKS, 'tune'])}")
    return trial.named() | {"code": code_of(trial.kind, trial.task)} | measured | {"cpu_s": round(kept.cpu_s, 1)}


def forget(trials: Sequence[Trial], unfinished: Path | None) -> None:
    """Drop what interruptions of these trials have left."""
    for trial in trials if unfinished is not None else ():
        Unfinished(unfinished, _begun(trial)).end()


def _begun(trial: Trial) -> dict[str, Any]:
    """All that must be the same when a trial is gone on with: its fields, its source, and the libraries that compute."""
    return trial.named() | {"code": code_of(trial.kind, trial.task), "torch": version("torch"), "transformers": version("transformers")}


@lru_cache
def code_of(kind: str, task: str = "") -> str:
    """A digest of the source that a trial of a kind depends on (`sources`), and of how its task is batched and measured.

    A variant of `ablations` is made by `model/hope` and the registry of the variants.
    """
    ours = task == "ablations" or KINDS[kind].make.__module__ == hope.__name__
    makers = [hope.__name__] if ours else [rivals.__name__, "bench.language.retnet"]
    makers += {"ablations": [ablations.__name__], "levels": [levels.__name__]}.get(task, [])
    how = (TASKS.get(task, TASKS["text"]), POINTS, GLANCE, MEASURED, BETWEEN, STREAMS, STREAM)
    return digest(makers, repr(how))


def fitted(trial: Trial, vocab: int) -> tuple[nn.Module, Fitted]:
    """The trial's model, at the size of all others; parameters that no loss reaches come on top and are not counted."""
    size, unused = SIZES[trial.size], idle(trial, vocab)
    found = fit(trial.made_as, replace(size, target=size.target + unused), vocab, trial.shape.context)
    model = made(trial.made_as, found.shape, trial.seed, found.knob)
    return model, replace(found, total=found.total - unused, apart=found.apart - unused)


def idle(trial: Trial, vocab: int) -> int:
    """Parameters of the trial's model that no loss reaches."""
    size = SIZES[trial.size]
    return VARIANTS[trial.kind].idle(Shape(vocab, size.width, size.layers, trial.shape.context)) if trial.task == "ablations" else 0


def settings(trial: Trial) -> Settings:
    """The outer loop of every kind."""
    return Settings(
        tokens=trial.tokens, rate=trial.rate, seed=trial.seed, evaluate_every=max(1, trial.tokens // POINTS), checkpoint_every=EVERY
    )


def _learned(trial: Trial, corpus: Corpus, domains: Sequence[Corpus] | None, told: Told, kept: Unfinished) -> dict[str, Any]:
    model, found, speed, curve = _trained(trial, corpus, told, kept)
    context = trial.shape.context
    if domains is None:
        by_domain = {corpus.name: bits_per_token(model, corpus.tail, context)}
    else:
        by_domain = {each.name: bits_per_token(model, each.tail, context, MEASURED) for each in domains}
    return {
        **_made(found),
        **({"idle": idle(trial, corpus.vocab)} if trial.task == "ablations" else {}),
        "bits": sum(by_domain.values()) / len(by_domain),
        "by_domain": by_domain,
        "stream": sum(costs := [_as_stream(model, trial, each) for each in domains or [corpus]]) / len(costs),
        "curve": curve,
        "tokens_per_s": speed,
    }


def _levels(trial: Trial, corpus: Corpus, told: Told, kept: Unfinished) -> dict[str, Any]:
    model, found, speed, curve = _trained(trial, corpus, told, kept)
    assert isinstance(model, HopeLM), f"the task levels is of the kind hope, not of {trial.kind!r}"
    context, length = trial.shape.context, min(STREAM, len(corpus.tail) // 2)
    return {
        **_made(found),
        "bits": bits_per_token(model, corpus.tail, context),
        **levels.worth(model, corpus.tail, context, STREAMS, length),
        "curve": curve,
        "tokens_per_s": speed,
    }


def _trained(trial: Trial, corpus: Corpus, told: Told, kept: Unfinished) -> tuple[nn.Module, Fitted, float, list[list[float]]]:
    """The model, its size, training tokens per second, and the curve of (tokens, bits)."""
    model, found = fitted(trial, corpus.vocab)
    shape = trial.shape
    curve = kept.curve(trial.task)

    def glance(now: nn.Module) -> dict[str, float]:
        return {"bits": bits_per_token(now, corpus.tail, shape.context, GLANCE)}

    def hear(event: Event) -> None:
        if isinstance(event, Evaluated):
            curve.append([event.tokens, event.scores["bits"]])

    draw = batches(corpus, shape.batch, shape.context, trial.seed)
    speed = _went_on(model, draw, settings(trial), told, kept, trial.task, hear, glance)
    return model, found, speed, curve


def _went_on(
    model: nn.Module,
    draw: Batches,
    how: Settings,
    told: Told,
    kept: Unfinished,
    phase: str,
    hear: Callable[[Event], None] = lambda event: None,
    evaluate: Evaluate | None = None,
) -> float:
    """Train a phase of a trial, from its newest checkpoint where there is one; its training tokens per second."""
    checkpoints = kept.checkpoints(phase)

    def listen(event: Event) -> None:
        hear(event)
        if isinstance(event, Evaluated | Saved):  # an evaluation comes before its checkpoint: no point can be lost between them
            kept.note()
        elif isinstance(event, Stepped):
            told(event.step_tokens)

    there = checkpoints is not None and bool(checkpoints.all())
    history = train(model, draw, how, listen, evaluate=evaluate, checkpoints=checkpoints, resume=there)
    if checkpoints is None:
        return history.tokens_per_s
    whole = checkpoints.progress()  # of all processes that trained it
    return whole.tokens / whole.seconds


def _continual(trial: Trial, domains: Sequence[Corpus], told: Told, kept: Unfinished) -> dict[str, Any]:
    model, found = fitted(trial, 256)
    shape, part = trial.shape, trial.tokens // len(domains)
    speeds: list[float] = []
    in_context: dict[str, Any] = {}
    read_on: list[list[float]] = []  # bits as a stream, by domain: of the first one when it is learned, of all at the end

    def learn(corpus: Corpus, phase: int) -> None:
        how = replace(settings(trial), tokens=part, schedule="constant", evaluate_every=0, inner_warmup=0.1 if phase == 0 else 0.0)
        draw = batches(corpus, shape.batch, shape.context, trial.seed)
        speeds.append(_went_on(model, draw, how, told, kept, f"domain-{phase}"))

    def after(phase: int) -> None:
        if phase in (1, len(domains)):  # right after the first domain, and at the end
            read_on.append([_as_stream(model, trial, corpus) for corpus in (domains if phase > 1 else domains[:1])])
        if phase == len(domains) - 1:
            in_context.update(_in_context(model, trial, domains[-1]))

    result = in_turn(domains, learn, lambda corpus: bits_per_token(model, corpus.tail, shape.context, BETWEEN), after)
    return {
        **_made(found),
        "bits": result.final,
        "domains": list(result.domains),
        "matrix": [list(row) for row in result.bits],
        "forgetting": result.forgetting,
        "streams": read_on,
        "context": in_context,
        "tokens_per_s": sum(speeds) / len(speeds),
    }


def _as_stream(model: nn.Module, trial: Trial, corpus: Corpus) -> float:
    """Bits a token where the tail is read on and on, each model in the better way that it has."""
    length = min(STREAM, len(corpus.tail) // 2)
    curve = by_position(model, streams(corpus.tail, STREAMS, length), _ways(trial)[-1][1], (1, length))
    return curve.bits[0]


def _ways(trial: Trial) -> list[tuple[str, Read]]:
    """How a kind can read a stream, the better one last."""
    context = trial.shape.context
    carrying = [("carried", carried(context))] if trial.made_as.constant else []
    return [("window", sliding(context)), *carrying]


def _in_context(model: nn.Module, trial: Trial, unseen: Corpus) -> dict[str, Any]:
    text = unseen.train[0]
    length = min(STREAM, len(text) // 2)
    ids, edges = streams(text, STREAMS, length), doubling(trial.shape.context // 4, length)
    return {name: asdict(by_position(model, ids, way, edges)) for name, way in _ways(trial)}


def _made(found: Fitted) -> dict[str, Any]:
    return {"blocks": found.shape.layers, "knob": found.knob, "parameters": found.total, "not_embedding": found.apart}


@lru_cache(maxsize=1)
def _domains(below: Path) -> tuple[Corpus, ...]:
    return tuple(domain(name, below) for name in DOMAINS)


@lru_cache(maxsize=1)
def _mixed(below: Path) -> Corpus:
    return mixed(_domains(below))

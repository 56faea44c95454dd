"""A training run as a folder.

`run.json` and `tokenizer.json` say what it is, `checkpoints/` holds what it learned, `curves.jsonl` and `curves.png` tell how it went.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from model.train.batches import Windows
from model.train.checkpointing import Checkpoints, load_weights
from model.train.corpus import open_corpus, split
from model.train.curves import CurveFile, draw
from model.train.evaluate import Score, Scorer
from model.train.history import Event, History, OnEvent, Saved
from model.train.loop import train
from model.train.models import build
from model.train.settings import Run
from model.train.tokens import Tokenizer, build_tokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class Texts:
    """Tokens of every domain, training and validation apart: (N,) int32 each."""

    tokenizer: Tokenizer
    training: dict[str, Tensor]
    validation: dict[str, Tensor]

    @property
    def fingerprint(self) -> str:
        """Hex digest of all tokens and the names of their domains."""
        digest = hashlib.sha256()
        for part in (self.training, self.validation):
            for name, stream in part.items():
                digest.update(f"{name} {len(stream)}\n".encode())
                digest.update(stream.numpy().tobytes())
        return digest.hexdigest()


class Session:
    """A folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.curves = CurveFile(folder / "curves.jsonl")

    def refuse_used(self) -> None:
        """Nothing of a former run is written over.

        Raises:
            ValueError: the folder holds a run already.
        """
        if (self.folder / "run.json").exists():
            raise ValueError(f"{self.folder} holds a run already; resume it, or choose another folder")

    def begin(self, run: Run, texts: Texts) -> None:
        """Write what the run is, with the fingerprint of its texts.

        Raises:
            ValueError: the folder holds a run already, or the texts are shorter than a window; nothing was written.
        """
        self.refuse_used()
        windows(run, texts)
        self.folder.mkdir(parents=True, exist_ok=True)
        texts.tokenizer.save(self.folder / "tokenizer.json")
        replace(run, fingerprint=texts.fingerprint).save(self.folder / "run.json")

    def run(self) -> Run:
        """What the run is."""
        return Run.load(self.folder / "run.json")

    def texts(self) -> Texts:
        """The run's texts, read again.

        Raises:
            ValueError: they are not what they were when the run began.
        """
        run = self.run()
        texts = read_texts(run, load_tokenizer(self.folder / "tokenizer.json"))
        if texts.fingerprint != run.fingerprint:
            raise ValueError(f"the text of {', '.join(run.data)} has changed since the run began: it cannot be resumed")
        return texts

    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.folder / "checkpoints", self.run().keep)

    def trained(self, device: str) -> tuple[nn.Module, Tokenizer]:
        """The model of the newest checkpoint, and its tokenizer.

        Raises:
            ValueError: no run, no checkpoint, or a damaged one.
        """
        run, places = self.run(), self.checkpoints().all()
        if not places:
            raise ValueError(f"{self.folder} holds no checkpoint yet")
        model = build(run.model, run.loop.seed).to(device)
        load_weights(model, places[-1])
        return model, load_tokenizer(self.folder / "tokenizer.json")

    def train(self, model: nn.Module, texts: Texts, on_event: OnEvent, stop: Callable[[], bool]) -> History:
        """Train until the budget is used up or `stop()`, from the newest checkpoint where there is one; curves and picture grow with it.

        Raises:
            Diverged, ValueError: see `train`.
        """
        run, checkpoints = self.run(), self.checkpoints()
        self.curves.cut(checkpoints.progress().step)

        def tell(event: Event) -> None:
            self.curves(event)
            if isinstance(event, Saved):
                self.draw()
            on_event(event)

        def evaluate(model: nn.Module) -> dict[str, float]:
            return scores_of(validate(model, texts, run))

        return train(
            model,
            windows(run, texts),
            run.loop,
            tell,
            evaluate=evaluate,
            checkpoints=checkpoints,
            resume=bool(checkpoints.all()),
            stop=stop,
        )

    def draw(self) -> None:
        """The picture of the curves."""
        run = self.run()
        title = f"{run.model['model_type']} · {run.tokenizer} tokens · context {run.context} · {run.loop.optimizer}"
        draw(self.curves.lines(), self.folder / "curves.png", title)


def read_texts(run: Run, tokenizer: Tokenizer | None = None) -> Texts:
    """The texts of a run; its tokenizer is made of them where none is given.

    Raises:
        ValueError: a text that cannot be used; a part too short to be used.
    """
    parts = {domain.name: split(domain.text(), run.validation) for domain in open_corpus(run.data)}
    if tokenizer is None:
        texts = [text for both in parts.values() for text in both]
        tokenizer = build_tokenizer(run.tokenizer, texts, [training for training, _ in parts.values()])
    training = {name: tokenizer.encode(text) for name, (text, _) in parts.items()}
    validation = {name: tokenizer.encode(text) for name, (_, text) in parts.items()}
    if short := [name for name, stream in validation.items() if len(stream) < 2]:
        raise ValueError(
            f"the validation part of {short[0]} has {len(validation[short[0]])} tokens; give more text or a larger validation share"
        )
    return Texts(tokenizer, training, validation)


def windows(run: Run, texts: Texts) -> Windows:
    """The training windows of a run."""
    return Windows(list(texts.training.values()), run.batch, run.context * run.loop.windows, run.loop.seed)


def validate(model: nn.Module, texts: Texts, run: Run) -> dict[str, Score]:
    """The score of every domain's validation text, in windows of the training context."""
    scorer = Scorer(texts.tokenizer, run.loop.precision)
    total = sum(map(len, texts.validation.values()))
    return {
        name: scorer.windows(model, stream, batch=run.batch, context=run.context, limit=run.evaluate_tokens * len(stream) // total)
        for name, stream in texts.validation.items()
    }


def scores_of(scores: dict[str, Score]) -> dict[str, float]:
    """Flat numbers: of all domains together, and with several of each one (`bits_per_byte/NAME`)."""
    whole = sum(scores.values(), start=Score(0.0, 0, 0, 0))
    flat = whole.as_dict()
    if len(scores) > 1:
        flat |= {f"bits_per_byte/{name}": score.bits_per_byte for name, score in scores.items()}
    return flat


def chosen_device(told: str) -> str:
    """`auto` is a GPU where there is one.

    Raises:
        ValueError: a device that is not there.
    """
    if told == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(told)
    except RuntimeError:
        raise ValueError(f"device is {told!r}, it must be auto, cpu, cuda, or cuda:1 and so on") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {told!r}, but there is no GPU that PyTorch can use")
    return told

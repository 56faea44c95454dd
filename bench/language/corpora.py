"""The texts: tinyshakespeare as characters, and three domains of prose as bytes, each with a fixed tail that nobody trains on.

They lie below the directory that PALIMPSEST_DATA names (`bench.data`), in `lm`. A tail is the last part of every file, so that each
novel takes part in training and in validation. All randomness is an argument: equal seeds give equal batches, whatever model reads them.
"""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.data import VARIABLE, DataAbsent
from model.train.batches import Batches, Windows

DOMAINS = {
    "novels": "lm/books/*.txt.xz",
    "peps": "lm/python_peps.txt.xz",
    "rust": "lm/rust_book.md.xz",
}  # in the order of the continual run
SHAKESPEARE = "lm/tinyshakespeare.txt.xz"
TAIL = 0.05  # of each file of a domain
LONGEST_TAIL = 65_536  # bytes of one file
SHAKESPEARE_TAIL = 0.1  # the split of every published number
PUBLIC = {
    "novels": "public domain novels, for example those of github.com/standardebooks, as plain text",
    "peps": "github.com/python/peps: peps/*.rst, one after another",
    "rust": "github.com/rust-lang/book: src/*.md, one after another",
    "shakespeare": "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Token ids below `vocab`, uint8: texts (N,) to train on, and one tail (N,) to validate on; `unit` is what a token is."""

    name: str
    train: tuple[Tensor, ...]
    tail: Tensor
    vocab: int
    unit: str


def shakespeare(below: Path) -> Corpus:
    """tinyshakespeare, one id a character of its alphabet; the last tenth is the tail.

    Raises:
        DataAbsent: it is not there, or not readable.
    """
    text = b"".join(_read("shakespeare", SHAKESPEARE, below)).decode()
    alphabet = {character: index for index, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([alphabet[character] for character in text], dtype=torch.uint8)
    cut = len(ids) - int(SHAKESPEARE_TAIL * len(ids))
    return Corpus("shakespeare", (ids[:cut],), ids[cut:], len(alphabet), "character")


def domain(name: str, below: Path) -> Corpus:
    """One of `DOMAINS`, one id a byte.

    Raises:
        DataAbsent: it is not there, or not readable.
    """
    train: list[Tensor] = []
    tails: list[Tensor] = []
    for raw in _read(name, DOMAINS[name], below):
        ids = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        cut = len(ids) - min(LONGEST_TAIL, int(TAIL * len(ids)))
        train.append(ids[:cut])
        tails.append(ids[cut:])
    return Corpus(name, tuple(train), torch.cat(tails), 256, "byte")


def mixed(corpora: Sequence[Corpus]) -> Corpus:
    """Several domains as one, each as long as it is."""
    train = tuple(text for corpus in corpora for text in corpus.train)
    return Corpus("+".join(corpus.name for corpus in corpora), train, torch.cat([corpus.tail for corpus in corpora]), 256, "byte")


def chosen_on(corpus: Corpus) -> Corpus:
    """The training texts alone, the last part of each as the tail: what rates are chosen on."""
    cuts = [len(text) - min(LONGEST_TAIL, int(TAIL * len(text))) for text in corpus.train]
    held = torch.cat([text[cut:] for text, cut in zip(corpus.train, cuts, strict=True)])
    return Corpus(corpus.name, tuple(text[:cut] for text, cut in zip(corpus.train, cuts, strict=True)), held, corpus.vocab, corpus.unit)


def batches(corpus: Corpus, batch: int, context: int, seed: int) -> Batches:
    """Random windows of the training texts; the batch of an index depends on the seed and the index alone.

    Raises:
        ValueError: a text is shorter than a window.
    """
    return Windows(corpus.train, batch, context, seed)


def _read(name: str, pattern: str, below: Path) -> list[bytes]:
    paths = sorted(below.glob(pattern))
    try:
        texts = [lzma.decompress(path.read_bytes()) for path in paths]
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataAbsent(f"{below / pattern} cannot be read ({error}).\n{_how_to_get(name, pattern, below)}") from None
    if not any(texts):
        raise DataAbsent(_how_to_get(name, pattern, below))
    return texts


def _how_to_get(name: str, pattern: str, below: Path) -> str:
    return (
        f"The benchmark needs {pattern} below {below} ({VARIABLE} names another directory): {PUBLIC[name]}.\n"
        f"Pack a text with xz -k FILE and lay it there."
    )

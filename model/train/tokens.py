"""Tokenizers: text to token ids and back, exactly. Bytes, characters, or byte-level BPE (`tokenizers`).

K1  `decode(encode(text)) == text` for every text that can be encoded.
K2  Every id stands for known bytes, so that nats can be counted over the bytes that tokens really cover.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import Tensor

PIECE = 1 << 18  # characters that BPE encodes in one go: its working memory is many times its text


class Tokenizer(Protocol):
    """Ids 0 … V−1; `pieces[id]` are the bytes that an id stands for."""

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every id."""
        ...

    def encode(self, text: str) -> Tensor:
        """(N,) int32."""
        ...

    def save(self, path: Path) -> None:
        """Write as JSON."""
        ...


class ByteTokenizer:
    """The 256 bytes of UTF-8."""

    pieces = tuple(bytes([value]) for value in range(256))

    def encode(self, text: str) -> Tensor:
        """(N,) int32, N bytes."""
        return torch.from_numpy(np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int32))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps({"kind": "byte"}) + "\n")


class CharTokenizer:
    """One id for each character of an alphabet."""

    def __init__(self, alphabet: str) -> None:
        _utf8(alphabet)
        self.alphabet = "".join(sorted(set(alphabet)))
        self._points = np.array([ord(character) for character in self.alphabet], dtype=np.int64)

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every id."""
        return tuple(character.encode() for character in self.alphabet)

    def encode(self, text: str) -> Tensor:
        """(N,) int32, N characters.

        Raises:
            ValueError: a character that is not in the alphabet.
        """
        _utf8(text)
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
        ids = np.searchsorted(self._points, points).clip(max=max(len(self._points) - 1, 0))
        unknown = np.flatnonzero(self._points[ids] != points) if len(self._points) else np.arange(len(points))
        if len(unknown):
            raise ValueError(
                f"the character {text[unknown[0]]!r} (U+{ord(text[unknown[0]]):04X}) at position {unknown[0]} is not among the "
                f"{len(self.alphabet)} of the alphabet; the tokenizer 'byte' reads any text"
            )
        return torch.from_numpy(ids.astype(np.int32))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps({"kind": "char", "alphabet": self.alphabet}) + "\n")


class BpeTokenizer:
    """Byte-level byte-pair encoding without special tokens: any text is encoded, nothing is normalised."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes of every id."""
        byte_of = {character: value for value, character in _byte_characters().items()}
        words = [self._inner.id_to_token(index) or "" for index in range(self._inner.get_vocab_size())]
        return tuple(bytes(byte_of[character] for character in word) for word in words)

    def encode(self, text: str) -> Tensor:
        """(N,) int32. Long texts are encoded piece by piece, cut after a line's end where there is one."""
        _utf8(text)
        ids = [np.array(self._inner.encode(piece).ids, dtype=np.int32) for piece in _cut(text)]
        return torch.from_numpy(np.concatenate(ids) if ids else np.zeros(0, dtype=np.int32))

    def save(self, path: Path) -> None:
        """Write as `tokenizers` does: `tokenizers.Tokenizer.from_file` reads it, too."""
        self._inner.save(str(path))


def build_tokenizer(spec: str, texts: Sequence[str], training: Sequence[str]) -> Tokenizer:
    """The tokenizer that `spec` names: byte, char, or bpe:VOCAB.

    An alphabet is a list of the characters of all `texts`, as in nanoGPT; merges are learned from the `training` texts alone.

    Raises:
        ValueError: a spec that is none of these.
    """
    kind, _, size = spec.partition(":")
    if kind == "byte" and not size:
        return ByteTokenizer()
    if kind == "char" and not size:
        return CharTokenizer("".join(sorted(set().union(*map(set, texts)))))
    if kind == "bpe" and size.isdecimal():
        return train_bpe(training, int(size))
    raise ValueError(f"tokenizer is {spec!r}, it must be byte, char, or bpe:VOCAB such as bpe:4096")


def train_bpe(texts: Iterable[str], vocabulary: int) -> BpeTokenizer:
    """Byte-level BPE of at most `vocabulary` tokens (fewer where the texts have no more pairs to merge).

    Raises:
        ValueError: fewer than 256.
    """
    if vocabulary < 256:
        raise ValueError(f"tokenizer bpe:{vocabulary} has fewer tokens than there are bytes, it must have at least 256")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=list(_byte_characters().values()), show_progress=False)
    inner.train_from_iterator((piece for text in texts for piece in _cut(text)), trainer)
    return BpeTokenizer(inner)


def load_tokenizer(path: Path) -> Tokenizer:
    """What `save` wrote.

    Raises:
        ValueError: missing, or not a tokenizer of this module.
    """
    try:
        told = json.loads(path.read_text())
        if "model" in told:
            return BpeTokenizer(tokenizers.Tokenizer.from_file(str(path)))
        known: dict[str, Callable[[], Tokenizer]] = {"byte": ByteTokenizer, "char": lambda: CharTokenizer(told["alphabet"])}
        return known[told["kind"]]()
    except Exception as error:  # `tokenizers` raises nothing narrower
        raise ValueError(f"{path} is not a tokenizer: {error}") from None


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of ids. Bytes that end inside a character show as U+FFFD: a sample may stop there, an encoded text never does."""
    pieces = tokenizer.pieces
    return b"".join(pieces[index] for index in ids).decode("utf-8", errors="replace")


def sizes(tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """How many bytes, and how many characters, every id stands for: two (V,) int64. A character counts where its first byte is."""
    pieces = tokenizer.pieces
    starts = [sum(value & 0xC0 != 0x80 for value in piece) for piece in pieces]
    return torch.tensor([len(piece) for piece in pieces]), torch.tensor(starts)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the text has half a character (U+{ord(text[error.start]):04X}) at position {error.start}") from None


def _cut(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        stop = start + PIECE
        if stop < len(text):
            stop = text.rfind("\n", start, stop) + 1 or stop
        yield text[start:stop]
        start = stop


def _byte_characters() -> dict[int, str]:
    """The character that stands for every byte in byte-level vocabularies (GPT-2): itself if printable, or one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {value: chr(value) for value in printable} | {value: chr(0x100 + place) for place, value in enumerate(others)}

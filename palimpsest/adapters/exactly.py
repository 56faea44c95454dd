"""Looking a text up as it is, where recall would find what is like it: the ledger's side of a memory, for stores and files.

A correction memory answers situations; a store asks for keys. Both find the same rows: what is looked up here is what recall rests on.
"""

from collections.abc import Iterator, Sequence

from palimpsest.client import Client
from palimpsest.errors import NotFound
from palimpsest.replies import Correction

WORDS, LONGEST = 8, 256  # what a search takes; what it finds is compared whole


def containing(memory: Client, text: str, bank: str | None = None) -> Iterator[Correction]:
    """The corrections, newest first, that have all words of `text` somewhere, and more; none of a bank that is not there."""
    words = " ".join(text.split()[:WORDS])[:LONGEST].strip()
    try:
        yield from memory.search(words, bank=bank) if words else ()
    except NotFound:
        return


def suppress(memory: Client, corrections: Sequence[Correction], reason: str, bank: str | None = None) -> None:
    """Answer with none of these any more. They stay in the ledger, where administrators can look, rebuild and erase."""
    if corrections:
        memory.forget([each.id for each in corrections], "suppress", reason=reason, bank=bank)

"""mem0 as a user without a language model runs it: `infer=False`, its own local store on disk, the same encoder's vectors.

Of the optional extra `peers`; where it is not there, `why_absent` says so. Nothing leaves the machine: its telemetry is switched off, and
the language model that its constructor insists on is never called.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.asking import Progress, Said
from bench.data import Row
from bench.subjects import bytes_below
from bench.vectors import Vectors

MEM0 = "mem0, infer=False"
USER = "bench"


class Mem0:
    """A mem0 memory on a directory."""

    def __init__(self, memory: Any, directory: Path) -> None:  # noqa: ANN401  # mem0 is untyped
        self._memory, self._directory = memory, directory

    async def ask_many(self, texts: Sequence[str], progress: Progress) -> list[Said]:
        """The first hit of a search for each."""
        said = []
        for text in texts:
            hits = self._memory.search(text, top_k=1, filters={"user_id": USER}, threshold=0.0)["results"]
            said.append(Said(hits[0]["metadata"]["right"], float(hits[0]["score"]), silent=False) if hits else Said(None, 0.0, silent=True))
            progress(1)
        return said

    async def tell_many(self, rows: Sequence[Row], progress: Progress) -> list[str]:
        """An added memory for each."""
        names = []
        for text, right in rows:
            added = self._memory.add(text, user_id=USER, metadata={"right": right}, infer=False)
            names += [str(one["id"]) for one in added["results"]]
            progress(1)
        return names

    async def size_bytes(self) -> int:
        """Its files; what it holds in memory is not told."""
        return bytes_below(self._directory)

    async def disk_bytes(self) -> int | None:
        """Its files."""
        return bytes_below(self._directory)


def why_absent() -> str | None:
    """What to tell a user who has not installed mem0; None when it is there."""
    return None if find_spec("mem0") else "mem0 is not installed, it is left out; pip install 'palimpsest[peers]' brings it"


@contextlib.contextmanager
def mem0_memory(vectors: Vectors, directory: Path) -> Iterator[Mem0]:
    """A new memory of mem0 in a directory. It must be installed."""
    os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(directory / "home")}  # read when it is imported
    from mem0 import Memory

    unused = {"provider": "openai", "config": {"api_key": "none"}}
    store = {"collection_name": USER, "embedding_model_dims": vectors.keys.shape[1], "path": str(directory / "store"), "on_disk": True}
    memory = Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "llm": unused,
            "embedder": unused,
            "history_db_path": str(directory / "history.db"),
        }
    )
    memory.embedding_model = _Remembered(vectors)
    try:
        yield Mem0(memory, directory)
    finally:
        memory.vector_store.client.close()
        memory.close()


class _Remembered:
    """The encoder in the form that mem0 calls."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """One vector."""
        return [float(number) for number in self._vectors[text]]

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        """Several."""
        return [self.embed(text) for text in texts]

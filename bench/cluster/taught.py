"""What is known of a bank that clients teach: what they were told, what its ledger was seen to hold, and the weights it should have."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.killing import Fold, settled_digest
from bench.promises import Broken

PAGE = 200


@dataclass(slots=True)
class TaughtBank:
    """A bank by its name; nobody but our clients teaches it."""

    name: str
    fold: Fold  # of this bank's ledger alone
    acked: dict[str, tuple[int, str]] = field(default_factory=dict)  # input -> seq, right
    newest: int = 0  # the highest seq acknowledged so far
    rows: list[tuple[str, str]] = field(default_factory=list)  # input, right
    _cursor: str | None = None

    def acknowledged(self, text: str, seq: int, right: str) -> None:
        """A client was told that its correction has this place."""
        self.acked[text], self.newest = (seq, right), max(self.newest, seq)

    async def look(self, client: httpx.AsyncClient) -> list[Broken]:
        """What does not hold now that every client has been answered: of the ledger, read on from where it was left, and of the weights."""
        fresh = await self._new_rows(client)
        broken = [Broken("other", f"{self.name}: the seqs have a gap")] if fresh is None else []
        self.rows += fresh or []
        await asyncio.to_thread(self.fold.learn, fresh or [])
        if not await self._weighs_the_same(client):
            broken.append(Broken("digest", f"{self.name}: the digest is not that of the fold of its ledger"))
        return broken + list(self._wrong())

    async def look_again(self, client: httpx.AsyncClient) -> list[Broken]:
        """The ledger read once more from its beginning: it is what it was seen to be, and the weights still are its fold."""
        seen, self.rows, self._cursor = self.rows, [], None
        self.rows = await self._new_rows(client) or []
        broken = [] if self.rows == seen else [Broken("lost", f"{self.name}: the ledger is not what it was seen to be")]
        if not await self._weighs_the_same(client):
            broken.append(Broken("digest", f"{self.name}: the digest has changed, and nobody has taught"))
        return broken + list(self._wrong())

    def _wrong(self) -> Iterator[Broken]:
        places = Counter(text for text, _ in self.rows)
        for text, number in places.items():
            if number > 1:
                yield Broken("duplicated", f"{self.name}: {text!r} is in the ledger {number} times")
            if text not in self.acked:
                yield Broken("other", f"{self.name}: {text!r} is in the ledger and was never acknowledged")
        for text, (seq, right) in self.acked.items():
            if self.rows[seq - 1 : seq] != [(text, right)]:
                yield Broken("lost", f"{self.name}: {text!r} was acknowledged as seq {seq} and is not there")

    async def _new_rows(self, client: httpx.AsyncClient) -> list[tuple[str, str]] | None:
        """The events since the last look, in order; None if they do not follow on one another."""
        listed: list[dict[str, Any]] = []
        while True:
            params: dict[str, str | int] = {"bank": self.name, "limit": PAGE}
            if self._cursor:
                params["cursor"] = self._cursor
            page = (await client.get("/v1/events", params=params)).json()
            listed += page["items"]
            if page["next_cursor"] is None:
                break
            self._cursor = page["next_cursor"]  # the last page is read again next time
        fresh = [row for row in listed if row["seq"] > len(self.rows)]
        if [row["seq"] for row in fresh] != list(range(len(self.rows) + 1, len(self.rows) + 1 + len(fresh))):
            return None
        return [(row["input"], row["right"]) for row in fresh]

    async def _weighs_the_same(self, client: httpx.AsyncClient) -> bool:
        """Whether the weights are the fold of the ledger, consolidated where the service has done so, asked to or by itself."""
        after, digest = await settled_digest(client, self.name)
        return digest == await asyncio.to_thread(self.fold.consolidate, after)

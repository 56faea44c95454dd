"""Looking into a bank: the part of the engine port that changes nothing and answers admins.

What takes longer than a question is computed on a frozen copy of the state, on the heavy thread, so that recalls go on beside it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from msgspec import structs

from model import State
from model.inspection import drifts
from service import wire
from service.store import history, lookup
from service.store.lineage import spread, subtract
from service.store.rows import EventRow, SnapshotRow
from service.store.status import Standing
from workers import level_view
from workers.batch import Batcher
from workers.encoding import EncodedText, Encoding
from workers.explaining import Explaining
from workers.judging import MANY, Judge
from workers.level_view import Compared
from workers.old_views import OldViews
from workers.reading import HEARD, Found, Read
from workers.replay import Lineage, Replay, lineage
from workers.threads import OwnThread
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank
from workers.whereabouts import Whereabouts


@dataclass(frozen=True, slots=True)
class Inspection:
    """Answers what `service.cluster.engine.Engine` has for those who look."""

    replay: Replay
    banks: WarmBanks
    old: OldViews
    judge: Judge
    reads: Batcher[Read, Found]
    encoding: Encoding
    heavy: OwnThread
    now: Callable[[], datetime]

    async def levels(self, tenant: str, bank: str, *, sample: int) -> wire.Levels:
        """See `Engine.levels`."""
        bank_id = await self.banks.id_of(tenant, bank)
        async with self.banks.using(tenant, bank_id, await self.banks.fence(tenant, bank_id)) as warm:
            epoch, cleared = warm.row.epoch, self.old.cleared
            before = self._newest(await lineage(self.replay.database, tenant, bank_id))
            view = await self.judge.reader.thread.run(warm.view.frozen)
            newest = None if before is None else before.id
            finding = ("levels", bank_id, epoch, view.snapshot_id, view.seq, newest, sample)
            known: wire.Levels | None = self.old.found(finding)
            if known is not None:
                return known
            snapshot = None if before is None else (await self.old.at(tenant, warm, before.id)).state
        compared = Compared(view, self.replay.recall.initial(), snapshot)  # on the memory's device, all three
        told = await self._levels(tenant, bank_id, compared, newest, sample)
        self.old.keep(finding, told, cleared)
        return told

    async def _levels(self, tenant: str, bank_id: str, compared: Compared, newest: str | None, sample: int) -> wire.Levels:
        view = compared.view
        live = subtract(view.taught, view.gone)
        asked = await self._active(tenant, bank_id, view, spread(live, sample))
        levels = await self.heavy.run(level_view.describe, self.replay.recall, compared, asked)
        return wire.Levels(
            bank=bank_id,
            state=_state(view),
            levels=levels,
            clock_tokens=view.state.clock.tokens,
            compared_with=newest,
            corrections=sum(upto - after for after, upto in live),
            sample=len(asked),
        )

    async def trace(self, tenant: str, bank: str, correction: str) -> wire.Trace:
        """See `Engine.trace`."""
        whereabouts = Whereabouts(self.replay, self.banks, self.old, self.judge, self.now)
        return await whereabouts.trace(tenant, await self.banks.id_of(tenant, bank), correction)

    async def probe(self, tenant: str, bank: str, inputs: Sequence[str], *, at: Sequence[str]) -> wire.Probed:
        """See `Engine.probe`."""
        bank_id = await self.banks.id_of(tenant, bank)
        encoded = await self.encoding.encode(inputs, tenant)
        begin = time.perf_counter()
        columns: list[list[wire.Cell]] = []
        versions: list[wire.AskedVersion] = []
        fence = await self.banks.fence(tenant, bank_id)
        async with (
            self.banks.using(tenant, bank_id, fence) as warm,
            contextlib.aclosing(self._versions(tenant, warm, at)) as asked,
        ):
            async for name, view in asked:
                state, cells = await self._column(tenant, warm, view, encoded)
                versions.append(wire.AskedVersion(at=name, state=state))
                columns.append(cells)
        rows = [list(cells) for cells in zip(*columns, strict=True)]
        return wire.Probed(versions=versions, rows=rows, usage=_usage(begin, encoded))

    async def explain(self, tenant: str, bank: str, text: str, *, at: str, sample: int) -> wire.Explained:
        """See `Engine.explain`."""
        bank_id = await self.banks.id_of(tenant, bank)
        encoded = await self.encoding.encode([text], tenant)
        begin = time.perf_counter()
        async with self.banks.using(tenant, bank_id, await self.banks.fence(tenant, bank_id)) as warm:
            view = await self.judge.reader.thread.run((await self._version(tenant, warm, at)).frozen)
            explained = await Explaining(self.judge, self.heavy).explain(tenant, warm, view, encoded[0], sample)
        return structs.replace(explained, usage=_usage(begin, encoded))

    async def note_drift(self, tenant: str, row: SnapshotRow, state: State) -> None:
        """Write down how far a snapshot's state, on the host, is from that of the one before it."""
        found = await lineage(self.replay.database, tenant, row.bank)
        before = self._newest(found, row.id)
        then = self.replay.recall.initial() if before is None else await self.replay.load(tenant, before)
        levels = await self.heavy.run(drifts, state, then.to("cpu"))
        async with self.replay.database.write(tenant) as conn:
            await lookup.add_drift(conn, tenant, row.bank, row.id, levels, row.created_at)

    # --- inside

    async def _active(self, tenant: str, bank_id: str, view: View, seqs: Sequence[int]) -> list[EventRow]:
        """Those of the events that are in the ledger with their texts and that no newer one supersedes."""
        now = Standing(view.weights, view.gone)
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, bank_id, seqs)
            later = await history.later_same_input(conn, tenant, bank_id, seqs)
        return [row for row in rows if row.embedding is not None and now.status(row.seq, row.response, later[row.seq]) == "active"]

    def _newest(self, found: Lineage, but: str = "") -> SnapshotRow | None:
        """The newest snapshot, but for one, that the wanted state grew from, with weights that this build can load."""
        ours = self.replay.recall.config.hash
        usable = (row for row in found.bases if row.levels and row.config_hash == ours and row.id != but)
        return next((row for row in usable if found.serves(row)), None)

    async def _version(self, tenant: str, warm: WarmBank, name: str) -> View:
        return warm.view if name == wire.HEAD else await self.old.at(tenant, warm, name)

    async def _versions(self, tenant: str, warm: WarmBank, names: Sequence[str]) -> AsyncGenerator[tuple[str, View], None]:
        """The versions in turn; each is loaded while the one before it is asked."""
        coming: asyncio.Task[View] | None = None
        try:
            for name, following in zip(names, [*names[1:], None], strict=True):
                view = await (coming or self._version(tenant, warm, name))
                coming = asyncio.create_task(self._version(tenant, warm, following)) if following is not None else None
                yield name, view
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _column(
        self, tenant: str, warm: WarmBank, view: View, encoded: Sequence[EncodedText]
    ) -> tuple[wire.StateRef, list[wire.Cell]]:
        """What one version says to each input."""
        reader = self.judge.reader
        if len(encoded) < MANY:
            same = await self.judge.same_inputs(tenant, warm.row.id, [text.text for text in encoded])
            (found,) = await self.reads.submit([Read(view, np.stack([text.key for text in encoded]), HEARD)], tenant)
            state, judged = found.state, await self.judge.all(tenant, warm, view, encoded, found.candidates, same)
        else:
            if view is warm.view:  # nothing is learned between its questions
                view = await reader.thread.run(view.frozen)
            state, judged = _state(view), await self.judge.ask(tenant, warm, view, encoded)
        texts = await reader.texts(tenant, warm, [each.candidates[0].index for each in judged if each.candidates])
        return state, [reader.cell(each.candidates, texts) for each in judged]


def _state(view: View) -> wire.StateRef:
    return wire.StateRef(snapshot_id=view.snapshot_id, seq=view.seq)


def _usage(begin: float, encoded: Sequence[EncodedText]) -> wire.Usage:
    return wire.Usage(cpu_ms=round(1e3 * (time.perf_counter() - begin), 3), tokens_in=sum(text.tokens for text in encoded))

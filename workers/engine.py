"""The engine: every bank's memory behind one port, for a service that runs the model in its own process.

It puts the parts together and says which of them may run at once: changes of one bank are serialised by the bank's lock and finish even
when the caller leaves; reads take no lock and see a whole state, since the model thread does one thing at a time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np
import structlog
from msgspec import structs

from model import Recall
from model.tiers import Tier
from service import wire
from service.cluster.engine import Actor
from service.errors import Conflict, StateUnavailable
from service.ids import new_id
from service.store import history, ledger, present
from service.store.appending import Appending
from service.store.blobs import Blobs
from service.store.db import Database
from service.store.fences import Fence
from service.store.lineage import restrict
from service.tracing import Stage
from workers import lifecycle, summary
from workers.batch import Batcher
from workers.comparing import Comparing
from workers.conversing import Conversing
from workers.encoding import EncodedText, Encoding, own_words
from workers.forgetting import Forgetting
from workers.governing import Governing
from workers.housing import Room
from workers.inspection import Inspection
from workers.judging import Judge
from workers.language import LanguageModel
from workers.language_fold import LanguageFold, Wanted
from workers.language_states import LanguageStates
from workers.learning import Taken, Taking, learn_together
from workers.noting import Notes
from workers.old_views import OldViews
from workers.previewing import Previewing
from workers.quarantining import Quarantining
from workers.reading import HEARD, Found, Question, Read, Reader
from workers.receipts import LookedUp, Receipts, Same
from workers.replay import Replay, lineage
from workers.rolling_back import RollBack
from workers.teaching import Teacher
from workers.threads import OwnThread
from workers.together import both
from workers.versioning import Versioning
from workers.versions import Label, Versions
from workers.warm import WarmBanks
from workers.whole import Whole

READS = 64  # requests in one batched read
LESSONS = 16  # banks that learn in one operation
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Policy:
    """The engine's own knobs; see `service.settings` for the meaning of each."""

    room: Room
    snapshot_every: int
    auto_snapshots: int
    shared: bool = False  # whether other processes may change the banks of this database


class LocalEngine:
    """`service.cluster.engine.Engine` over a database, a blob store and an encoder in this process."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        recall: Recall,
        encoding: Encoding,
        language: LanguageModel,
        *,
        policy: Policy,
        stage: Stage,
        waited: Callable[[float], None],
        refused: Callable[[], None],
        hit: Callable[[str], None],
        ring: Callable[[str, str], None],
        now: Callable[[], datetime],
        start_thread: Callable[[], None],
    ) -> None:
        self._database, self._encoding, self._policy = database, encoding, policy
        self._stage, self._now = stage, now
        self.recall_model = recall
        self._model = OwnThread("model", start_thread)
        self.heavy = OwnThread("heavy", start_thread)  # folds and checkpoints, beside the requests
        self.replay = replay = Replay(database, blobs, recall, refused, stage)
        self.banks = WarmBanks(
            database, replay, thread=self._model, heavy=self.heavy, room=policy.room, shared=policy.shared, stage=stage, hit=hit, now=now
        )
        self._reader = Reader(database, recall, self._model)
        self.versions = Versions(database, blobs, recall, self._model, self.heavy, now)
        self._lessons: Batcher[Taking, Taken | Exception] = Batcher(
            partial(learn_together, recall), self._model, size=LESSONS, waiting=1_024
        )
        self._whole, self.language = Whole(), language
        self.language_states = LanguageStates(database, LanguageFold(database, blobs, language), self._whole, self._save_soon)
        self._talk = Conversing(database, self.banks, self.language_states, thread=self._model, whole=self._whole, stage=stage, now=now)
        self.speak = self._talk.speak
        self._notes = Notes(database, self._whole.own)
        self.words, self._judge = encoding.words, Judge(database, self._reader, encoding.words)
        self._reads: Batcher[Read, Found] = Batcher(self._reader.read_together, self._model, size=READS, waiting=8_192, waited=waited)
        receipts = Receipts(self._reader, self._judge, recall, self._reads, self._lessons, stage)
        most = recall.config.max_responses
        self._teacher = Teacher(Appending(database), self.banks, receipts, most, stage, self._notes.take, now)
        self._old = OldViews(replay, self.banks)
        looking = Inspection(replay, self.banks, self._old, self._judge, self._reads, encoding, self.heavy, now)
        self.levels, self.trace, self.probe, self.explain = looking.levels, looking.trace, looking.probe, looking.explain
        self._note_drift = looking.note_drift
        comparing = Comparing(self._judge)
        rolling = RollBack(replay, self.banks, comparing, self.versions, self._old, self.language_states.part)
        going = Versioning(self.banks, replay, self.versions, comparing, rolling, self._old, encoding, self._whole, ring, now)
        self.roll_back, self.rolled_back, self.delete_snapshot = going.roll_back, going.rolled_back, going.delete_snapshot
        self.diff, self.verify, self.bisect, self.import_bundle = going.diff, going.verify, going.bisect, going.import_bundle
        self.create_branch, self.diff_branch, self.promote_branch = going.create_branch, going.diff_branch, going.promote_branch
        governing = self._governing(comparing, ring)
        self.forget, self.preview_forget, self.membership = governing.forget, governing.preview_forget, governing.membership
        self.quarantine, self.lift = governing.quarantine, governing.lift

    # --- the port

    async def teach(
        self,
        tenant: str,
        bank: str,
        items: Sequence[wire.NewCorrection],
        *,
        actor: Actor,
        idempotency_key: str | None,
        ids: Sequence[str] | None = None,
    ) -> list[wire.Taught]:
        """See `Engine.teach`."""
        bank_id = await self.banks.id_of(tenant, bank)
        new = self._new_responses(bank_id, items)
        # The request is there: the ledger may be asked now, beside the encoder, which takes longer.
        encoding = self._encoding.encode([*(item.input for item in items), *new.values()], tenant)
        encoded, looked_up = await both(encoding, self._teacher.look_up(tenant, bank_id, items[0]))
        words = dict(zip(new, encoded[len(items) :], strict=True))
        asked = await self._paraphrases(tenant, items)
        named = [new_id("cor") for _ in items] if ids is None else ids
        try:
            work = self._teach(tenant, bank_id, items, named, encoded[: len(items)], words, asked, idempotency_key, actor.key_id, looked_up)
            return await self._whole(work)
        except ledger.AlreadyTaught:
            async with self._database.read(tenant) as conn:
                rows = await history.by_ids(conn, tenant, bank_id, named)
            return await self.taught(tenant, bank_id, rows[0].seq, items)

    async def taught(self, tenant: str, bank: str, first_seq: int, items: Sequence[wire.NewCorrection]) -> list[wire.Taught]:
        """See `Engine.taught`."""
        last_seq = first_seq + len(items) - 1
        bank_id = await self.banks.id_of(tenant, bank)
        found = await lineage(self._database, tenant, bank_id)
        bank_then = structs.replace(found.bank, seq=first_seq - 1)
        before = replace(found, bank=bank_then, wanted=restrict(found.wanted, first_seq - 1))
        view, _ = await self.replay.current(tenant, before, thread=self.heavy)
        async with self._database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, bank_id, list(range(first_seq, last_seq + 1)))
        gone = {row.seq for row in (*found.tombstones, *found.quarantined)}
        if len(rows) < len(items) or any(row.redacted_at is not None or row.seq in gone for row in rows):
            raise Conflict("this request was done; its reply is not given again because what it quotes was forgotten or erased")
        asked = await self._paraphrases(tenant, items)
        async with self.banks.using(tenant, bank_id, await self.banks.fence(tenant, bank_id)) as warm:
            return await self._teacher.apply(tenant, warm, view, rows, asked)

    async def recall(
        self,
        tenant: str,
        bank: str,
        inputs: Sequence[str],
        *,
        top_k: int,
        min_confidence: float | None,
        at: str | None,
        explain: bool,
        min_seq: int | None,
    ) -> tuple[list[wire.RecalledItem], wire.StateRef, wire.Usage]:
        """See `Engine.recall`."""
        bank_id = await self.banks.id_of(tenant, bank)
        # The request is there: fence and ledger may be asked now, beside the encoder, which takes longer and is first told.
        encoded, (same, fence) = await both(self._encoding.encode(inputs, tenant), self._looked_up(tenant, bank_id, inputs))
        begin = time.perf_counter()
        with self._stage("read"):
            async with self.banks.using(tenant, bank_id, fence) as warm:
                view = warm.view if at is None else await self._old.at(tenant, warm, at)
                if at is None and min_seq is not None and min_seq > view.seq:
                    raise StateUnavailable(f"the bank is at {view.seq}, you have seen {min_seq}", retry_after_s=1)
                question, heard = Question(top_k, min_confidence, explain), max(top_k, HEARD)
                with self._stage("answer"):
                    (found,) = await self._reads.submit([Read(view, np.stack([text.key for text in encoded]), heard)], tenant)
                judged = await self._judge.all(tenant, warm, view, encoded, found.candidates, same, heard)
                items = [
                    await self._reader.answers(tenant, warm, view, text.key, each, question)
                    for text, each in zip(encoded, judged, strict=True)
                ]
        seconds = time.perf_counter() - begin
        return items, found.state, wire.Usage(cpu_ms=round(1e3 * seconds, 3), tokens_in=sum(text.tokens for text in encoded))

    async def memory(self, tenant: str, bank: str) -> wire.Memory:
        """See `Engine.memory`."""
        bank_id = await self.banks.id_of(tenant, bank)
        async with self.banks.lock(bank_id):
            warm = await self.banks.current(tenant, bank_id)
            taken = await self.versions.take(warm, warm.view)
            found = await lineage(self._database, tenant, bank_id)
        told = await summary.describe(self._database, tenant, found, taken, self.heavy, self.recall_model.config)
        return structs.replace(told, language=await self.language_states.describe(tenant, found))

    async def observe(self, tenant: str, bank: str, turn: wire.NewTurn, *, actor: Actor, ids: Sequence[str]) -> wire.TurnTaken:
        """See `Engine.observe`."""
        bank_id = await self.banks.id_of(tenant, bank)
        taken = await self._talk.observe(tenant, bank_id, turn, actor=actor, ids=ids)
        self._save_when_due(tenant, bank_id)
        return taken

    async def snapshot(self, tenant: str, bank: str, *, label: str | None, note: str | None, pin: bool, actor: Actor) -> wire.Snapshot:
        """See `Engine.snapshot`."""
        bank_id = await self.banks.id_of(tenant, bank)
        return await self._whole(self._snapshot(tenant, bank_id, "manual", Label(actor.key_id, label, note, pin), actor))

    async def create_bank(self, tenant: str, name: str, *, actor: Actor) -> wire.Bank:
        """See `Engine.create_bank`."""
        return await self._whole(lifecycle.create(self.versions, tenant, name, self._encoding.digest, actor))

    async def delete_bank(self, tenant: str, bank: str, *, actor: Actor) -> None:
        """See `Engine.delete_bank`."""
        bank_id = await self.banks.id_of(tenant, bank)
        await self._whole(self._delete(tenant, bank_id, actor))

    async def warm(self, tenant: str, bank: str) -> wire.Warmth:
        """See `Engine.warm`."""
        begin = time.perf_counter()
        bank_id = await self.banks.id_of(tenant, bank)
        was_warm = self.banks.peek(bank_id) is not None
        async with self.banks.using(tenant, bank_id, await self.banks.fence(tenant, bank_id)):
            pass  # it is on the device now
        return wire.Warmth(warm=was_warm, eta_ms=round(1e3 * (time.perf_counter() - begin), 3))

    async def health(self) -> list[wire.Component]:
        """See `Engine.health`."""
        tiers = [f"{self.banks.housing.bytes(tier) / 2**20:.1f} MiB on the {tier}" for tier in Tier]
        return [
            wire.Component(name="encoder", ok=True, detail=self._encoding.digest[:12]),
            wire.Component(name="model", ok=True, detail=f"{len(self.banks)} warm banks, {', '.join(tiers)}"),
        ]

    # --- for jobs

    async def changed(self, tenant: str, bank_id: str) -> None:
        """A job, here or elsewhere, has moved the bank's head or erased from it: the warm copy follows."""
        self._old.clear()  # old views learn of it when they are loaded again
        await self._whole(self.banks.refresh(tenant, bank_id))
        await self.language_states.settle(tenant, bank_id)

    def forget_bank(self, bank_id: str) -> None:
        """The bank was deleted elsewhere: nothing of it stays in memory."""
        self.banks.drop(bank_id)
        self.language_states.drop(bank_id)

    def forget_tenant(self, tenant: str) -> None:
        """The tenant was erased: nothing of it stays in memory."""
        self._old.clear()
        self.language_states.drop()
        for warm in self.banks.all():
            if warm.row.tenant == tenant:
                self.banks.drop(warm.row.id)
                self.banks.forget_names(warm.row.id)

    async def settle(self, debt: int) -> int:
        """Save every warm bank that learned more than `debt` events since its last snapshot, so that its next owner loads it at once."""
        owing = [warm for warm in self.banks.all() if warm.view.seq - warm.saved_seq > debt]
        for warm in owing:
            await self._auto_snapshot(warm.row.tenant, warm.row.id)
        return len(owing)

    async def close(self, within_s: float = 2.0) -> None:
        """Let what has begun come to its end, then stop the threads. A fold that takes longer is given up, as by a crash."""
        await self._whole.end(within_s)
        self._encoding.close()
        self.language.close()
        self._model.close()
        self.heavy.close()

    # --- inside

    def _governing(self, comparing: Comparing, ring: Callable[[str, str], None]) -> Governing:
        return Governing(
            self.banks,
            self._judge,
            Forgetting(self.replay, self.banks, self._now),
            Quarantining(self.replay, self.banks, self._now),
            Previewing(self.replay, self.banks, comparing, self._model),
            self._whole,
            self._old.clear,
            self.language_states.follow,
            ring,
        )

    def _new_responses(self, bank_id: str, items: Sequence[wire.NewCorrection]) -> dict[str, str]:
        """The responses that the bank may not know yet, with their own words: of a bank that is not warm nothing is known."""
        warm = self.banks.peek(bank_id)
        rights = dict.fromkeys(item.right for item in items)
        new = [right for right in rights if warm is None or warm.view.book.place(right) is None]
        return {right: words for right in new if (words := own_words(right)) is not None}

    async def _paraphrases(self, tenant: str, items: Sequence[wire.NewCorrection]) -> list[list[EncodedText]]:
        """Those of each item, encoded."""
        encoded = iter(await self._encoding.encode([text for item in items for text in item.paraphrases], tenant))
        return [[next(encoded) for _ in item.paraphrases] for item in items]

    async def _looked_up(self, tenant: str, bank_id: str, inputs: Sequence[str]) -> tuple[Same, Fence | None]:
        """What the database has to say before a recall. Both questions are made here: a request that is cancelled leaves none unasked."""
        return await both(self._judge.same_inputs(tenant, bank_id, inputs), self.banks.fence(tenant, bank_id))

    async def _teach(
        self,
        tenant: str,
        bank_id: str,
        items: Sequence[wire.NewCorrection],
        ids: Sequence[str],
        encoded: Sequence[EncodedText],
        words: Mapping[str, EncodedText],
        asked: Sequence[Sequence[EncodedText]],
        idempotency_key: str | None,
        key_id: str,
        looked_up: LookedUp | None,
    ) -> list[wire.Taught]:
        async with self.banks.lock(bank_id):
            taught = await self._teacher.teach(tenant, bank_id, items, ids, encoded, words, asked, idempotency_key, key_id, looked_up)
        self._save_when_due(tenant, bank_id)
        return taught

    def _save_when_due(self, tenant: str, bank_id: str) -> None:
        warm = self.banks.peek(bank_id)
        if warm is not None and warm.view.seq - warm.saved_seq >= self._policy.snapshot_every:
            warm.saved_seq = warm.view.seq  # one at a time; a failed one is tried again after as many events
            self._save_soon(tenant, bank_id)

    def _save_soon(self, tenant: str, bank_id: str) -> None:
        self._whole.own(self._auto_snapshot(tenant, bank_id))

    async def _auto_snapshot(self, tenant: str, bank_id: str) -> None:
        try:
            await self._snapshot(tenant, bank_id, "auto", Label("engine"), None)
            async with self.banks.lock(bank_id):  # not while a rollback goes to one of them
                await self.versions.thin(tenant, bank_id, self._policy.auto_snapshots)
        except Exception as error:  # a cold start takes longer, nothing else
            log.warning("automatic snapshot failed", action="auto_snapshot", bank=bank_id, error=type(error).__qualname__)

    async def _snapshot(self, tenant: str, bank_id: str, kind: str, label: Label, actor: Actor | None) -> wire.Snapshot:
        async with self.banks.lock(bank_id):
            warm = await self.banks.current(tenant, bank_id)
            taken = await self.versions.take(warm, warm.view)
            talks = self.language_states.talks(bank_id)
            wanted = Wanted.now(await lineage(self._database, tenant, bank_id)) if talks else None
        if wanted is not None and (part := await self.language_states.part(tenant, bank_id, wanted)) is not None:
            taken = replace(taken, language=part)
        with self._stage("snapshot"):
            row = await self.versions.save(tenant, taken, kind, label)
        if kind == "auto":
            await self._note_drift(tenant, row, taken.state)
        if actor is not None:
            await lifecycle.audit_snapshot(self.versions, tenant, bank_id, row, actor)
        return present.snapshot(row, warm.view.snapshot_id, [])

    async def _delete(self, tenant: str, bank_id: str, actor: Actor) -> None:
        async with self.banks.lock(bank_id):
            self.banks.drop(bank_id)
            self._old.clear()
            self.language_states.drop(bank_id)
            try:
                await lifecycle.delete(self.versions, tenant, bank_id, actor)
            finally:
                self.banks.forget_names(bank_id)  # also when only its blobs could not be deleted

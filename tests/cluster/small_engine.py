"""A small engine over a shared ledger in memory, for tests of the transport: it keeps what it is taught and counts what it does."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service import wire
from service.cluster.coord import Coord, Notice, WorkerInfo
from service.cluster.frames import FrameServer
from service.cluster.remote import RemoteEngine
from service.cluster.rpc import serve_engine
from service.errors import NotFound

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STATE = wire.StateRef(snapshot_id="snp_1", seq=1)
LONG = 600.0


def said(value: str | None) -> wire.Said:
    return wire.Said(value=value, confidence=0.5)


def taught(item: wire.NewCorrection, seq: int) -> wire.Taught:
    receipt = wire.Receipt(
        item=wire.BeforeAfter(before=said(None), after=said(item.right)), paraphrase=wire.ParaphraseCheck(n=len(item.paraphrases), fixed=0)
    )
    return wire.Taught(id=f"cor_{seq}", seq=seq, status="active", receipt=receipt, state=STATE, usage=wire.Usage(updates=1))


@dataclass
class Ledger:
    """What all workers share: each bank's lessons, in order."""

    banks: dict[str, list[wire.NewCorrection]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)  # of lessons by id

    async def bank_of(self, tenant: str, bank: str) -> str:
        if bank not in self.banks:
            raise NotFound()
        return bank


class SmallEngine:
    """`Engine` of one worker. What is asked about a bank called slow waits for `go`."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.ledger, self.name, self.calls, self.go = ledger, name, [], asyncio.Event()
        self.cancelled: Counter[str] = Counter()

    async def _begin(self, method: str, bank: str) -> list[wire.NewCorrection]:
        self.calls.append((method, bank))
        try:
            if bank.startswith("slow"):
                await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled[method] += 1
            raise
        if bank not in self.ledger.banks:
            raise NotFound(f"no bank {bank}")
        return self.ledger.banks[bank]

    async def teach(self, tenant, bank, items, *, actor, idempotency_key, ids=None):
        lessons = await self._begin("teach", bank)
        for item, id in zip(items, ids or [None] * len(items), strict=True):
            if id not in self.ledger.places:
                lessons.append(item)
                if id is not None:
                    self.ledger.places[id] = len(lessons)
        return [taught(item, self.ledger.places.get(id, len(lessons))) for item, id in zip(items, ids or [None] * len(items), strict=True)]

    async def taught(self, tenant, bank, first_seq, items):
        await self._begin("taught", bank)
        return [taught(item, first_seq + place) for place, item in enumerate(items)]

    async def recall(self, tenant, bank, inputs, *, top_k, min_confidence, at, explain, min_seq):
        known = {lesson.input: lesson.right for lesson in await self._begin("recall", bank)}
        answers = [[wire.Answer(value=known[text], confidence=1.0, support=[], level="fast")] if text in known else [] for text in inputs]
        return [wire.RecalledItem(answers=found, abstained=not found) for found in answers], STATE, wire.Usage(tokens_in=len(inputs))

    async def memory(self, tenant, bank):
        lessons = await self._begin("memory", bank)
        level = wire.Level(name="fast", period_tokens=None, bytes=1, norm=0.5, digest="d")
        return wire.Memory(
            bank=bank,
            digest="d",
            state=STATE,
            levels=[level],
            clock_tokens=0,
            events=len(lessons),
            corrections=len(lessons),
            responses=0,
            forgotten=0,
            rebuild_pending=False,
            bytes=1,
            config_hash="c",
            encoder_digest="e",
        )

    async def snapshot(self, tenant, bank, *, label, note, pin, actor):
        lessons = await self._begin("snapshot", bank)
        return wire.Snapshot(
            id="snp_2",
            parent="snp_1",
            kind="manual",
            seq=len(lessons),
            corrections=len(lessons),
            digest="d",
            levels=[wire.LevelBlob(name="fast", sha256="0", bytes=1)],
            label=label,
            note=note,
            pinned=pin,
            tainted_by=[],
            config_hash="c",
            is_head=False,
            created_by=actor.key_id,
            created_at=NOW,
        )

    async def roll_back(
        self, tenant, bank, to, *, dry_run, if_match, reason, actor, idempotency_key, to_time=None, source=None, keep="none", probes=64
    ):
        await self._begin("roll_back", bank)
        flip = wire.Flip(correction="cor_1", input="q", before=said("a"), after=said(None))
        counts = {"probes": 1, "probes_of": probes, "removed": 2, "restored": 0}
        return wire.RolledBack(head=to, pre_rollback=if_match, flips=[flip], **counts, dry_run=dry_run, state=STATE)

    async def rolled_back(self, tenant, bank, version, *, probes=64):
        await self._begin("rolled_back", bank)
        return wire.RolledBack(
            head=f"snp_{version}", pre_rollback=None, flips=[], probes=0, removed=0, restored=0, dry_run=False, state=STATE
        )

    async def delete_snapshot(self, tenant, bank, snapshot, *, actor):
        await self._begin("delete_snapshot", bank)

    async def diff(self, tenant, bank, before, after, *, probes=64):
        await self._begin("diff", bank)
        moved = wire.Moved(id="cor_1", seq=1, input="q", right=None)
        level = wire.LevelDrift(name="fast", before_norm=0.0, after_norm=1.0, drift=1.0)
        ends = {
            "before": STATE,
            "after": wire.StateRef(snapshot_id=after, seq=2),
            "flips": [],
            "probes": 0,
            "levels": [level],
            "probes_of": probes,
        }
        return wire.SnapshotDiff(gained=[moved], gained_total=1, lost=[], lost_total=0, **ends)

    async def verify(self, tenant, bank, snapshot):
        await self._begin("verify", bank)
        return wire.Verified(snapshot=snapshot, ok=True, checks=[wire.Check(name="load", ok=True, detail="d")])

    async def bisect(self, tenant, bank, input, *, since, actor, until=None):
        await self._begin("bisect", bank)
        return wire.JobStarted(job_id="job_1")

    async def observe(self, tenant, bank, turn, *, actor, ids):
        await self._begin("observe", bank)
        return wire.TurnTaken(id=ids[0], seq=1, tokens=len(turn.input), surprise=1.5, state=STATE)

    async def speak(self, tenant, bank, lines, *, talk, at, said, most, last, how):
        await self._begin("speak", bank)
        return wire.Spoken(tokens=[*said, 1], text=lines[-1].text, ended=last, read=len(lines), state=STATE)

    async def import_bundle(self, tenant, bank, bundle, *, actor):
        row = await SmallEngine.snapshot(self, tenant, bank, label=None, note=None, pin=False, actor=actor)
        return wire.Imported(snapshot=row, probes=2, agreeing=1)

    async def create_branch(self, tenant, bank, name, *, at, actor):
        lessons = await self._begin("create_branch", bank)
        return wire.Branch(id=name, name=name, bank=bank, corrections=len(lessons), created_by=actor.key_id, created_at=NOW)

    async def diff_branch(self, tenant, bank, branch, *, probes=64):
        return await SmallEngine.diff(self, tenant, bank, "head", branch, probes=probes)

    async def promote_branch(self, tenant, bank, branch, *, refold, actor):
        await self._begin("promote_branch", bank)
        return wire.Promoted(bank=bank, corrections=["cor_1"], before="snp_1", state=STATE)

    async def forget(self, tenant, bank, corrections, *, mode, reason, actor):
        await self._begin("forget", bank)
        return wire.Forgotten(id="fgt_1", effective_now=True, mode=mode, corrections=list(corrections), job_id=None)

    async def preview_forget(self, tenant, bank, corrections):
        await self._begin("preview_forget", bank)
        return wire.ForgetPreview(flips=[], probes=len(corrections), state=wire.StateRef(snapshot_id="snap_1", seq=1))

    async def membership(self, tenant, bank, corrections):
        await self._begin("membership", bank)
        return [wire.Membership(correction=each, in_weights=False, answered=False, support=[], passed=True) for each in corrections]

    async def quarantine(self, tenant, bank, corrections, *, session, key, reason, actor):
        await self._begin("quarantine", bank)
        return quarantine({"session_id": session, "key_id": key}, len(corrections), actor.key_id)

    async def lift(self, tenant, bank, quarantine_id, *, actor):
        await self._begin("lift", bank)
        return quarantine({"corrections": [quarantine_id]}, 1, actor.key_id)

    async def create_bank(self, tenant, name, *, actor):
        self.calls.append(("create_bank", name))
        self.ledger.banks[name] = []
        return wire.Bank(id=name, name=name, seq=0, head="snp_1", etag="e", encoder_digest="e", config_hash="c", created_at=NOW)

    async def delete_bank(self, tenant, bank, *, actor):
        await self._begin("delete_bank", bank)
        del self.ledger.banks[bank]

    async def warm(self, tenant, bank):
        await self._begin("warm", bank)
        return wire.Warmth(warm=True, eta_ms=0.5)

    async def levels(self, tenant, bank, *, sample):
        lessons = await self._begin("levels", bank)
        return wire.Levels(
            bank=bank,
            state=STATE,
            levels=[],
            clock_tokens=0,
            compared_with=None,
            corrections=len(lessons),
            sample=min(sample, len(lessons)),
        )

    async def trace(self, tenant, bank, correction):
        await self._begin("trace", bank)
        return wire.Trace(
            id=correction,
            seq=1,
            status="active",
            superseded_by=None,
            removed=None,
            right_now=True,
            confidence=0.5,
            rank=1,
            levels=[wire.LevelStrength(name="fast", score=0.5, confidence=0.5, rank=1)],
            snapshots=[],
            holding=0,
            verified_at=NOW,
            state=STATE,
        )

    async def probe(self, tenant, bank, inputs, *, at):
        known = {lesson.input: lesson.right for lesson in await self._begin("probe", bank)}
        rows = [[wire.Cell(value=known.get(text), confidence=0.5, abstained=text not in known) for _ in at] for text in inputs]
        return wire.Probed(versions=[wire.AskedVersion(at=name, state=STATE) for name in at], rows=rows, usage=wire.Usage())

    async def explain(self, tenant, bank, text, *, at, sample):
        await self._begin("explain", bank)
        return wire.Explained(
            value=None,
            score=0.0,
            confidence=0.0,
            abstained=True,
            level=None,
            levels=[wire.LevelShare(name="fast", score=0.25)],
            carriers=[],
            sample=0,
            method="fold",
            counter=None,
            state=STATE,
            usage=wire.Usage(),
        )

    async def health(self):
        self.calls.append(("health", ""))
        return [wire.Component(name="model", ok=True, detail=self.name)]


def quarantine(source: dict, corrections: int, by: str) -> wire.Quarantine:
    return wire.Quarantine(
        id="qua_1",
        bank="bnk_1",
        source=source,
        corrections=corrections,
        reason=None,
        job_id="job_1",
        created_by=by,
        created_at=NOW,
        lifted_by=None,
        lifted_at=None,
    )


@dataclass
class Worker:
    """A worker as its process would run it, in this one."""

    engine: SmallEngine
    server: FrameServer
    coord: Coord

    @property
    def info(self) -> WorkerInfo:
        return WorkerInfo(id=self.engine.name, address=self.server.address, in_flight=self.server.in_flight)

    async def beat(self) -> None:
        await self.coord.beat(self.info, LONG)
        await self.coord.tell(Notice("workers-changed"))

    async def leave(self, within_s: float = LONG) -> None:
        """As on SIGTERM."""
        await self.coord.leave(self.engine.name)
        await self.coord.tell(Notice("workers-changed"))
        await self.server.drain(within_s)

    async def die(self) -> None:
        """As by `kill -9`: connections break, nobody says goodbye, the heartbeat goes on until its end."""
        self.server._closed = True
        self.server._listener.close()
        for caller in self.server._callers:
            caller.link.abort()
            caller.cancel()
        await asyncio.sleep(0)


class Fleet:
    """Workers over one ledger, and engines that reach them."""

    def __init__(self, coord: Coord, folder) -> None:
        self.coord, self.folder, self.ledger = coord, folder, Ledger({"bnk_1": [], "bnk_2": [], "slow_1": []})
        self.workers: dict[str, Worker] = {}
        self.engines: list[RemoteEngine] = []

    async def add(self, name: str, **limits) -> Worker:
        engine = SmallEngine(self.ledger, name)
        server = FrameServer(serve_engine(engine), worker=name, **{"max_in_flight": 2_000, **limits})
        await server.start(f"unix://{self.folder}/{name}.sock")
        self.workers[name] = Worker(engine, server, self.coord)
        await self.workers[name].beat()
        return self.workers[name]

    def engine(self, coord: Coord | None = None, **more) -> RemoteEngine:
        """The engine of one more api."""
        self.engines.append(RemoteEngine(coord or self.coord, **{"bank_of": self.ledger.bank_of, **more}))
        return self.engines[-1]

    def done(self, method: str | None = None) -> Counter[str]:
        """How many calls each worker began."""
        return Counter(
            {name: len([call for call in worker.engine.calls if method in (None, call[0])]) for name, worker in self.workers.items()}
        )

    async def close(self) -> None:
        for engine in self.engines:
            await engine.close()
        for worker in self.workers.values():
            await worker.server.close()


@asynccontextmanager
async def fleet_of(coord: Coord, folder, *names: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(coord, folder)
    try:
        for name in names:
            await fleet.add(name)
        yield fleet
    finally:
        await fleet.close()

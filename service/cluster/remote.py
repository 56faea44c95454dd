"""The engine port of an api in a cluster: a call goes to the worker that has the bank warm, and to another one when that cannot take it.

- R1: a call that was refused was not begun, so it is made elsewhere, until its deadline.
- R2: a call that was lost is made again by itself only if it has the effect of once: it reads (`READS`), or what it writes carries its ids.
  Otherwise `OutcomeUnknown` is raised; so it is for whatever ends a write after that, since another try cannot speak for the lost one.
- R3: the coordinator may be emptied or down: calls go on with what is known.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from service import telemetry, tracing, wire
from service.cluster import ring
from service.cluster.client import FrameClient, Refused, Unknown
from service.cluster.coord import Coord, Notice, WorkerInfo
from service.cluster.engine import Engine
from service.cluster.live import LiveWorkers
from service.cluster.routes import Routes
from service.cluster.rpc import METHODS, Method
from service.errors import Capacity, NotFound, OutcomeUnknown, PalimpsestError

P = ParamSpec("P")
R = TypeVar("R")

BankOf = Callable[[str, str], Awaitable[str]]

READS = frozenset(  # they change nothing
    {"recall", "memory", "health", "warm", "taught", "rolled_back", "preview_forget", "membership", "levels", "trace", "probe", "explain"}
    | {"diff", "diff_branch", "verify", "speak"}
)
DEADLINES_S = {"recall": 10.0, "health": 2.0, "warm": 10.0}  # of the others: the next line
DEADLINE_S = 60.0
QUESTION_S = 0.05  # more for each further question of a recall
BLIND_S = 5.0  # a coordinator that has never answered is waited for, as after a start into a storm
ROUND_S = (0.05, 1.0)  # after all workers have refused, before they are asked again: at first, at most
NAMES, NAMES_S = 16_384, 60.0  # banks whose ids are remembered, and for how long: one may be deleted and its name given again


@dataclass(frozen=True, slots=True)
class Ask:
    """One call on its way."""

    method: Method
    tenant: str
    body: bytes
    until: float  # in the event loop's seconds
    bank_id: str | None  # what is routed by; None: any worker
    once: bool  # however often it is made, it has the effect of once


def _remote(function: Callable[P, R]) -> Callable[P, R]:
    """The port's method, asked of a worker."""
    method = METHODS[function.__name__]

    @wraps(function)
    async def call(self: "RemoteEngine", *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (the port's method says which)
        return await self._call(method, *method.bind(args, kwargs))

    return cast(Callable[P, R], call)


class RemoteEngine:
    """`service.cluster.engine.Engine` over the workers that `coord` knows, one connection to each.

    `bank_of` gives a tenant's bank's id by its id or name, or raises `NotFound`. `deadlines_s` are those of single methods, where they
    should differ from `DEADLINES_S`. It looks for workers from its first call on, until it is closed.
    """

    def __init__(
        self,
        coord: Coord,
        *,
        bank_of: BankOf,
        tls: ssl.SSLContext | None = None,
        deadlines_s: Mapping[str, float] | None = None,
        told: Callable[[str, str, float], None] = lambda method, outcome, seconds: None,
    ) -> None:
        self._bank_of, self._tls, self._told = bank_of, tls, told
        self._deadlines_s = {**dict.fromkeys(METHODS, DEADLINE_S), **DEADLINES_S, **(deadlines_s or {})}
        self._live = LiveWorkers(coord, heard=self._heard)
        self._routes = Routes(coord, self._live)
        self._clients: dict[str, FrameClient] = {}
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()
        self._names: dict[tuple[str, str], tuple[str, float]] = {}

    teach = _remote(Engine.teach)
    taught = _remote(Engine.taught)
    recall = _remote(Engine.recall)
    memory = _remote(Engine.memory)
    snapshot = _remote(Engine.snapshot)
    roll_back = _remote(Engine.roll_back)
    rolled_back = _remote(Engine.rolled_back)
    delete_snapshot = _remote(Engine.delete_snapshot)
    diff = _remote(Engine.diff)
    verify = _remote(Engine.verify)
    bisect = _remote(Engine.bisect)
    import_bundle = _remote(Engine.import_bundle)
    create_branch = _remote(Engine.create_branch)
    diff_branch = _remote(Engine.diff_branch)
    promote_branch = _remote(Engine.promote_branch)
    forget = _remote(Engine.forget)
    preview_forget = _remote(Engine.preview_forget)
    membership = _remote(Engine.membership)
    quarantine = _remote(Engine.quarantine)
    lift = _remote(Engine.lift)
    create_bank = _remote(Engine.create_bank)
    delete_bank = _remote(Engine.delete_bank)
    warm = _remote(Engine.warm)
    levels = _remote(Engine.levels)
    trace = _remote(Engine.trace)
    probe = _remote(Engine.probe)
    explain = _remote(Engine.explain)
    observe = _remote(Engine.observe)
    speak = _remote(Engine.speak)

    async def health(self) -> list[wire.Component]:
        """How many workers are alive, and what one of them says of its parts. See `Engine.health`."""
        await self._live.start()
        number = len(self._live.all())
        found = [wire.Component(name="workers", ok=number > 0, detail=f"{number} alive")]
        if number:
            try:
                found += await self._call(METHODS["health"], "", {})
            except Capacity as error:
                found.append(wire.Component(name="worker", ok=False, detail=error.detail))
        return found

    @property
    def workers_alive(self) -> int:
        """How many workers are alive as far as one can tell."""
        return len(self._live.all())

    async def close(self) -> None:
        """Close all connections; calls in progress end as if they were broken."""
        self._closed = True
        await self._live.close()
        await asyncio.gather(*(client.close() for client in self._clients.values()), *self._closing)

    async def _call(self, method: Method, tenant: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 (what the method returns)
        further = len(arguments.get("inputs", ())) - 1
        until = asyncio.get_running_loop().time() + self._deadlines_s[method.name] + max(0, further) * QUESTION_S
        await self._live.start()
        bank_id = await self._id_of(tenant, arguments["bank"]) if method.has_bank else None
        try:
            once = method.name in READS or arguments.get("ids") is not None
            answer = await self._ask(Ask(method, tenant, method.encode(arguments), until, bank_id, once))
        except NotFound:
            self._names.pop((tenant, arguments.get("bank", "")), None)  # perhaps it was the bank
            raise
        if method.name == "delete_bank":
            self._forget(bank_id)
        return method.decode_result(answer)

    async def _ask(self, ask: Ask) -> bytes:
        """The answer of one worker."""
        lost: list[Exception] = []
        try:
            return await self._ask_in_turn(ask, lost)
        except PalimpsestError as error:
            if lost and ask.method.name not in READS:
                raise next((each for each in lost if isinstance(each, OutcomeUnknown)), OutcomeUnknown()) from error
            raise

    async def _ask_in_turn(self, ask: Ask, lost: list[Exception]) -> bytes:
        """Asked in turn, and again from the first when all have refused, until the deadline; `lost` gets the tries of unknown outcome."""
        loop = asyncio.get_running_loop()
        (wait, longest), refused, patient_until = ROUND_S, set[str](), loop.time() + BLIND_S
        while loop.time() < ask.until and not self._closed:
            worker = await self._worker_for(ask, refused)
            if worker is None and not refused and not (self._live.is_blind and loop.time() < patient_until):
                raise Capacity("no worker is alive; see that one runs and reaches the coordinator", retry_after_s=1)
            if worker is None:
                await asyncio.sleep(min(wait, ask.until - loop.time()))
                wait, refused = min(2 * wait, longest), set()
                continue
            try:
                return await self._ask_worker(worker, ask)
            except Refused:
                refused.add(worker.id)
            except (Unknown, OutcomeUnknown) as error:
                lost.append(error)
                if not ask.once:
                    raise OutcomeUnknown() from error
                refused.add(worker.id)
        raise Capacity("no worker answered in time", retry_after_s=1)

    async def _ask_worker(self, worker: WorkerInfo, ask: Ask) -> bytes:
        """Ask one, and tell how it went."""
        begin, outcome = time.perf_counter(), "failed"
        try:
            with tracing.span(f"{tracing.ENGINE}/{ask.method.name}", "client", tracing.rpc(ask.method.name)):
                answer = await self._ask_patiently(worker, ask)
            outcome = "done"
            return answer
        except Refused:
            outcome = "refused"
            raise
        except Unknown:
            outcome = "unknown"
            raise
        finally:
            self._told(ask.method.name, outcome, time.perf_counter() - begin)

    async def _ask_patiently(self, worker: WorkerInfo, ask: Ask) -> bytes:
        """Ask one; one that is only busy a second time, since to go elsewhere means that the bank is folded anew there."""
        loop, client, request = asyncio.get_running_loop(), self._client(worker), telemetry.working_on().get("request", "")
        for last in (False, True):
            try:
                left = ask.until - loop.time()
                whose = {"traceparent": tracing.traceparent(), "request": request}
                return await client.call(ask.method.name, ask.tenant, ask.body, left, **whose)
            except Refused as error:
                if last or error.again_s is None or loop.time() + error.again_s >= ask.until:
                    raise
                await asyncio.sleep(error.again_s)
        raise AssertionError("the last attempt returns or raises")

    async def _worker_for(self, ask: Ask, refused: set[str]) -> WorkerInfo | None:
        if not self._live.all():
            await self._live.refresh()  # one may have come this moment
        if ask.bank_id is not None:
            return await self._routes.worker_for(ask.bank_id, refused)
        left = [worker for name, worker in self._live.all().items() if name not in refused]
        return min(left, key=ring.load, default=None)

    def _client(self, worker: WorkerInfo) -> FrameClient:
        client = self._clients.get(worker.id)
        if client is None:
            gone = self._clients.keys() - self._live.all().keys()
            for name in [name for name in gone if not self._clients[name].in_flight]:
                self._close_soon(self._clients.pop(name))
            client = self._clients[worker.id] = FrameClient(worker.address, self._tls, worker=worker.id)
        return client

    def _close_soon(self, client: FrameClient) -> None:
        task = asyncio.get_running_loop().create_task(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _id_of(self, tenant: str, bank: str) -> str:
        found, until = self._names.get((tenant, bank), ("", 0.0))
        now = time.monotonic()
        if now < until:
            telemetry.bind(bank=found)
            return found
        bank_id = await self._bank_of(tenant, bank)
        telemetry.bind(bank=bank_id)
        if len(self._names) >= NAMES:
            self._names.clear()
        self._names[tenant, bank] = (bank_id, now + NAMES_S)
        return bank_id

    def _forget(self, bank_id: str | None) -> None:
        if bank_id is not None:
            self._names = {name: kept for name, kept in self._names.items() if kept[0] != bank_id}
            self._routes.forget(bank_id)

    def _heard(self, notice: Notice) -> None:
        match notice.kind:
            case "bank-gone":
                self._forget(notice.bank)
            case "tenant-erased":
                self._names = {name: kept for name, kept in self._names.items() if name[0] != notice.tenant}
            case "missed":
                self._names.clear()

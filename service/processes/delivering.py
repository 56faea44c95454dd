"""Deliveries: changes get their places, and webhooks are told of them, at least once, by whichever process works off jobs.

Any number of processes may do it at once: what one has taken up, no other does until that time is over.
"""

import asyncio
import contextlib
from datetime import timedelta

import msgspec
import structlog

from service.errors import NotFound, PalimpsestError
from service.outside import AddressRefused, NoAnswer, Outside
from service.processes.parts import utc_now
from service.signing import secret_of, signature
from service.store import changes, present, webhooks
from service.store.db import Database
from service.store.rows import ChangeRow, DeliveryRow, WebhookRow
from service.telemetry import places

ATTEMPTS = 6
TIMES = 6  # each wait is so many times as long as the one before
TAKEN = timedelta(seconds=60)  # longer than any attempt: then its process is taken for dead
AT_ONCE = 16  # deliveries under way
PURGE_S = 3_600.0
log = structlog.get_logger()


class Deliverer:
    """Publishes changes and delivers them; `retry_s` is the wait after the first attempt that failed, `look_s` that between idle looks."""

    def __init__(self, database: Database, outside: Outside, *, pepper: bytes, look_s: float, retry_s: float) -> None:
        self._database, self._outside, self._pepper, self._look_s, self._retry_s = database, outside, pepper, look_s, retry_s
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Let what is under way come to its end."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self._outside.close()

    async def look(self) -> int:
        """Publish what happened and deliver what is due; how many deliveries were tried."""
        async with self._database.sweep() as conn:
            waiting = await changes.tenants_waiting(conn)
            due = await webhooks.due(conn, utc_now(), AT_ONCE)
        for tenant in waiting:
            async with self._database.write(tenant) as conn:
                await changes.publish(conn, tenant, utc_now())
        if waiting:
            async with self._database.sweep() as conn:
                due = await webhooks.due(conn, utc_now(), AT_ONCE)
        await asyncio.gather(*(self._deliver(tenant, name) for tenant, name in due))
        return len(due)

    async def purge(self) -> None:
        """Drop what the feed need not keep any more."""
        before = utc_now() - changes.KEPT
        async with self._database.sweep() as conn:
            old = await changes.tenants_with_old(conn, before)
        for tenant in old:
            async with self._database.write(tenant) as conn:
                await changes.purge(conn, tenant, before)

    async def _run(self) -> None:
        loop, purged = asyncio.get_running_loop(), -PURGE_S
        while not self._stopping.is_set():
            tried = 0
            try:
                tried = await self.look()
                if loop.time() - purged > PURGE_S:
                    purged = loop.time()
                    await self.purge()
            except Exception as error:  # a full disk or a busy database: look again later
                log.warning("look for deliveries failed", action="deliver", error=type(error).__qualname__, places=places(error))
            if not tried:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._look_s)

    async def _deliver(self, tenant: str, name: str) -> None:
        try:
            async with self._database.write(tenant) as conn:
                now = utc_now()
                if not await webhooks.take(conn, tenant, name, now=now, until=now + TAKEN):
                    return  # another process has it
                delivery = await webhooks.get_delivery(conn, tenant, name)
                hook = await webhooks.get_webhook(conn, tenant, delivery.webhook)
                change = await changes.get_change(conn, tenant, delivery.change)
            answered, error = await self._attempt(hook, change, delivery)
            await self._note(tenant, delivery, answered, error)
        except NotFound:
            return  # the webhook was deleted meanwhile
        except PalimpsestError as failed:  # a busy database: it is taken up again when its time is over
            log.warning("delivery not noted", action="deliver", delivery=name, why=failed.code)

    async def _attempt(self, hook: WebhookRow, change: ChangeRow, delivery: DeliveryRow) -> tuple[int | None, str | None]:
        body, now = msgspec.json.encode(present.change(change)), int(utc_now().timestamp())
        headers = (
            ("Content-Type", "application/json"),
            ("User-Agent", "Palimpsest-Webhook"),
            ("Palimpsest-Event", change.kind),
            ("Palimpsest-Delivery", delivery.id),
            ("Palimpsest-Signature", signature(secret_of(self._pepper, hook.id), now, body)),
        )
        try:
            return await self._outside.post(hook.url, body, headers), None
        except (AddressRefused, NoAnswer) as error:
            return None, str(error)

    async def _note(self, tenant: str, delivery: DeliveryRow, answered: int | None, error: str | None) -> None:
        now = utc_now()
        well, last = answered is not None and 200 <= answered < 300, delivery.attempts >= ATTEMPTS
        status = "delivered" if well else "failed" if last else "pending"
        wait = timedelta(seconds=self._retry_s * TIMES ** (delivery.attempts - 1))
        async with self._database.write(tenant) as conn:
            await webhooks.ended(
                conn,
                tenant,
                delivery.id,
                attempt=delivery.attempts,
                status=status,
                answered=answered,
                error=error,
                due_at=now + wait if status == "pending" else now,
                now=now,
            )
        if status == "failed":
            log.warning("delivery given up", action="deliver", delivery=delivery.id, webhook=delivery.webhook, answered=answered, why=error)

"""The engine port's governance, put together: forgetting and its previews and tests, quarantine."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from service import wire
from service.cluster.engine import Actor
from service.store import history, present
from service.store.quarantines import Source
from service.store.rows import QuarantineRow
from workers.forgetting import Forgetting
from workers.judging import Judge
from workers.membership import membership
from workers.previewing import Previewing
from workers.quarantining import Quarantining
from workers.warm import WarmBanks
from workers.whole import Whole


@dataclass(frozen=True, slots=True)
class Governing:
    """What an engine's governance is called by."""

    banks: WarmBanks
    judge: Judge
    forgetting: Forgetting
    quarantining: Quarantining
    previewing: Previewing
    whole: Whole
    void: Callable[[], None]  # old views learn of what was hidden when they are loaded again
    follow: Callable[[str, str], None]  # told the tenant and the bank in which something was hidden that no job takes out
    ring: Callable[[str, str], None]

    async def forget(
        self,
        tenant: str,
        bank: str,
        corrections: Sequence[str],
        *,
        mode: wire.ForgetMode,
        reason: str | None,
        actor: Actor,
    ) -> wire.Forgotten:
        """See `Engine.forget`."""
        bank_id = await self.banks.id_of(tenant, bank)
        request = wire.ForgetRequest(corrections=list(corrections), mode=mode, reason=reason)

        async def work() -> wire.Forgotten:
            async with self.banks.lock(bank_id):
                self.void()
                return await self.forgetting.forget(tenant, bank_id, request, actor)

        forgotten = await self.whole(work())
        if forgotten.job_id is not None:
            self.ring(forgotten.job_id, mode)
        else:
            self.follow(tenant, bank_id)
        return forgotten

    async def preview_forget(self, tenant: str, bank: str, corrections: Sequence[str]) -> wire.ForgetPreview:
        """See `Engine.preview_forget`."""
        bank_id = await self.banks.id_of(tenant, bank)
        async with self.banks.lock(bank_id):
            asked = await self.previewing.as_if(tenant, bank_id, corrections)
        return await self.previewing.told(tenant, asked)

    async def membership(self, tenant: str, bank: str, corrections: Sequence[str]) -> list[wire.Membership]:
        """See `Engine.membership`."""
        bank_id = await self.banks.id_of(tenant, bank)
        async with self.banks.using(tenant, bank_id, await self.banks.fence(tenant, bank_id)) as warm:
            async with self.judge.database.read(tenant) as conn:
                rows = await history.by_ids(conn, tenant, bank_id, corrections)
            return await membership(self.judge, tenant, warm, warm.view, rows)

    async def quarantine(
        self,
        tenant: str,
        bank: str,
        corrections: Sequence[str],
        *,
        session: str | None,
        key: str | None,
        reason: str | None,
        actor: Actor,
    ) -> wire.Quarantine:
        """See `Engine.quarantine`."""
        bank_id = await self.banks.id_of(tenant, bank)
        held = self.quarantining.hold(tenant, bank_id, Source(session, key), corrections, reason, actor)
        return await self._followed(bank_id, held)

    async def lift(self, tenant: str, bank: str, quarantine_id: str, *, actor: Actor) -> wire.Quarantine:
        """See `Engine.lift`."""
        bank_id = await self.banks.id_of(tenant, bank)
        return await self._followed(bank_id, self.quarantining.lift(tenant, bank_id, quarantine_id, actor))

    async def _followed(self, bank_id: str, change: Coroutine[Any, Any, QuarantineRow]) -> wire.Quarantine:
        async def work() -> QuarantineRow:
            async with self.banks.lock(bank_id):
                self.void()
                return await change

        row = await self.whole(work())
        if row.job_id is not None:
            self.ring(row.job_id, "rebuild")
        return present.quarantine(row)

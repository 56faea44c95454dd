"""Which worker to ask about a bank: the one that has it warm if anybody knows, else the first choice of `service.cluster.ring`.

All apis should ask the same one, since each worker that is asked folds the bank anew. They agree through the coordinator's route, a hint
that is claimed once and moved by compare-and-set. Where they do not agree, while it is down, answers are still right, only slower: the
database decides who owns a bank.

A bank stays where it is warm, but not for ever: the ones that a worker has come to have instead of another go home, a few a second, as long
as home is not the busier one. So a worker that is added or comes back takes its share, and one that is far too busy gets rid of some.
"""

import time
from collections.abc import Callable, Collection, Mapping

from service.cluster import ring
from service.cluster.coord import Coord, CoordDown, WorkerInfo
from service.cluster.live import LiveWorkers

TTL_S = 300.0  # a route that nobody uses ends
STICKS_S = 1.0  # an answer of the coordinator is good for so long: its round trip would be a fifth of a recall's time
DOWN_S = 1.0  # a coordinator that could not be reached is not asked for so long
FRESH_S = 0.2  # an unknown worker may be new: the list of live ones is looked at again if it is older
MOVES_EVERY_S = 0.2  # one bank at a time goes home: it is folded anew there, a tenth of a second of a device
SHUNNED_S = 30.0  # a worker that refused a bank gets none back for so long
KEPT = 65_536  # banks whose worker is remembered


class Routes:
    """Remembers where banks are, and asks the coordinator now and again."""

    def __init__(self, coord: Coord, live: LiveWorkers, *, now: Callable[[], float] = time.monotonic) -> None:
        self._coord, self._live, self._now = coord, live, now
        self._known: dict[str, tuple[str, float]] = {}  # bank -> its worker, and when that was asked
        self._ask_again_at = self._move_at = float("-inf")
        self._refused_at: dict[str, float] = {}  # by worker

    async def worker_for(self, bank_id: str, refused: Collection[str]) -> WorkerInfo | None:
        """The worker to ask about the bank, none of `refused`, which its route leaves; None when there is no other alive."""
        alive = self._live.all()
        if refused:
            self._refused_at = {name: at for name, at in self._refused_at.items() if name in alive} | dict.fromkeys(refused, self._now())
            alive = {name: worker for name, worker in alive.items() if name not in refused}
        if not alive:
            return None
        known, asked_at = self._known.get(bank_id, ("", 0.0))
        if known in alive and not refused and self._now() - asked_at < STICKS_S:
            return alive[known]
        wanted = known if known in alive else ring.choose(bank_id, alive.values())[0].id
        try:
            holder = wanted
            if self._now() >= self._ask_again_at:
                holder = await self._agreed(bank_id, wanted, refused)
                holder = await self._evened_out(bank_id, holder, alive)
        except CoordDown:
            self._ask_again_at = self._now() + DOWN_S
            holder = wanted
        found = self._live.all().get(holder)
        if found is None or holder in refused:  # others insist on one that we cannot see, or that refused us
            found = alive[wanted]
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[bank_id] = (found.id, self._now())
        return found

    def forget(self, bank_id: str) -> None:
        """The bank is gone."""
        self._known.pop(bank_id, None)

    async def _agreed(self, bank_id: str, wanted: str, refused: Collection[str]) -> str:
        """Who has the bank by the coordinator: `wanted` if nobody had it, or one that is dead or refused had."""
        holder = await self._coord.claim_route(bank_id, wanted, TTL_S)
        if holder == wanted:
            return holder
        if holder not in self._live.all():
            await self._live.refresh(older_than_s=FRESH_S)
        if holder in self._live.all() and holder not in refused:
            return holder
        if await self._coord.move_route(bank_id, wanted, TTL_S, expected=holder):
            return wanted
        return await self._coord.route(bank_id) or wanted  # somebody was quicker: go where they go

    async def _evened_out(self, bank_id: str, holder: str, alive: Mapping[str, WorkerInfo]) -> str:
        """Who has the bank when it has gone home, if it may go now."""
        now, home = self._now(), ring.choose(bank_id, alive.values())[0]
        if holder == home.id or holder not in alive or now < self._move_at:
            return holder
        if now - self._refused_at.get(home.id, float("-inf")) < SHUNNED_S or ring.load(home) > ring.load(alive[holder]):
            return holder
        self._move_at = now + MOVES_EVERY_S
        if await self._coord.move_route(bank_id, home.id, TTL_S, expected=holder):
            return home.id
        return await self._coord.route(bank_id) or holder

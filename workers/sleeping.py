"""The language model's part of a consolidation: what was said since the last sleep moves into the slow levels (`model/language/sleep.py`).

The consolidation of the recall memory has made its head; this makes another one after it, with the same weights of that and a language
model that has slept at its position. Where the head says that the language model has slept, every fold of the ledger sleeps there, too:
so the ledger and the heads decide what a bank knows, and the state that is saved with it only saves time.

Gate: the right answers, or what was said without one, must not be more surprising after the sleep than before it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from service.errors import PalimpsestError
from service.store.rows import HeadMove, SnapshotRow
from service.store.turns import Said
from workers.language_fold import LanguageFold, Wanted
from workers.rebuilding import Changed
from workers.replay import Lineage, Replay, lineage
from workers.versions import Label, LanguagePart, Taken, Versions

if TYPE_CHECKING:
    from model.hope.online import HopeState
    from model.language import Speaker

ASKED = 64  # newest texts whose surprise the gate asks for
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sleeping:
    """Puts language models to sleep, for jobs. It holds no lock of the bank."""

    replay: Replay
    fold: LanguageFold
    versions: Versions
    changed: Changed

    async def run(self, tenant: str, bank_id: str, *, moved_by: str) -> dict[str, Any] | None:
        """Sleep over what was said up to the head; what came of it, None where nothing was said since the last time.

        What is in its way is told, and no reason to consolidate again: the next consolidation sleeps over what this one did not.
        """
        try:
            return await self._run(tenant, bank_id, moved_by)
        except PalimpsestError as error:
            log.warning("language model not put to sleep", action="sleep", bank=bank_id, why=error.code)
            return {"slept": False, "why": error.code}

    async def _run(self, tenant: str, bank_id: str, moved_by: str) -> dict[str, Any] | None:
        found = await lineage(self.versions.database, tenant, bank_id)
        wanted = Wanted.at(found, found.head)
        if wanted.first is None or wanted.seq in wanted.sleeps:  # nobody has talked to it, or it has just slept: no model is needed
            return None
        speaker = await self.fold.model.speaker()  # first: it imports its libraries on its own thread, and here they are used
        said = await self.fold.since_last_sleep(tenant, wanted, wanted.seq)
        if not said:
            return None
        known = await self.fold.reach(tenant, wanted, None)
        rested = await self.fold.asleep(speaker, known.state, said)
        asked = said[-ASKED:]
        before, after = [await self._surprise(speaker, state, asked) for state in (known.state, rested)]
        better = math.isfinite(after) and after <= before  # not where one of them is no number
        told = {"events": len(said), "surprise_before": _finite(before), "surprise_after": _finite(after), "slept": better}
        if not better:
            log.warning("language model not put to sleep", action="sleep", bank=bank_id, before=before, after=after)
            return told
        part = LanguagePart(await self.fold.model.run(speaker.save, rested, ""), wanted.spans, (*wanted.sleeps, wanted.seq))
        saved = await self._save(tenant, found, part, moved_by, told)
        await self.changed(tenant, bank_id)
        return told | {"snapshot": saved.id}

    async def _surprise(self, speaker: "Speaker", state: "HopeState", said: Sequence[Said]) -> float:
        """The mean surprise of what is learned of events, each read from the state alone."""
        return sum([await self.fold.model.run(speaker.unforeseen, state, row.input, row.right) for row in said]) / len(said)

    async def _save(self, tenant: str, found: Lineage, part: LanguagePart, moved_by: str, told: dict[str, Any]) -> SnapshotRow:
        """The head once more, with the language model as it is after the sleep."""
        head = found.head
        state = await self.replay.load(tenant, head)
        taken = Taken(found.bank.id, head.id, head.seq, head.spans, state, 0, head.held, part)
        label = Label(moved_by, gate={"passed": True, "language": told})
        move = HeadMove(expected_version=found.bank.head_version, moved_by=moved_by, reason="consolidation: the language model slept")
        return await self.versions.save(tenant, taken, "consolidation", label, move)


def _finite(nats: float) -> float | None:
    """As JSON can say it."""
    return round(nats, 4) if math.isfinite(nats) else None

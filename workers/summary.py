"""The memory summary: what a bank's weights are, how large, and their digest."""

from model import RecallConfig, State, inspection
from service import wire
from service.store import jobs
from service.store.db import Database
from workers.replay import Lineage
from workers.threads import OwnThread
from workers.versions import Taken


async def describe(database: Database, tenant: str, found: Lineage, taken: Taken, thread: OwnThread, config: RecallConfig) -> wire.Memory:
    """The summary of a state that was taken under the bank's lock."""
    async with database.read(tenant) as conn:
        pending = await jobs.pending_for(conn, tenant, found.bank.id, ("rebuild", "erase"))
    digest, levels = await thread.run(_measure, taken.state, config)
    known = {row.seq for row in found.tombstones}
    return wire.Memory(
        bank=found.bank.id,
        digest=digest,
        state=wire.StateRef(snapshot_id=taken.parent, seq=taken.seq),
        levels=levels,
        clock_tokens=taken.state.clock.tokens,
        events=found.bank.seq,
        corrections=taken.state.clock.events,
        responses=taken.responses,
        forgotten=len(known),
        rebuild_pending=bool(pending),
        bytes=taken.state.nbytes,
        config_hash=config.hash,
        encoder_digest=found.bank.encoder_digest,
    )


def _measure(state: State, config: RecallConfig) -> tuple[str, list[wire.Level]]:
    digests, norms = state.level_digests(), inspection.norms(state.levels)
    levels = []
    for name, tensors in state.levels.items():
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        levels.append(wire.Level(name=name, period_tokens=config.period_of(name), bytes=size, norm=norms[name], digest=digests[name]))
    return state.digest(), levels

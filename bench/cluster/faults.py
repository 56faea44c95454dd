"""The faults that a cluster is put through, each for a while: processes killed or stopped, connections cut, servers flushed or full.

A fault is named after what it does and whom it meets, so that a run can be asked for one of them, or for all of a sort by how they begin.
"""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from bench.cluster.running import Cluster, Process

HEARTBEAT_S, CLAIM_TTL_S = 1.0, 1.5  # of the processes here; one that is stopped stands still for longer than both
STILL_S = (1.6, 2.5)
BRIEF_S, LONG_S, LONG = (0.2, 1.5), (4.5, 6.0), 0.2  # of what is cut or missing; how often long: then who waits has noticed
FULL = (1 << 20, 64 << 10)  # bytes at which a file cannot grow: tables that are larger; every file, the write-ahead log too
APART = {
    "api": ("worker", "postgres", "redis", "broker"),
    "worker": ("postgres", "redis", "broker", "s3"),
    "jobs": ("postgres", "redis", "broker", "s3"),
}

Strike = Callable[[Cluster, random.Random], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was put right again: its name and what it met."""

    name: str
    victim: str


async def kill_process(command: str, cluster: Cluster, dice: random.Random) -> str:
    """`kill -9` of an api, a worker or jobs; it is started again at once, and comes back some seconds later."""
    victim = dice.choice(_alive(cluster, command))
    await victim.kill()
    await asyncio.sleep(dice.uniform(0, 0.5))
    await victim.start()
    return victim.name


async def stop_process(command: str, cluster: Cluster, dice: random.Random) -> str:
    """SIGSTOP for longer than a heartbeat or a claim lives: the process believes afterwards that nothing has happened."""
    victim = dice.choice(_alive(cluster, command))
    victim.signal(signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(*STILL_S))
    victim.signal(signal.SIGCONT)
    return victim.name


async def cut_connection(command: str, other: str, cluster: Cluster, dice: random.Random) -> str:
    """Two parts that do not hear each other for a while, and do not know it."""
    ends, relay = dice.choice([(ends, relay) for ends, relay in sorted(cluster.relays.items()) if _between(ends, command, other)])
    relay.cut()
    await _a_while(dice)
    relay.heal()
    return " and ".join(ends)


async def flush_redis(cluster: Cluster, dice: random.Random) -> str:
    """FLUSHALL of the coordinator."""
    _, writer = await asyncio.open_connection("127.0.0.1", cluster.redis.port)
    writer.write(b"FLUSHALL\r\n")
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    return "redis"


async def kill_redis(name: str, cluster: Cluster, dice: random.Random) -> str:
    """The coordinator or the broker is killed, and comes back after a while."""
    victim = cluster.server(name)
    victim.kill()
    await _a_while(dice)
    await victim.start()
    return name


async def kill_backend(cluster: Cluster, dice: random.Random) -> str:
    """`kill -9` of one of PostgreSQL's processes: the server ends all others, recovers, and takes connections again."""
    backends = await cluster.postgres.backends()
    if backends:
        os.kill(dice.choice(backends), signal.SIGKILL)
    await cluster.postgres.recovered()
    return "a backend of postgres"


async def kill_postgres(cluster: Cluster, dice: random.Random) -> str:
    """`kill -9` of PostgreSQL as a whole."""
    cluster.postgres.kill()
    await asyncio.sleep(dice.uniform(0, 1))
    await cluster.postgres.start()
    return "postgres"


async def fill_disk(cluster: Cluster, dice: random.Random) -> str:
    """PostgreSQL's files cannot grow: it refuses what needs room, and crashes where that is its own log; then there is room again."""
    size = dice.choice(FULL)
    await cluster.postgres.fill_events("palimpsest", FULL[0])  # else there would be room in the ledger for hours
    await cluster.postgres.limit_files(size)
    await _a_while(dice)
    if cluster.postgres.alive:
        await cluster.postgres.limit_files(None)
    await cluster.postgres.recovered()
    return f"postgres, files of {size >> 10} KiB"


async def silence_store(cluster: Cluster, dice: random.Random) -> str:
    """The blob store does not answer for a while; what it holds stays."""
    cluster.store.signal(signal.SIGSTOP)
    await _a_while(dice)
    cluster.store.signal(signal.SIGCONT)
    return "s3"


async def refuse_store(cluster: Cluster, dice: random.Random) -> str:
    """The blob store takes no connections for a while; what it holds stays."""
    relays = [relay for (_, server), relay in cluster.relays.items() if server == "s3"]
    for relay in relays:
        relay.refuse()
    await _a_while(dice)
    for relay in relays:
        relay.heal()
    return "s3"


FAULTS: dict[str, tuple[float, Strike]] = {  # by name: how often, and what
    "kill api": (3, partial(kill_process, "api")),
    "kill worker": (4, partial(kill_process, "worker")),
    "kill jobs": (3, partial(kill_process, "jobs")),
    "kill redis": (2, partial(kill_redis, "redis")),
    "kill broker": (1, partial(kill_redis, "broker")),
    "kill backend": (4, kill_backend),
    "kill postgres": (2, kill_postgres),
    **{f"stop {command}": (1, partial(stop_process, command)) for command in APART},
    **{f"cut {one}-{other}": (0.5, partial(cut_connection, one, other)) for one, others in APART.items() for other in others},
    "flush redis": (1, flush_redis),
    "store silent": (0.5, silence_store),
    "store down": (1, refuse_store),
    "disk full": (1, fill_disk),
}


async def strike(cluster: Cluster, dice: random.Random, names: list[str]) -> Done:
    """One of the faults, drawn by weight; it is over when this returns, though a process may still be starting."""
    name = dice.choices(names, [FAULTS[each][0] for each in names])[0]
    return Done(name, await FAULTS[name][1](cluster, dice))


async def _a_while(dice: random.Random) -> None:
    await asyncio.sleep(dice.uniform(*(LONG_S if dice.random() < LONG else BRIEF_S)))


def _between(ends: tuple[str, str], command: str, other: str) -> bool:
    return ends[0].startswith(command) and ends[1].startswith(other)


def _alive(cluster: Cluster, command: str) -> list[Process]:
    return [process for process in cluster.of(command) if process.alive]

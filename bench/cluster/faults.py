"""The faults that a cluster is put through, each for a while: processes killed or stopped, connections cut, servers flushed or missing."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.cluster.running import Cluster, Process

HEARTBEAT_S = 2.0  # of the workers here; a process that is stopped stands still for longer
LONGEST_S = 3.0

Fault = Callable[[Cluster, random.Random], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was put right again: its name and what it met."""

    name: str
    victim: str


async def kill_process(cluster: Cluster, dice: random.Random) -> str:
    """`kill -9` of an api, a worker or the jobs; it is started again at once, and comes back some seconds later."""
    victim = dice.choice(_ready(cluster))
    await victim.kill()
    await asyncio.sleep(dice.uniform(0, 0.5))
    await victim.start()
    return victim.name


async def stop_process(cluster: Cluster, dice: random.Random) -> str:
    """SIGSTOP for longer than a heartbeat lives: the process believes afterwards that nothing has happened."""
    victim = dice.choice(_ready(cluster))
    victim.signal(signal.SIGSTOP)
    await asyncio.sleep(HEARTBEAT_S + dice.uniform(0, 1))
    victim.signal(signal.SIGCONT)
    return victim.name


async def cut_connection(cluster: Cluster, dice: random.Random) -> str:
    """Two parts that do not hear each other for a while, and do not know it."""
    ends, relay = dice.choice(sorted(cluster.relays.items()))
    relay.cut()
    await asyncio.sleep(dice.uniform(0.2, LONGEST_S))
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


async def kill_redis(cluster: Cluster, dice: random.Random) -> str:
    """The coordinator or the broker is killed, and comes back after a while."""
    victim = dice.choice([cluster.redis, cluster.broker])
    victim.kill()
    await asyncio.sleep(dice.uniform(0.2, LONGEST_S))
    await victim.start()
    return victim.name


async def kill_backend(cluster: Cluster, dice: random.Random) -> str:
    """`kill -9` of one of PostgreSQL's processes: the server ends all others, recovers, and takes connections again."""
    backends = await cluster.postgres.backends()
    if backends:
        os.kill(dice.choice(backends), signal.SIGKILL)
    while not await cluster.postgres.answers():  # noqa: ASYNC110  # another process, which sets no event of ours
        await asyncio.sleep(0.05)
    return "a backend of postgres"


async def kill_postgres(cluster: Cluster, dice: random.Random) -> str:
    """`kill -9` of PostgreSQL as a whole."""
    cluster.postgres.kill()
    await asyncio.sleep(dice.uniform(0, 1))
    await cluster.postgres.start()
    return "postgres"


async def stop_store(cluster: Cluster, dice: random.Random) -> str:
    """The blob store does not answer for a while; what it holds stays."""
    cluster.store.signal(signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(0.5, LONGEST_S))
    cluster.store.signal(signal.SIGCONT)
    return "s3"


FAULTS: dict[str, Fault] = {
    "kill": kill_process,
    "stop": stop_process,
    "cut": cut_connection,
    "flush": flush_redis,
    "redis": kill_redis,
    "backend": kill_backend,
    "postgres": kill_postgres,
    "store": stop_store,
}
WEIGHTS = {"kill": 8, "stop": 3, "cut": 4, "flush": 1, "redis": 1, "backend": 1, "postgres": 1, "store": 1}


async def strike(cluster: Cluster, dice: random.Random, names: list[str]) -> Done:
    """One of the faults, drawn by weight; it is over when this returns, though a process may still be starting."""
    name = dice.choices(names, [WEIGHTS[each] for each in names])[0]
    return Done(name, await FAULTS[name](cluster, dice))


def _ready(cluster: Cluster) -> list[Process]:
    return [process for process in cluster.processes.values() if process.alive]

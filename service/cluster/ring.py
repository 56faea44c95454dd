"""Which worker a bank would have if nobody had it: rendezvous hashing, so that every api chooses the same without asking anyone.

A bank is the unit of ownership, so it is what is hashed, not its tenant: a tenant's banks spread over all workers, and one with a single
bank is none the worse. When a worker goes, only its own banks move, each to its second choice; when one comes, it takes its share.
"""

import hashlib
import math
from collections.abc import Iterable

from service.cluster.coord import WorkerInfo

FAR = 64  # calls above the least loaded worker …
RATIO = 1.5  # … and so many times its load: then a bank that is placed anew goes elsewhere first


def choose(bank_id: str, workers: Iterable[WorkerInfo]) -> list[WorkerInfo]:
    """The workers in order of preference for the bank. Those that are far busier than the least loaded one come last, in their order."""
    ranked = sorted(workers, key=lambda worker: (_weight(bank_id, worker), worker.id), reverse=True)
    least = min((load(worker) for worker in ranked), default=0.0)
    return sorted(ranked, key=lambda worker: _overloaded(worker, least * _capacity(worker)))  # stable: their order stays


def load(worker: WorkerInfo) -> float:
    """Calls that it is answering, for its capacity."""
    return worker.in_flight / _capacity(worker)


def _weight(bank_id: str, worker: WorkerInfo) -> float:
    """Highest random weight: a worker wins as often as its capacity is of all (-capacity / ln u, u uniform in (0, 1))."""
    digest = hashlib.blake2b(f"{worker.id}\n{bank_id}".encode(), digest_size=8).digest()
    share = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return -_capacity(worker) / math.log(share)


def _capacity(worker: WorkerInfo) -> float:
    return max(worker.capacity, 1e-6)  # one that says it has none gets none, while there are others


def _overloaded(worker: WorkerInfo, fair: float) -> bool:
    """`fair`: calls it would have if it were loaded as the least loaded one, for its capacity."""
    return worker.in_flight - fair > FAR and worker.in_flight > RATIO * fair

"""What a warm bank does when events are hidden, or shown again: it learns of them before anyone can ask it.

The transaction that hides or shows raises the bank's epoch, so that copies in other processes cannot answer without having seen it.
"""

import contextlib
from collections.abc import Iterator

from service.errors import PalimpsestError
from service.store.failures import CommitUnknown
from service.store.lineage import restrict
from service.store.rows import BankRow
from workers.replay import Replay, lineage
from workers.warm import WarmBanks


async def hide(replay: Replay, banks: WarmBanks, tenant: str, bank_id: str, held: BankRow) -> None:
    """Let the warm bank answer with what may be answered now; `held` is its row as this process has acquired it anew."""
    warm = banks.peek(bank_id)
    if warm is None:
        return
    if (held.epoch, held.head_version) != (warm.row.epoch + 1, warm.head_version):
        banks.drop(bank_id)  # another process has changed the bank since it was loaded here
        return
    try:
        await replay.admit(tenant, bank_id, warm.view)
        warm.supports.clear()
        warm.row = held
        banks.housing.resized(warm)
    except BaseException:
        banks.drop(bank_id)  # a view that was not told must not answer
        raise


async def show(replay: Replay, banks: WarmBanks, tenant: str, bank_id: str, held: BankRow) -> None:
    """As `hide`, where events come back that may have left the weights: then the next use folds them again."""
    warm = banks.peek(bank_id)
    if warm is None:
        return
    try:
        found = await lineage(replay.database, tenant, bank_id)
    except BaseException:
        banks.drop(bank_id)
        raise
    if restrict(found.wanted, warm.view.seq) == warm.view.weights:
        await hide(replay, banks, tenant, bank_id, held)
    else:
        banks.drop(bank_id)


@contextlib.contextmanager
def dropped_in_doubt(banks: WarmBanks, bank_id: str) -> Iterator[None]:
    """Around a transaction that changes what a bank may answer: the warm copy goes when nobody can say whether it was committed."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, CommitUnknown) or not isinstance(error, PalimpsestError):
            banks.drop(bank_id)
        raise

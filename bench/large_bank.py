"""A large ledger of made-up words, put into a database as the service appends it, without the time that encoding would take."""

from datetime import UTC, datetime, timedelta

import numpy as np
from tqdm import tqdm

from service.ids import new_id
from service.store import ledger
from service.store.db import Database
from service.store.rows import BankRow, Draft

WORDS, VOCABULARY = 16, 20_000  # of a text, and of all texts
ANSWERS = 500
BATCH = 200  # corrections in a transaction, an hour after those before
KEY_WIDTH = 384
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


async def fill(database: Database, bank: BankRow, many: int, begin: datetime = BEGIN) -> None:
    """Append so many corrections to a bank that nobody else writes to, an hour between two hundred."""
    drawn, now = np.random.default_rng(0), begin
    for _ in tqdm(range(many // BATCH), desc="append", unit=" batches"):
        keys = drawn.standard_normal((BATCH, KEY_WIDTH), dtype=np.float32)
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        drafts = [
            Draft(
                id=new_id("cor"),
                session_id=None,
                input=" ".join(f"w{number}" for number in drawn.integers(VOCABULARY, size=WORDS)),
                wrong=None,
                right=f"answer {drawn.integers(ANSWERS)}",
                metadata={"source": "bench"},
                embedding=key.tobytes(),
                tokens=20,
            )
            for key in keys
        ]
        now += timedelta(hours=1)
        async with database.write(bank.tenant) as conn:
            await ledger.append(conn, bank.tenant, bank.id, drafts, epoch=bank.epoch, head_version=bank.head_version, now=now)

"""A large ledger of made-up words, put into a database as the service appends it, without the time that encoding would take.

And weights for it, without the time that folding all of it would take: for who measures what it costs to look into such a bank.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model import Recall, RecallConfig
from service.ids import new_id
from service.store import history, ledger
from service.store.blobs import open_blobs
from service.store.db import Database
from service.store.rows import BankRow, Draft
from workers.replay import lesson_of
from workers.threads import OwnThread
from workers.versions import Label, Taken, Versions

WORDS, VOCABULARY = 16, 20_000  # of a text, and of all texts
ANSWERS = 500
BATCH = 200  # corrections in a transaction, an hour after those before
KEY_WIDTH = 384
FOLDED = 4_000  # newest lessons that are in the weights: more than a window
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


async def settle(database: Database, var_dir: Path, bank: BankRow, many: int) -> None:
    """Save a snapshot that says that it holds all of the ledger, and has the newest lessons: as large as any, and as slow to ask."""
    recall = Recall(RecallConfig(encoder_digest=bank.encoder_digest))
    after = max(0, many - FOLDED)
    async with database.read(bank.tenant) as conn:
        rows = await history.lessons(conn, bank.tenant, bank.id, after, many, FOLDED)
    lessons = (lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words) for row in rows)
    state = recall.fold(recall.initial(), tqdm(lessons, desc="fold", total=len(rows), unit=" lessons"))
    model, heavy = (OwnThread(name, lambda: None) for name in ("model", "heavy"))
    versions = Versions(database, open_blobs(f"file://{var_dir}/objects"), recall, model, heavy, lambda: datetime.now(UTC))
    await versions.save(bank.tenant, Taken(bank.id, bank.head, many, ((0, many),), state, ANSWERS), "auto", Label("bench"))
    for thread in (model, heavy):
        thread.close()

"""Inputs of the same words are found by one hash: also those of the events that are there already."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

from service.store.linking import input_hash

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

PAGE = 500
EVENT = sa.table("event", *(sa.column(name) for name in ("tenant", "bank", "seq", "kind", "body", "input_hash")))
MINE = (EVENT.c.tenant == sa.bindparam("t"), EVENT.c.bank == sa.bindparam("b"))


def upgrade() -> None:
    _rewrite(input_hash)


def downgrade() -> None:
    _rewrite(lambda text: hashlib.sha256(text.encode()).digest()[:16])


def _rewrite(hashed: Callable[[str], bytes]) -> None:
    """Only where the text is there: what was redacted has neither, and a turn none."""
    connection = op.get_bind()
    postgresql = connection.dialect.name == "postgresql"
    if postgresql:
        for table in ("bank", "event"):
            op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    new = sa.update(EVENT).where(*MINE, EVENT.c.seq == sa.bindparam("s")).values(input_hash=sa.bindparam("h"))
    for tenant, bank in connection.execute(sa.text("SELECT tenant, id FROM bank ORDER BY tenant, id")).all():
        after = 0
        page = sa.select(EVENT.c.seq, EVENT.c.body, EVENT.c.input_hash).where(*MINE, EVENT.c.input_hash.is_not(None))
        page = page.where(EVENT.c.seq > sa.bindparam("after")).order_by(EVENT.c.seq).limit(PAGE)
        while found := connection.execute(page, {"t": tenant, "b": bank, "after": after}).all():
            after = found[-1].seq
            told = [(row, text) for row in found if (text := _input(row.body)) is not None]
            changed = [(row.seq, to) for row, text in told if (to := hashed(text)) != row.input_hash]
            if changed:
                connection.execute(new, [{"t": tenant, "b": bank, "s": seq, "h": to} for seq, to in changed])
    if postgresql:
        for table in ("bank", "event"):
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def _input(body: bytes | None) -> str | None:
    try:
        said = msgspec.msgpack.decode(body or b"", type=dict[str, Any])
    except msgspec.MsgspecError:
        return None
    return said.get("input")

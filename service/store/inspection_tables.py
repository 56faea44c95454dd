"""The tables of looking in: what people look up beside each event, how far states moved, what is asked again and again.

What holds for `tables.py` holds here.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from service.store.columns import UtcTime, bank_of, id_column, metadata

lookup = Table(  # beside each event, what people look for: nothing is folded from it, and no hash covers it
    "lookup",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("bank", primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),  # seconds since 1970 when it was taught
    Column("text", Text),  # what is searched, see lookup.py; NULL once redacted
    Column("said_before", String(8)),  # what the memory said before; NULL: nobody measured it, as the next
    Column("surprise", Float),  # 1 − confidence of the right answer before
    CheckConstraint("said_before IN ('right', 'wrong', 'nothing')", name="said_before"),
    ForeignKeyConstraint(["tenant", "bank", "seq"], ["event.tenant", "event.bank", "event.seq"], name="fk_lookup_event"),
    sqlite_with_rowid=False,  # the rows of a bank lie side by side: a search reads all of them
)

drift = Table(
    "drift",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("snapshot", primary_key=True),
    id_column("bank"),
    Column("levels", JSON, nullable=False),  # how far each level is from the snapshot before
    Column("created_at", UtcTime, nullable=False),
    Index(None, "tenant", "bank", "created_at"),
    ForeignKeyConstraint(["tenant", "snapshot"], ["snapshot.tenant", "snapshot.id"], name="fk_drift_snapshot"),
    bank_of("drift"),
)

probe_set = Table(
    "probe_set",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("id", primary_key=True),
    id_column("bank"),
    Column("name", String(128), nullable=False),
    Column("probes", JSON, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("tenant", "bank", "name"),
    bank_of("probe_set"),
)

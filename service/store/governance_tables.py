"""The tables of governance: what is quarantined, what is proposed, what happened, and whom it is told to.

What holds for `tables.py` holds here.
"""

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from service.store.columns import UtcTime, bank_of, id_column, metadata

quarantine = Table(
    "quarantine",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("id", primary_key=True),
    id_column("bank"),
    Column("source", JSON, nullable=False),  # what was named: session_id, key_id, or corrections
    Column("session", String(128)),  # while it is held nothing is taught in this session, or with this key
    Column("key", String(64)),
    Column("corrections", Integer, nullable=False),
    Column("reason", Text),
    Column("job", String(64)),
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("lifted_by", String(64)),
    Column("lifted_at", UtcTime),
    bank_of("quarantine"),
    Index(None, "tenant", "created_at"),
)

quarantined = Table(  # which events are held, by which quarantine; the rows go when it is lifted
    "quarantined",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("bank", primary_key=True),
    Column("seq", Integer, primary_key=True),
    id_column("quarantine", primary_key=True),
    ForeignKeyConstraint(["tenant", "bank", "seq"], ["event.tenant", "event.bank", "event.seq"], name="fk_quarantined_event"),
    ForeignKeyConstraint(["tenant", "quarantine"], ["quarantine.tenant", "quarantine.id"], name="fk_quarantined_quarantine"),
)

proposal = Table(  # what a user seems to have corrected; the row goes when it is confirmed or dismissed
    "proposal",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("id", primary_key=True),
    id_column("bank"),
    Column("digest", LargeBinary(32), nullable=False),  # of its three texts: said twice, it is proposed once
    Column("input", Text, nullable=False),
    Column("wrong", Text, nullable=False),
    Column("right", Text, nullable=False),
    Column("session", String(128)),
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("tenant", "bank", "digest"),
    bank_of("proposal"),
)

trail = Table(  # where a tenant's audit and its change feed end; not in the tenant's own row, which whatever belongs to it locks
    "trail",
    metadata,
    id_column("tenant", primary_key=True),
    Column("audit_seq", Integer, nullable=False),
    Column("audit_hash", String(64), nullable=False),
    Column("changes", Integer, nullable=False),  # places given out in the feed; never reused
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

change = Table(  # what happened, for webhooks and the change feed: written in the transaction of what it tells of
    "change",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("id", primary_key=True),
    Column("position", Integer),  # in the feed; given once it is committed, see changes.py
    Column("kind", String(64), nullable=False),
    Column("bank", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("tenant", "position"),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

webhook = Table(  # its secret is nowhere: it is derived, see webhooks.py
    "webhook",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("id", primary_key=True),
    Column("url", String(2048), nullable=False),
    Column("events", JSON, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

delivery = Table(
    "delivery",
    metadata,
    id_column("tenant", primary_key=True),
    id_column("id", primary_key=True),
    id_column("webhook"),
    id_column("change"),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcTime, nullable=False),  # of the next attempt; while one is under way, when it is taken for dead
    Column("answered", Integer),  # the status of the last answer
    Column("error", String(128)),  # why there was none
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="status"),
    Index(None, "status", "due_at"),
    Index(None, "tenant", "webhook", "id"),
    ForeignKeyConstraint(["tenant", "webhook"], ["webhook.tenant", "webhook.id"], name="fk_delivery_webhook"),
    ForeignKeyConstraint(["tenant", "change"], ["change.tenant", "change.id"], name="fk_delivery_change"),
)

"""What all tables are made of: their metadata, how constraints are named, and the types of their columns."""

from datetime import UTC, datetime

from sqlalchemy import Column, DateTime, Dialect, ForeignKeyConstraint, MetaData, String, TypeDecorator

naming = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=naming)


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time on both dialects; SQLite stores it without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database: aware times only, in UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError("times carry their zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database: always UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def id_column(name: str, *, primary_key: bool = False, unique: bool = False) -> Column[str]:
    """An id of ours, or a key of the kind."""
    return Column(name, String(64), nullable=False, primary_key=primary_key, unique=unique or None)


def bank_of(table: str) -> ForeignKeyConstraint:
    """That each row of the table belongs to a bank of its tenant."""
    return ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name=f"fk_{table}_bank")

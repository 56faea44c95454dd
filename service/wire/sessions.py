"""What is said about sessions: conversations in a bank."""

from datetime import datetime

from service.wire.parts import Id, Name, Reply, Request, StateRef


class NewSession(Request, frozen=True, kw_only=True):
    """Open a session; with the `id` of one that is open it is opened again, without an `id` one is made."""

    id: Id | None = None
    bank: Name | None = None


class Session(Reply, frozen=True, kw_only=True):
    """A session, open until `expires_at` unless it is used before then. `bank` is an id."""

    id: str
    bank: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class OpenedSession(Session, frozen=True, kw_only=True):
    """A session that was just opened: where its bank stands, and whether it is in memory, as `Warmth` tells it."""

    state: StateRef | None
    warm: bool
    eta_ms: float

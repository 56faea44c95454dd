"""What the HTTP edge is given by a composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from service.cluster.engine import Engine
from service.settings import Settings
from service.store.db import Database
from service.telemetry import Metrics

Connection: TypeAlias = Any  # an open transaction; its type is SQLAlchemy's and stays inside the store


@dataclass(frozen=True)
class Deps:
    """Everything that the api talks to; it makes none of it itself."""

    settings: Settings
    database: Database
    engine: Engine
    pepper: bytes  # HMAC key over API keys
    metrics: Metrics
    ring: Callable[[str], None]  # tells the job runners to look at a job id
    now: Callable[[], datetime]  # aware, UTC
    ready: Callable[[], bool]  # whether the first recall would be served warm

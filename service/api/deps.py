"""What the HTTP edge is given by a composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from service.cluster.coord import Coord
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
    coord: Coord  # counts the requests of all processes of the api
    metrics: Metrics
    ring: Callable[[str, str], None]  # tells the job runners to look at a job, by its id and kind
    now: Callable[[], datetime]  # aware, UTC
    ready: Callable[[], bool]  # whether the first recall would be served warm

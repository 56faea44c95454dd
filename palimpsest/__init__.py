"""The Python client of Palimpsest, a memory that learns from corrections. It speaks REST and imports nothing of the service.

from palimpsest import Client

with Client("http://127.0.0.1:8000", api_key="pal_...") as memory:
    memory.correct("Where do I change my PIN?", "In the app.")
    memory.recall("How can I get a new PIN?").value  # 'In the app.'
"""

from importlib.metadata import version

from palimpsest import errors
from palimpsest.asking import NewCorrection, Observed
from palimpsest.client import AsyncClient, Client
from palimpsest.errors import PalimpsestError, Refused
from palimpsest.feed import Told
from palimpsest.jobs import Forgetting, StartedExport, StartedJob
from palimpsest.sessions import Session
from palimpsest.sources import Source
from palimpsest.turns import Turn

__all__ = [
    "AsyncClient",
    "Client",
    "Forgetting",
    "NewCorrection",
    "Observed",
    "PalimpsestError",
    "Refused",
    "Session",
    "Source",
    "StartedExport",
    "StartedJob",
    "Told",
    "Turn",
    "__version__",
    "errors",
]

__version__ = version("palimpsest")

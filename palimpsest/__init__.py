"""The room of the Python client, which talks to the service over REST only and imports nothing of it. For now: the version."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("palimpsest")

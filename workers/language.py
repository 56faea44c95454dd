"""The language model of this process, opened when it is first needed, and the one thread that runs it.

It has a thread of its own, so that a long answer holds up no recall. Calls are handed over text by text and piece by piece; whoever has
most to say waits between two pieces like everybody else.

Its libraries are imported when it is opened: they take 140 MiB, and most processes that do jobs never need it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import structlog

from service.errors import Capacity, StateUnavailable
from workers.threads import OwnThread

if TYPE_CHECKING:
    from model.language import Speaker

P = ParamSpec("P")
T = TypeVar("T")

CALLS = 64  # conversations at once before a caller is sent away
log = structlog.get_logger()


class _Refused(Exception):
    """The folder has no model that can be used; the message says why."""


class LanguageModel:
    """The model in a folder; None: the one that is shipped."""

    def __init__(self, folder: Path | None, start_thread: Callable[[], None] | None = None) -> None:
        self._folder, self._thread = folder, OwnThread("language", start_thread)
        self._opening: asyncio.Task[Speaker] | None = None
        self._calls = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Around a call of somebody who waits for it; what has begun is never sent away half way.

        Raises:
            Capacity: too many do.
        """
        if self._calls >= CALLS:
            raise Capacity("too many conversations wait for the language model", retry_after_s=1)
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def speaker(self) -> "Speaker":
        """The model.

        Raises:
            StateUnavailable: it cannot be opened; whoever runs the service is told why.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._thread.run(_opened, self._folder))
        try:
            return await asyncio.shield(self._opening)
        except _Refused as error:
            self._opening = None
            log.error("language model refused", action="open_language", why=str(error))
            raise StateUnavailable("the language model of this service cannot be used; its log says why", retry_after_s=60) from None

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a piece of work on the model's thread."""
        return await self._thread.run(work, *args, **kwargs)

    def close(self) -> None:
        """Finish the piece in progress and stop the thread."""
        self._thread.close()


def _opened(folder: Path | None) -> "Speaker":
    from model.language import LanguageRefused, opened

    try:
        return opened(folder)
    except LanguageRefused as error:
        raise _Refused(str(error)) from None

"""One implementation for programs that wait and for programs that await.

A method of the client is written once, as a generator of *steps*: send this request, pause so long, read that file. It decides everything
(retries, errors, pages, when a job has ended) and does no input or output. Two small drivers perform the steps: `Blocking` by
`httpx.Client` and `time.sleep`, `Awaiting` by `httpx.AsyncClient` and `asyncio.sleep`. What a class is driven by is its type parameter, so
`method` and `listing` give the same name two precise types: `Client.recall` returns a `Recalled`, `AsyncClient.recall` one that is awaited.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import httpx

from palimpsest.replies import Page

P = ParamSpec("P")
T = TypeVar("T")
Told_co = TypeVar("Told_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request. Its answer comes back, read to the end, or httpx's error is raised where the step was taken."""

    method: str
    url: str
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    def arguments(self) -> dict[str, Any]:
        """As httpx takes them."""
        return {
            "method": self.method,
            "url": self.url,
            "headers": self.headers,
            "params": self.params,
            "content": self.content,
            "timeout": self.timeout_s,
        }


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Disk:
    """Read a file; with `content` put that into it, so that it is there whole or not at all."""

    file: Path
    content: bytes | None = None

    def perform(self) -> bytes:
        """The bytes that the file has then."""
        if self.content is None:
            return self.file.read_bytes()
        draft = self.file.with_name(f"{self.file.name}.part")
        try:
            draft.write_bytes(self.content)
            draft.replace(self.file)
        finally:
            draft.unlink(missing_ok=True)
        return self.content


Step: TypeAlias = Send | Pause | Disk
Outcome: TypeAlias = httpx.Response | httpx.RequestError | bytes | None
Steps: TypeAlias = Generator[Step, httpx.Response | bytes | None, T]


def sent(send: Send) -> Steps[httpx.Response]:
    """The answer to a request.

    Raises:
        httpx.RequestError: there is none.
    """
    answer = yield send
    assert isinstance(answer, httpx.Response)
    return answer


def on_disk(disk: Disk) -> Steps[bytes]:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read or written.
    """
    content = yield disk
    assert isinstance(content, bytes)
    return content


def _next(steps: Steps[T], outcome: Outcome) -> Step:
    return steps.throw(outcome) if isinstance(outcome, Exception) else steps.send(outcome)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list that is read page by page while it is walked."""

    page: Callable[[str | None], Steps[Page[T]]]  # by the cursor of the page before


class Following(Protocol[Told_co]):
    """A list without an end, that is told as it happens: one long answer after another, each taken line by line."""

    def ask(self) -> Send:
        """The next request."""

    def begins(self, answer: httpx.Response) -> bool:
        """Whether the answer is one to be taken; else it is read to the end."""

    def take(self, line: str) -> Sequence[Told_co]:
        """What a line completes."""

    def goes_on(self, outcome: Outcome) -> Steps[bool]:
        """Whether another request follows, now that the answer has ended, or none came."""


class Blocking:
    """Performs steps for a program that waits."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def run(self, steps: Steps[T]) -> T:
        """Perform all of them; what they come to."""
        outcome: Outcome = None
        while True:
            try:
                step = _next(steps, outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            if isinstance(step, Disk):
                outcome = step.perform()
                continue
            try:
                outcome = self._http.request(**step.arguments())
            except httpx.RequestError as error:
                outcome = error

    def walk(self, listing: Listing[T] | Following[T]) -> Iterator[T]:
        """Every item; a page is asked for when the one before is used up."""
        if not isinstance(listing, Listing):
            yield from self._follow(listing)
            return
        cursor: str | None = None
        while True:
            page = self.run(listing.page(cursor))
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def _follow(self, told: Following[T]) -> Iterator[T]:
        going = True
        while going:
            outcome: Outcome = None
            try:
                with self._http.stream(**told.ask().arguments()) as answer:
                    if told.begins(answer):
                        for line in answer.iter_lines():
                            yield from told.take(line)
                    else:
                        answer.read()
                    outcome = answer
            except httpx.RequestError as error:
                outcome = error
            going = self.run(told.goes_on(outcome))


class Awaiting:
    """Performs steps for a program that awaits."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def run(self, steps: Steps[T]) -> T:
        """Perform all of them; what they come to."""
        outcome: Outcome = None
        while True:
            try:
                step = _next(steps, outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            if isinstance(step, Disk):
                outcome = await asyncio.to_thread(step.perform)
                continue
            try:
                outcome = await self._http.request(**step.arguments())
            except httpx.RequestError as error:
                outcome = error

    async def walk(self, listing: Listing[T] | Following[T]) -> AsyncIterator[T]:
        """Every item; a page is asked for when the one before is used up."""
        if not isinstance(listing, Listing):
            async for item in self._follow(listing):
                yield item
            return
        cursor: str | None = None
        while True:
            page = await self.run(listing.page(cursor))
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _follow(self, told: Following[T]) -> AsyncIterator[T]:
        going = True
        while going:
            outcome: Outcome = None
            try:
                async with self._http.stream(**told.ask().arguments()) as answer:
                    if told.begins(answer):
                        async for line in answer.aiter_lines():
                            for item in told.take(line):
                                yield item
                    else:
                        await answer.aread()
                    outcome = answer
            except httpx.RequestError as error:
                outcome = error
            going = await self.run(told.goes_on(outcome))


Way = TypeVar("Way", bound=Blocking | Awaiting)


class Driven(Generic[Way]):
    """Something whose methods are steps, and the way in which they are performed."""

    _way: Way


class method(Generic[P, T]):  # noqa: N801  # used as a decorator
    """A method written as steps: called on what blocks it gives the result, on what awaits a coroutine of it."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self._steps = steps
        functools.update_wrapper(self, steps)  # type: ignore[arg-type]  # it is called once it is bound

    @overload
    def __get__(self, owner: None, kind: type) -> Callable[Concatenate[Any, P], Steps[T]]: ...
    @overload
    def __get__(self, owner: Driven[Blocking], kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Driven[Awaiting], kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, owner: Driven[Any] | None, kind: type) -> Callable[..., Any]:
        return self._steps if owner is None else _bound(owner, self._steps, owner._way.run)


class listing(Generic[P, T]):  # noqa: N801  # used as a decorator
    """A method that gives a list: called on what blocks it gives an iterator, on what awaits an asynchronous one."""

    def __init__(self, pages: Callable[Concatenate[Any, P], Listing[T] | Following[T]]) -> None:
        self._pages = pages
        functools.update_wrapper(self, pages)  # type: ignore[arg-type]

    @overload
    def __get__(self, owner: None, kind: type) -> Callable[Concatenate[Any, P], Listing[T] | Following[T]]: ...
    @overload
    def __get__(self, owner: Driven[Blocking], kind: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, owner: Driven[Awaiting], kind: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, owner: Driven[Any] | None, kind: type) -> Callable[..., Any]:
        return self._pages if owner is None else _bound(owner, self._pages, owner._way.walk)


def _bound(owner: Driven[Any], written: Callable[..., Any], perform: Callable[[Any], Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # typed by whoever binds it
        return perform(written(owner, *args, **kwargs))

    bound = functools.update_wrapper(call, written)
    bound.__wrapped__ = written.__get__(owner)  # what signatures are read from: the owner is there already
    return bound

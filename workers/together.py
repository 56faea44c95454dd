"""Two things that a request waits for at once."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar, cast

First = TypeVar("First")
Second = TypeVar("Second")


async def both(first: Awaitable[First], second: Awaitable[Second]) -> tuple[First, Second]:
    """What both give, begun in this order. Where one fails the other has ended, too: nothing goes on that nobody waits for."""
    ended = await asyncio.gather(first, second, return_exceptions=True)
    for each in ended:
        if isinstance(each, BaseException):
            raise each
    return cast(tuple[First, Second], ended)

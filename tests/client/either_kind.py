"""What a call or a list of a client gives, whichever of the two kinds it is."""

import inspect


async def got(result):
    """What a call gives, of whichever client it is."""
    return await result if inspect.isawaitable(result) else result


async def listed(items) -> list:
    """All of a list, of whichever client it is."""
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)

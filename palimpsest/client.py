"""The two clients: the same methods, for programs that wait and for programs that await."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from palimpsest.errors import NotConfigured
from palimpsest.exchange import Exchange
from palimpsest.methods import Methods
from palimpsest.steps import Awaiting, Blocking

LOCAL = "http://127.0.0.1:8000"  # where `make run` serves
IN_PROCESS, NO_KEY = "http://palimpsest.embedded", "embedded"  # the embedded service has no address, and adds its key itself


def _exchange(base_url: str | None, api_key: str | None, *, timeout_s: float, retries: int, patience_s: float) -> Exchange:
    key = api_key or os.environ.get("PALIMPSEST_KEY", "")
    if not key:
        raise NotConfigured("no API key; give `api_key`, or set PALIMPSEST_KEY")
    url = base_url or os.environ.get("PALIMPSEST_URL") or LOCAL
    return Exchange(url, key, timeout_s=timeout_s, retries=retries, patience_s=patience_s)


class Client(Methods[Blocking]):
    """A memory, for a program that waits. May be used by several threads; close it, or use `with`.

    Where they are not given, address, key and bank come from PALIMPSEST_URL, PALIMPSEST_KEY and PALIMPSEST_BANK. A try lasts `timeout_s` at
    most; what may be sent again is, up to `retries` times, unless the service asks for more than `patience_s` between two tries.
    `http` brings proxies, certificates and limits of its own, and stays open.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        bank: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 4,
        patience_s: float = 30.0,
        http: httpx.Client | None = None,
    ) -> None:
        """Raises:
        NotConfigured: no key, or an address or a key that cannot be used.
        """
        exchange = _exchange(base_url, api_key, timeout_s=timeout_s, retries=retries, patience_s=patience_s)
        self._http, self._owns = http or httpx.Client(), http is None
        super().__init__(Blocking(self._http), exchange, bank or os.environ.get("PALIMPSEST_BANK") or None)

    @classmethod
    def embedded(cls, directory: str | Path, *, bank: str | None = None) -> Self:
        """A memory in this process, without a server: everything it keeps is in `directory`, which one process may use at a time.

        Loads the model, which takes seconds. Settings but those of the directory are the service's, from the environment.
        """
        from palimpsest.embedded import InProcess

        transport = InProcess(Path(directory))
        transport.ready()
        client = cls(IN_PROCESS, api_key=NO_KEY, bank=bank, http=httpx.Client(transport=transport))
        client._owns = True
        return client

    def close(self) -> None:
        """Close the connections; an embedded service is stopped."""
        if self._owns:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncClient(Methods[Awaiting]):
    """A memory, for a program that awaits; else as `Client`. Lists are for `async for`, sessions for `async with`."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        bank: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 4,
        patience_s: float = 30.0,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Raises:
        NotConfigured: no key, or an address or a key that cannot be used.
        """
        exchange = _exchange(base_url, api_key, timeout_s=timeout_s, retries=retries, patience_s=patience_s)
        self._http, self._owns = http or httpx.AsyncClient(), http is None
        super().__init__(Awaiting(self._http), exchange, bank or os.environ.get("PALIMPSEST_BANK") or None)

    @classmethod
    def embedded(cls, directory: str | Path, *, bank: str | None = None) -> Self:
        """A memory in this process, as `Client.embedded`; it is loaded beside the loop, and the first call waits for it."""
        from palimpsest.embedded import InProcess

        transport = InProcess(Path(directory))
        client = cls(IN_PROCESS, api_key=NO_KEY, bank=bank, http=httpx.AsyncClient(transport=transport))
        client._owns = True
        return client

    async def close(self) -> None:
        """Close the connections; an embedded service is stopped."""
        if self._owns:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

"""One conversation in a bank: opened before its first question, so that this is answered from memory, and closed at its end."""

import contextlib
from types import NoneType, TracebackType

from palimpsest.asking import Asking
from palimpsest.errors import NotFound
from palimpsest.exchange import Call, new_key, segment
from palimpsest.replies import OpenedSession, Warmth
from palimpsest.steps import Awaiting, Blocking, Steps, Way, method


class Session(Asking[Way]):
    """A bank as one conversation teaches and asks it: corrections carry its name. Made by `Methods.session`."""

    opened: OpenedSession  # what the service said when it was opened

    @property
    def id(self) -> str | None:
        """Its name; None while none was given and none was made."""
        return self._session_id

    @method
    def open(self) -> Steps[OpenedSession]:
        """Open it and load its bank. It is open also when nobody can load that now: then `warm` is false."""
        self.opened = yield from self._post("/v1/sessions", OpenedSession, {"id": self._session_id}, key=new_key())
        self._session_id = self.opened.id
        return self.opened

    @method
    def warm(self) -> Steps[Warmth]:
        """Load its bank before it is asked again."""
        return self._exchange.perform(Call(method="POST", path=f"{self._path()}/warm", reply=Warmth, params={"bank": self._bank}))

    @method
    def close(self) -> Steps[None]:
        """Close it; what was taught in it stays. One that was unused for so long that it is gone is closed already."""
        with contextlib.suppress(NotFound):
            yield from self._exchange.perform(Call(method="DELETE", path=self._path(), reply=NoneType, params={"bank": self._bank}))

    def __enter__(self: "Session[Blocking]") -> "Session[Blocking]":
        self.open()
        return self

    def __exit__(
        self: "Session[Blocking]", kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self: "Session[Awaiting]") -> "Session[Awaiting]":
        await self.open()
        return self

    async def __aexit__(
        self: "Session[Awaiting]", kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _path(self) -> str:
        return f"/v1/sessions/{segment(self._session_id or '')}"

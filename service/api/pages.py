"""Lists: `?limit=&cursor=` in, `{items, next_cursor}` out, by the key of the last item and never by offset.

A cursor is opaque, belongs to the list that gave it, and stays good while rows come and go: a walk sees every row that was there all
the time exactly once.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from litestar.params import QueryParameter

from service import wire
from service.errors import Invalid

Row = TypeVar("Row")
Item = TypeVar("Item")
After = TypeVar("After", str, int)

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
_SEQ_MAX = 2**63  # what databases take for an integer

Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="Items on a page.")]
Cursor = Annotated[str | None, QueryParameter(max_length=512, description="`next_cursor` of the page before.")]
Order = Annotated[Literal["oldest", "newest"], QueryParameter(description="Which of the rows come first; a cursor belongs to one order.")]
BankParam = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=128,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Name or id of the bank; else the key's one bank, else `default`.",
    ),
]


@dataclass(frozen=True, slots=True)
class Pager(Generic[After]):
    """One page of one list: `name` (with the bank in it) ties its cursors to it, `kind` is what its rows are ordered by."""

    name: str
    kind: type[After]
    limit: int
    cursor: str | None

    def after(self) -> After | None:
        """The key that the page starts behind.

        Raises:
            Invalid: not a cursor of this list.
        """
        if self.cursor is None:
            return None
        try:
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            name, after = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=tuple[str, self.kind])  # type: ignore[name-defined]
        except (msgspec.MsgspecError, binascii.Error, UnicodeError, ValueError):
            name, after = None, None
        if name != self.name or not isinstance(after, self.kind) or not _may_be_a_key(after):
            raise Invalid(
                "cursor: not a cursor of this list; start again without one",
                errors=[{"field": "cursor", "message": "not a cursor of this list"}],
            )
        return after

    async def page(
        self,
        rows: Callable[[After | None, int], Awaitable[Sequence[Row]]],
        key: Callable[[Row], After],
        shown: Callable[[Row], Item],
    ) -> wire.Page[Item]:
        """The page from `rows(after, limit)`, asked for one more than is shown to know whether there is a next one."""
        found = await rows(self.after(), self.limit + 1)
        more = len(found) > self.limit
        kept = found[: self.limit]
        return wire.Page(items=[shown(row) for row in kept], next_cursor=self._cursor(key(kept[-1])) if more else None)

    def _cursor(self, after: After) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode((self.name, after))).decode().rstrip("=")


def _may_be_a_key(after: str | int) -> bool:
    return after.isascii() and after.isprintable() if isinstance(after, str) else 0 <= after < _SEQ_MAX

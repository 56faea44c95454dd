"""What is meant by all that came from somewhere."""

from typing import TypedDict


class Source(TypedDict, total=False):
    """All corrections of a bank that were taught in one session, or with one key: name one of the two."""

    session_id: str
    key_id: str

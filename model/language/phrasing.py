"""A conversation as text: the lines of the user are quoted as in letters (`> `), those of the assistant not, a blank line ends an answer.

The same for what is learned and for what is asked, whatever the model is: a question is asked in the form in which it was taught. Marks are
short, so that an answer stands right behind its question, where even a small model connects the two.
"""

from collections.abc import Sequence
from typing import NamedTuple

END = "\n\n"  # of what somebody says: nothing that is said has a blank line within
MARKS = {"assistant": "", "system": "# ", "developer": "# "}  # everybody else is the user
QUOTED = "> "


class Line(NamedTuple):
    """What somebody says."""

    role: str
    text: str


def exchange(said: str, answer: str | None) -> str:
    """What the user said, and the right answer where it is known, as it is learned."""
    told = _told(Line("user", said))
    return told + END if answer is None else f"{told}\n{_told(Line('assistant', answer))}{END}"


def question(said: str) -> str:
    """The beginning of an `exchange` that its answer stands behind."""
    return _told(Line("user", said)) + "\n"


def prompt(lines: Sequence[Line]) -> str:
    """A conversation up to where the assistant goes on: after its own unfinished words, if the last ones are its own."""
    *before, last = lines
    told = "".join(_told(line) + (END if line.role == "assistant" else "\n") for line in before) + _told(last)
    return told if last.role == "assistant" else f"{told}\n"


def _told(line: Line) -> str:
    mark = MARKS.get(line.role, QUOTED)
    return "\n".join(mark + part.strip() for part in line.text.split("\n") if part.strip())  # in one pass, however long the text

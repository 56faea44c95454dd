"""A conversation as text: who speaks on a line of its own, then what is said, then a blank line, as plays are printed.

The same for what is learned and for what is asked, whatever the model is: a question is asked in the form in which it was taught.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

END = "\n\n"  # of what somebody says: nothing that is said has a blank line within
SPEAKERS = {"assistant": "Assistant", "system": "System", "developer": "System"}  # everybody else is the user
_BLANK = re.compile(r"\s*\n\s*\n\s*")


class Line(NamedTuple):
    """What somebody says."""

    role: str
    text: str


def exchange(said: str, answer: str | None) -> str:
    """What the user said, and the right answer where it is known, as it is learned."""
    lines = [Line("user", said)] + ([] if answer is None else [Line("assistant", answer)])
    return "".join(_told(line) + END for line in lines)


def prompt(lines: Sequence[Line]) -> str:
    """A conversation up to where the assistant goes on: after its own unfinished words, if the last ones are its own."""
    *before, last = lines
    told = "".join(_told(line) + END for line in before) + _told(last)
    return told if last.role == "assistant" else f"{told}{END}{SPEAKERS['assistant']}:\n"


def _told(line: Line) -> str:
    said = _BLANK.sub("\n", line.text.strip())
    return f"{SPEAKERS.get(line.role, 'User')}:\n{said}"

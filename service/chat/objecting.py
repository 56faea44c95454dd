"""Whether the user's last message plainly corrects the answer before it, and what was right then.

A question of form: the message denies the answer ("No, …", "That's wrong: …") or names the right one ("The correct answer is …"), and says
what is right. A denial alone teaches nothing, and a question or a wish is no correction. What is found is only proposed, and somebody
confirms it; so a correction that is not found costs more words, and one that is none costs a glance. English only.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from service import wire
from service.chat.composing import text_of

RIGHT_MAX = 2_000  # characters; who says more than this explains, and does not name what is right


class Objection(NamedTuple):
    """In the situation `input` the answer was `wrong`, and `right` is right."""

    input: str
    wrong: str
    right: str


_DENIED = (
    r"(?:(?:no|nope)[,.!;:\s—–-]+)?"
    r"(?:(?:that|this|it|the (?:answer|last answer))(?:'s| is| was|s)?\s+(?:still\s+)?"
    r"(?:wrong|incorrect|false|mistaken|outdated|not (?:quite )?(?:right|correct|true|it))"
    r"|you(?:'re| are| were)\s+(?:wrong|mistaken|incorrect)|wrong|incorrect|not (?:quite )?(?:right|correct|true))"
)
_NAMED = (
    r"(?:(?:the|its)\s+(?:right|correct|proper|actual)\s+(?:answer|one|value|name|way|command|response|choice)"
    r"\s+(?:is|was|would be|would have been|should be)"
    r"|you should(?:'ve| have)?\s+(?:said|answered|say|answer)"
    r"|(?:it|that|the answer)\s+should(?:'ve| have)?\s+(?:be|been|say|said))"
)
_STATED = (
    r"(?=(?:the|our|its|their|your|my|his|her)\s+[^.!?]*?"
    r"\b(?:is|are|was|were|has|have|goes|go|needs?|takes?|costs?|lives?|belongs?|must|should|can)\b)"
)
_IS = r"(?:it(?:'s| is| was)|they(?:'re| are| were))"
_GAP = r"[,.!;:\s—–-]+"

_NAMING = re.compile(
    rf"^(?:(?:no|nope|actually|sorry|{_DENIED}){_GAP}(?:but\s+|actually{_GAP})?)?{_NAMED}[,:\s]+(?P<right>.+)$", re.IGNORECASE
)
_DENYING = [
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"^{_DENIED}{_GAP}(?:actually{_GAP})?(?:{_IS}\s+)?(?P<right>.+)$",
        rf"^(?:no|nope){_GAP}(?:actually{_GAP})?{_IS}\s+(?P<right>.+)$",
        rf"^(?:no|nope){_GAP}(?:actually{_GAP})?{_STATED}(?P<right>.+)$",
    )
]
_QUOTED = re.compile(r"""^["'“‘`«]+([^"“”`«»]*?)["'”’`»]+$""")
_OTHER_THAN = re.compile(r",\s+not\s+[^,]*$", re.IGNORECASE)  # "…, not tomorrow"
_NOTHING = re.compile(  # what may follow a denial and says nothing of what is right
    r"^(?:fine|ok(?:ay)?|good|great|all(?: right| good)?|alright|enough|nothing|right|correct|true|i|we|please|try|let's|can|could|again"
    r"|thanks?|wrong|incorrect|still|but|sorry|you(?!\s+(?:have|need|must|should|can|may|go|get|find|use|change)))\b",
    re.IGNORECASE,
)


def objection(messages: Sequence[wire.ChatMessage]) -> Objection | None:
    """What the last message corrects: it is the user's, the one before it an answer in words, and before that is what was asked."""
    if len(messages) < 3 or messages[-1].role != "user" or messages[-2].role != "assistant":
        return None
    asked = next((text_of(message) for message in reversed(messages[:-2]) if message.role == "user"), "")
    answered, said = text_of(messages[-2]), text_of(messages[-1])
    right = stated(said)
    if right is None or not asked.strip() or not answered.strip() or right == answered.strip():
        return None
    if any("\x00" in text or len(text) > wire.TEXT_MAX for text in (asked, answered, right)):
        return None  # no correction can hold it
    return Objection(asked, answered, right)


def stated(said: str) -> str | None:
    """What a message that plainly denies an answer names as the right one; None if it is no such message."""
    if "?" in said or len(said) > RIGHT_MAX:
        return None
    plain = " ".join(said.replace("’", "'").split())
    named = _NAMING.match(plain)
    denied = named or next((found for form in _DENYING if (found := form.match(plain))), None)
    if denied is None:
        return None
    right = _bare(denied["right"])
    said_nothing = right.lower().startswith("not ") or (named is None and _NOTHING.match(right))
    return None if said_nothing or not any(sign.isalnum() for sign in right) else right


def _bare(right: str) -> str:
    """Without what is around it: quotation marks, the end of its one sentence, what it is not."""
    right = right.strip()
    if right[-1:] in ".!" and not re.search(r"[.!]\s", right):
        right = right[:-1]
    right = _OTHER_THAN.sub("", right)
    quoted = _QUOTED.match(right)
    return (quoted[1] if quoted else right).strip()

"""What a field's type cannot say about text: blank, NUL, half characters, and metadata that is too large.

NUL cannot be stored in PostgreSQL and half a surrogate pair cannot be encoded; both are refused here for every database alike.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from service import wire
from service.errors import Invalid, NotFound

METADATA_BYTES = 8 * 1024  # as compact JSON
METADATA_DEPTH = 8
_INT_MAX = 2**63

Fault = dict[str, str]


def check_corrections(items: Sequence[wire.NewCorrection], *, batch: bool) -> None:
    """Refuse corrections with texts or metadata that cannot be kept; `errors` names every field.

    Raises:
        Invalid: with one entry per field.
    """
    faults: list[Fault] = []
    for place, item in enumerate(items):
        within = f"items[{place}]." if batch else ""
        faults += _text(f"{within}input", item.input) + _text(f"{within}right", item.right)
        if item.wrong is not None:
            faults += _text(f"{within}wrong", item.wrong)
        for number, paraphrase in enumerate(item.paraphrases):
            faults += _text(f"{within}paraphrases[{number}]", paraphrase)
        faults += _metadata(f"{within}metadata", item.metadata)
    _raise(faults)


def check_inputs(field: str, inputs: Sequence[str]) -> None:
    """Refuse questions that are blank or cannot be encoded.

    Raises:
        Invalid: with one entry per input.
    """
    many = field == "inputs"
    _raise([fault for place, text in enumerate(inputs) for fault in _text(f"{field}[{place}]" if many else field, text)])


def check_probes(probes: Sequence[wire.Probe]) -> None:
    """Refuse probes whose texts cannot be kept.

    Raises:
        Invalid: with one entry per field.
    """
    faults: list[Fault] = []
    for place, probe in enumerate(probes):
        faults += _text(f"probes[{place}].input", probe.input)
        if probe.expected is not None:
            faults += _text(f"probes[{place}].expected", probe.expected)
    _raise(faults)


def check_note(field: str, text: str | None) -> None:
    """Refuse NUL and half characters in a free text that may be blank.

    Raises:
        Invalid: naming the field.
    """
    if text is not None and (why := _unstorable(text)):
        _raise([{"field": field, "message": why}])


def check_bank_name(name: str, field: str = "name") -> None:
    """Refuse a name under which no path could reach the bank: servers and proxies take an encoded slash for a slash.

    Raises:
        Invalid: naming the field.
    """
    if "/" in name:
        _raise([{"field": field, "message": "holds a slash, and a bank's name stands in paths; take another sign, such as a colon"}])
    if name in (".", ".."):
        _raise([{"field": field, "message": "is a step in a path, and a bank's name stands in paths; take another name"}])


def known_form(given: str) -> str:
    """An id from a path, if it can be one at all.

    Raises:
        NotFound: no id looks like this.
    """
    if not given.isascii() or not given.isprintable() or len(given) > 128:
        raise NotFound()
    return given


def known_name(given: str) -> str:
    """The name or id of a bank from a path, if it can be one at all.

    Raises:
        NotFound: no name looks like this.
    """
    if len(given) > 128 or any(sign < " " or sign == "\x7f" for sign in given):
        raise NotFound()
    return given


def _text(field: str, text: str) -> list[Fault]:
    why = _unstorable(text) or ("blank" if not text.strip() else "")
    return [{"field": field, "message": why}] if why else []


def _unstorable(text: str) -> str:
    if "\x00" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    return ""


def _metadata(field: str, metadata: dict[str, Any]) -> list[Fault]:
    if not metadata:
        return []
    why = next(_metadata_faults(metadata, 1), "")
    if not why and (size := len(msgspec.json.encode(metadata))) > METADATA_BYTES:
        why = f"has {size} bytes as JSON; {METADATA_BYTES} are the most"
    return [{"field": field, "message": why}] if why else []


def _metadata_faults(value: object, depth: int) -> Iterator[str]:
    if depth > METADATA_DEPTH:
        yield f"is nested deeper than {METADATA_DEPTH}"
        return
    match value:
        case dict():
            for name, inner in value.items():
                yield from _metadata_faults(name, depth)
                yield from _metadata_faults(inner, depth + 1)
        case list():
            for inner in value:
                yield from _metadata_faults(inner, depth + 1)
        case str() if why := _unstorable(value):
            yield why
        case int() if not -_INT_MAX <= value < _INT_MAX:
            yield "holds an integer beyond 64 bits"
        case _:
            return


def _raise(faults: list[Fault]) -> None:
    if faults:
        first = faults[0]
        raise Invalid(f"{first['field']}: {first['message']}", errors=faults)

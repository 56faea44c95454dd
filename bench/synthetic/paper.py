"""The rows that the paper prints for these tasks (Nested Learning, full version, tables 4 and 5), in the order of its tables."""

from collections.abc import Mapping

Row = tuple[float, ...]
Bins = tuple[tuple[float, float], ...]  # bin 0 and bin 1 of each language

LANGUAGES = ("parity", "(aa)*", "(abab)*", "a^n b^n", "a^n b^n c^n", "shuffle-2")
MAD = ("compression", "in-context recall", "fuzzy recall", "selective copying", "memorization")

_ALL, _NONE = (100.0, 100.0), (0.0, 0.0)
_COUNTERS = (_ALL,) * 3

TABLE_5: Mapping[str, Bins] = {
    "LSTM": (_ALL,) * 6,
    "Transformer": ((46.4, 0.0), _NONE, _NONE, *_COUNTERS),
    "linear Transformer": ((78.1, 0.0), _NONE, _NONE, *_COUNTERS),
    "DeltaNet": ((98.2, 10.1), _NONE, _NONE, *_COUNTERS),
    "SRWM": (_ALL,) * 6,
    "Hope": (_ALL,) * 6,
}
TABLE_4: Mapping[str, Row] = {
    "Transformer": (49.4, 100.0, 47.9, 96.2, 83.7),
    "RWKV-7": (45.1, 100.0, 32.8, 95.6, 82.2),
    "Comba": (46.3, 100.0, 32.8, 96.4, 82.9),
    "Titans": (49.8, 100.0, 50.0, 99.4, 83.4),
    "Hope": (51.2, 100.0, 52.1, 99.7, 85.2),
}

"""Lineage: which events of a bank's ledger a state holds, as spans of seq numbers.

A span `(after, upto)` stands for the events `after < seq <= upto`; `Spans` are disjoint, ascending and never touch. A snapshot's
spans are exactly the events in its weights, so rollback and forgetting need no marks on events: rolling back copies the old spans,
forgetting one event exactly subtracts it, one that is quarantined is subtracted for as long (and kept in mind beside the spans, as
`held`), and a snapshot can serve as the base of a fold if and only if it holds just the events
that the wanted state holds up to the same seq. Pure functions; the property tests fold sets of integers beside them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

Spans = tuple[tuple[int, int], ...]


def normal(spans: Iterable[Sequence[int]]) -> Spans:
    """Ascending, disjoint, merged spans; empty ones are dropped."""
    merged: list[tuple[int, int]] = []
    for after, upto in sorted((int(a), int(b)) for a, b in spans):
        if after >= upto:
            continue
        if merged and after <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], upto))
        else:
            merged.append((after, upto))
    return tuple(merged)


def restrict(spans: Spans, upto: int) -> Spans:
    """The part at or below `upto`."""
    return normal((after, min(end, upto)) for after, end in spans)


def above(spans: Spans, after: int) -> Spans:
    """The part above `after`."""
    return normal((max(begin, after), upto) for begin, upto in spans)


def only(seqs: Iterable[int]) -> Spans:
    """The single events `seqs` and no others."""
    return normal((seq - 1, seq) for seq in seqs)


def without(spans: Spans, other: Spans) -> Spans:
    """The events of `spans` that are not in `other`."""
    left: list[tuple[int, int]] = []
    for begin, upto in spans:
        at = begin
        for after, end in other:
            if end > at and after < upto:
                left.append((at, after))  # empty or turned round where `other` begins before: `normal` drops it
                at = end
        left.append((at, upto))
    return normal(left)


def events_of(spans: Spans) -> list[int]:
    """The seq numbers inside, in order."""
    return [seq for after, upto in spans for seq in range(after + 1, upto + 1)]


def subtract(spans: Spans, seqs: Iterable[int]) -> Spans:
    """Without the single events `seqs`."""
    left: list[tuple[int, int]] = []
    gone = sorted(set(seqs))
    for begin, end in spans:
        at = begin
        for seq in gone[bisect_right(gone, begin) : bisect_right(gone, end)]:
            if at < seq - 1:
                left.append((at, seq - 1))
            at = seq
        if at < end:
            left.append((at, end))
    return tuple(left)


def holds(spans: Spans, seq: int) -> bool:
    """Whether the event `seq` is inside."""
    place = bisect_left(spans, (seq,)) - 1  # the last span that begins before seq
    return place >= 0 and spans[place][1] >= seq


def spread(spans: Spans, most: int) -> list[int]:
    """At most so many of the events inside, evenly spread, the last one among them; in order."""
    size = count(spans)
    wanted = [size - 1 - place * size // most for place in range(most)][::-1] if size > most else list(range(size))
    found: list[int] = []
    before = 0
    for after, upto in spans:
        here = range(bisect_left(wanted, before), bisect_left(wanted, before + upto - after))
        found += [after + 1 + wanted[place] - before for place in here]
        before += upto - after
    return found


def newest(spans: Spans, most: int) -> list[int]:
    """At most so many of the events inside, the last ones; in order."""
    found: list[int] = []
    for after, upto in reversed(spans):
        if len(found) >= most:
            break
        found += range(upto, max(after, upto - (most - len(found))), -1)
    return found[::-1]


def with_next(spans: Spans, seq: int) -> Spans:
    """With the event `seq`, which is above all that are inside."""
    if spans and spans[-1][1] == seq - 1:
        return (*spans[:-1], (spans[-1][0], seq))
    return (*spans, (seq - 1, seq))


def count(spans: Spans) -> int:
    """How many seq numbers are inside."""
    return sum(upto - after for after, upto in spans)


def live(base: Spans, base_seq: int, seq: int, forgotten: Iterable[int]) -> Spans:
    """The events of a bank whose head was taken at `base_seq` with `base`, now at `seq`, minus the forgotten ones."""
    return subtract(normal((*base, (base_seq, seq))), forgotten)


def among(spans: Spans, seqs: Iterable[int]) -> Spans:
    """Those of the single events `seqs` that are inside."""
    return normal((seq - 1, seq) for seq in seqs if holds(spans, seq))


def can_serve(candidate: Spans, candidate_seq: int, wanted: Spans) -> bool:
    """Whether a snapshot of `candidate` at `candidate_seq` is a base from which `wanted` can be folded."""
    return restrict(wanted, candidate_seq) == candidate

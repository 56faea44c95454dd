"""What has become of a correction: active, superseded, rolled back or forgotten. Pure arithmetic on the bank's lineage."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.store.lineage import Spans, holds, live
from service.wire import CorrectionStatus


@dataclass(frozen=True, slots=True)
class Standing:
    """The events that belong to a bank now, those that were forgotten in whatever mode, and those in quarantine."""

    spans: Spans
    forgotten: frozenset[int]
    quarantined: frozenset[int] = frozenset()

    @classmethod
    def of(cls, head_spans: Spans, head_seq: int, bank_seq: int, forgotten: Iterable[int], quarantined: Iterable[int] = ()) -> "Standing":
        """The standing of a bank at `bank_seq` whose head covers `head_seq` with `head_spans`, those that it holds apart among them."""
        return cls(live(head_spans, head_seq, bank_seq, ()), frozenset(forgotten), frozenset(quarantined))

    def status(self, seq: int, response: int | None, later: Sequence[tuple[int, int]]) -> CorrectionStatus:
        """The status of the correction `seq`; `later` are the (seq, response) of later corrections with the same input."""
        if seq in self.forgotten or response is None:  # an erased row has no response any more
            return "forgotten"
        if seq in self.quarantined:
            return "quarantined"
        if not holds(self.spans, seq):
            return "rolled_back"
        hidden = self.forgotten | self.quarantined
        newer = any(other != response and at not in hidden and holds(self.spans, at) for at, other in later)
        return "superseded" if newer else "active"

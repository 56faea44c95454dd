"""What has become of a correction: active, superseded, rolled back or forgotten. Pure arithmetic on the bank's lineage."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.store.lineage import Spans, holds, live
from service.wire import CorrectionStatus


@dataclass(frozen=True, slots=True)
class Standing:
    """The events that a bank answers from now, and those that were forgotten in whatever mode."""

    spans: Spans
    forgotten: frozenset[int]

    @classmethod
    def of(cls, head_spans: Spans, head_seq: int, bank_seq: int, forgotten: Iterable[int]) -> "Standing":
        """The standing of a bank at `bank_seq` whose head covers `head_seq` with `head_spans`."""
        return cls(live(head_spans, head_seq, bank_seq, ()), frozenset(forgotten))

    def status(self, seq: int, response: int | None, later: Sequence[tuple[int, int]]) -> CorrectionStatus:
        """The status of the correction `seq`; `later` are the (seq, response) of later corrections with the same input."""
        if seq in self.forgotten or response is None:  # an erased row has no response any more
            return "forgotten"
        if not holds(self.spans, seq):
            return "rolled_back"
        newer = any(other != response and at not in self.forgotten and holds(self.spans, at) for at, other in later)
        return "superseded" if newer else "active"

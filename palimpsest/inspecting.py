"""Looking into a bank: what is known and how strongly, why it answers so, and how it came to this. Nothing here changes what it knows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Literal

from palimpsest.asking import Asking
from palimpsest.exchange import new_key, segment
from palimpsest.jobs import StartedJob
from palimpsest.replies import (
    Correction,
    EventRow,
    Explained,
    JobStarted,
    Levels,
    Memory,
    Page,
    Probe,
    Probed,
    ProbeSet,
    RanProbeSet,
    Stats,
    Trace,
)
from palimpsest.steps import Listing, Steps, Way, listing, method

HEAD = "head"  # the present state, where a version is named
Order = Literal["oldest", "newest"]


class Inspecting(Asking[Way]):
    """The calls that look."""

    @listing
    def corrections(self, *, order: Order = "oldest", bank: str | None = None) -> Listing[Correction]:
        """Corrections with their status, in the order they were taught, or the newest first."""
        return self._list("/v1/corrections", Page[Correction], bank, params={"order": order})

    @method
    def get_correction(self, correction_id: str, *, bank: str | None = None) -> Steps[Correction]:
        """One correction."""
        return self._get(f"/v1/corrections/{segment(correction_id)}", Correction, bank)

    @listing
    def search(self, words: str, *, bank: str | None = None) -> Listing[Correction]:
        """Corrections in whose texts or metadata all the words, or parts of words, are found, newest first."""
        return self._list("/v1/memory/search", Page[Correction], bank, params={"q": words})

    @listing
    def events(self, *, bank: str | None = None) -> Listing[EventRow]:
        """The ledger, row by row, with each row's place in the hash chain."""
        return self._list("/v1/events", Page[EventRow], bank)

    @method
    def memory(self, *, bank: str | None = None) -> Steps[Memory]:
        """The learned state as a whole: levels, counts, digest."""
        return self._get("/v1/memory", Memory, bank, fresh=True)

    @method
    def levels(self, *, sample: int | None = None, bank: str | None = None) -> Steps[Levels]:
        """Each level: its clock, its drift, and what it would know alone, asked of up to `sample` live corrections."""
        return self._get("/v1/memory/levels", Levels, bank, params={"sample": sample})

    @method
    def trace(self, correction_id: str, *, bank: str | None = None) -> Steps[Trace]:
        """Where a correction lives: its strength by level and by snapshot, and what superseded or removed it."""
        return self._get(f"/v1/memory/corrections/{segment(correction_id)}/trace", Trace, bank)

    @method
    def stats(
        self, bucket: str = "day", *, since: datetime | None = None, until: datetime | None = None, bank: str | None = None
    ) -> Steps[Stats]:
        """Corrections, mistakes, surprise and drift by `hour`, `day` or `week`. Times name their zone."""
        between = {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at is not None}
        return self._get("/v1/stats", Stats, bank, params={"bucket": bucket, **between})

    @method
    def probe(self, inputs: Sequence[str], at: Sequence[str] = (HEAD,), *, bank: str | None = None) -> Steps[Probed]:
        """Ask up to 200 inputs of up to 20 versions, snapshots or `head`: a row for each input, a cell in it for each version."""
        return self._post("/v1/memory/probe", Probed, {"inputs": list(inputs), "at": list(at)}, bank=bank)

    @method
    def explain(self, input: str, *, at: str = HEAD, sample: int | None = None, bank: str | None = None) -> Steps[Explained]:
        """Why the memory answers so: the corrections that carry the answer, what each level adds, and the best other answer.

        `sample` corrections, those nearest to the input, are left out one at a time.
        """
        return self._post("/v1/memory/explain", Explained, {"input": input, "at": at, "sample": sample}, bank=bank)

    @method
    def bisect(self, input: str, *, since: str | None = None, until: str | None = None, bank: str | None = None) -> Steps[StartedJob[Way]]:
        """Find the correction that brought the present answer, or that of the snapshot `until`: among all or those after `since`.

        The `result` of the job names it, and the snapshots before and after.
        """
        body = {"input": input, "since": since, "until": until}
        started = yield from self._post("/v1/memory/bisect", JobStarted, body, bank=bank, key=new_key())
        return StartedJob(self._way, self._exchange, started.job_id, deduplicated=started.deduplicated)

    @method
    def save_probe_set(self, name: str, probes: Mapping[str, str | None], *, bank: str | None = None) -> Steps[ProbeSet]:
        """Save questions with their right answers; None where the memory should abstain."""
        asked = [Probe(input=asked, expected=expected) for asked, expected in probes.items()]
        return self._post("/v1/probe-sets", ProbeSet, {"name": name, "probes": asked}, bank=bank, key=new_key())

    @listing
    def probe_sets(self, *, bank: str | None = None) -> Listing[ProbeSet]:
        """The probe sets of a bank, without their probes."""
        return self._list("/v1/probe-sets", Page[ProbeSet], bank)

    @method
    def get_probe_set(self, probe_set_id: str) -> Steps[ProbeSet]:
        """One probe set, with its probes."""
        return self._get(f"/v1/probe-sets/{segment(probe_set_id)}", ProbeSet, None, by_bank=False)

    @method
    def change_probe_set(self, probe_set_id: str, probes: Mapping[str, str | None]) -> Steps[ProbeSet]:
        """Put other questions in the place of all that a probe set has."""
        asked = [Probe(input=asked, expected=expected) for asked, expected in probes.items()]
        return self._call("PUT", f"/v1/probe-sets/{segment(probe_set_id)}", ProbeSet, None, body={"probes": asked}, by_bank=False)

    @method
    def delete_probe_set(self, probe_set_id: str) -> Steps[None]:
        """Delete a probe set for good."""
        return self._call("DELETE", f"/v1/probe-sets/{segment(probe_set_id)}", NoneType, None, by_bank=False)

    @method
    def run_probe_set(self, probe_set_id: str, at: Sequence[str] = (HEAD,)) -> Steps[RanProbeSet]:
        """Which probes each of up to 20 versions passes."""
        return self._post(f"/v1/probe-sets/{segment(probe_set_id)}/run", RanProbeSet, {"at": list(at)}, by_bank=False)

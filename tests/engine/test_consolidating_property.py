"""Whatever was consolidated between lessons: what is forgotten leaves no trace, and a quarantine that is lifted none either."""

import numpy as np
import pytest
from fixtures_service import Lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_lineage_property import RESPONSES, SITUATIONS

teach = st.tuples(st.just("teach"), st.integers(0, len(SITUATIONS) - 1), st.integers(0, len(RESPONSES) - 1))
step = st.one_of(teach, teach, teach, st.tuples(st.just("consolidate")), st.tuples(st.just("snapshot")), st.tuples(st.just("cold")))
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def lab(tmp_path_factory, encoder):
    """A service whose consolidations train the slow level with three corrections."""
    made = Lab(tmp_path_factory.mktemp("lab") / "var", encoder, memory={"slow_from": 3})
    yield made
    made.close()


class Bank:
    """A bank that is told what to do over REST."""

    def __init__(self, lab) -> None:
        self.lab, self.taught = lab, []
        self.id = lab.call("POST", "/v1/banks", {"name": f"bank {np.random.default_rng().integers(1 << 60)}"}, expect=201)["id"]

    def post(self, path: str, body: dict, expect: int) -> dict:
        return self.lab.call("POST", path, {"bank": self.id, **body}, expect=expect)

    def do(self, name: str, *arguments: int) -> None:
        getattr(self, name)(*arguments)

    def teach(self, situation: int, response: int) -> None:
        self.taught.append(self.post("/v1/corrections", {"input": SITUATIONS[situation], "right": RESPONSES[response]}, 201)["id"])

    def consolidate(self) -> None:
        self.ended(self.post("/v1/consolidations", {}, 202))

    def snapshot(self) -> None:
        self.post("/v1/snapshots", {}, 201)

    def cold(self) -> None:
        self.lab.service.engine.banks.drop(self.id)

    def ended(self, said: dict) -> None:
        job = self.lab.finished(said["job_id"])
        assert job["status"] == "succeeded", job

    def digest(self) -> str:
        return self.lab.call("GET", f"/v1/memory?bank={self.id}", expect=200)["digest"]


@pytest.mark.timeout(300)
@few
@given(steps=st.lists(step, min_size=6, max_size=16), chosen=st.integers(0, 20))
def test_a_bank_that_forgets_is_one_that_never_saw_it_and_was_not_consolidated_since(lab, steps, chosen):
    lessons = [place for place, (name, *_) in enumerate(steps) if name == "teach"]
    if not lessons:
        return
    forgotten = lessons[chosen % len(lessons)]
    saw, never = Bank(lab), Bank(lab)
    for place, move in enumerate(steps):
        saw.do(*move)
        if place < forgotten or (place > forgotten and move[0] != "consolidate"):
            never.do(*move)
    gone = saw.taught[lessons.index(forgotten)]
    saw.ended(saw.post("/v1/forget", {"corrections": [gone], "mode": "rebuild"}, 202))
    assert saw.digest() == never.digest()
    saw.cold()
    assert saw.digest() == never.digest(), "after a cold start"
    for bank in (saw, never):
        bank.consolidate()
    assert saw.digest() == never.digest(), "and after the consolidation that it owes"


@pytest.mark.timeout(300)
@few
@given(steps=st.lists(step, min_size=6, max_size=14), chosen=st.integers(0, 20), more=st.lists(teach, max_size=3))
def test_a_bank_is_what_it_would_be_when_a_quarantine_was_lifted(lab, steps, chosen, more):
    held, plain = Bank(lab), Bank(lab)
    for move in steps:
        held.do(*move)
        plain.do(*move)
    if not held.taught:
        return
    said = held.post("/v1/quarantine", {"corrections": [held.taught[chosen % len(held.taught)]]}, 202)
    held.ended(said)
    for move in more:
        held.do(*move)
        plain.do(*move)
    held.ended(lab.call("DELETE", f"/v1/quarantine/{said['id']}", expect=202))
    assert held.digest() == plain.digest()
    held.cold()
    assert held.digest() == plain.digest(), "after a cold start"

"""Whatever happens to a bank, its weights are the fold of exactly the events that should be in them (I8), also after it is loaded cold.

And every rollback, wherever it leads, does what its dry run told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model import Lesson, Recall, RecallConfig
from workers.encoding import own_words

SITUATIONS = [
    "Where do I change my PIN?",
    "The card machine swallowed my card",
    "How long does a transfer to Spain take?",
    "I was charged twice for one coffee",
    "Can my daughter get a card of her own?",
    "My new phone does not show the app",
    "What is the exchange rate for yen today?",
]
RESPONSES = ["change_pin", "card_swallowed", "transfer_time", "charged_twice", "get_card"]

teach = st.tuples(st.just("teach"), st.integers(0, len(SITUATIONS) - 1), st.integers(0, len(RESPONSES) - 1))
pick = st.integers(0, 20)
step = st.one_of(
    teach,
    teach,
    teach,
    st.tuples(st.just("snapshot")),
    st.tuples(st.just("roll_back"), pick),
    st.tuples(st.just("roll_back_keeping_later"), pick),
    st.tuples(st.just("roll_back_keeping_one"), pick, pick),
    st.tuples(st.just("roll_back_to_a_time"), pick),
    st.tuples(st.just("roll_back_a_session"), st.integers(0, 1)),
    st.tuples(st.just("suppress"), pick),
    st.tuples(st.just("rebuild"), pick),
    st.tuples(st.just("erase"), pick),
    st.tuples(st.just("quarantine"), pick),
    st.tuples(st.just("lift"), pick),
    st.tuples(st.just("consolidate")),
    st.tuples(st.just("cold")),
)


@dataclass
class Reference:
    """What should be in the weights, in a few plain lists."""

    ids: list[str] = field(default_factory=list)  # of every correction, in ledger order
    taught: list[tuple[int, int]] = field(default_factory=list)  # situation, response
    inside: list[int] = field(default_factory=list)  # places (in `ids`) of the events in the weights, but for those in quarantine
    held: dict[str, set[int]] = field(default_factory=dict)  # quarantines that are set, and what they hold
    suppressed: set[int] = field(default_factory=set)
    exact: set[int] = field(default_factory=set)
    saved: list[tuple[str, list[int], set[int], int]] = field(
        default_factory=list
    )  # snapshot, its events, those held, length of the ledger
    moments: list[tuple[str, list[int], set[int]]] = field(default_factory=list)  # time, the events of the state then, those held

    @property
    def apart(self) -> set[int]:
        return set().union(*self.held.values())

    @property
    def wanted(self) -> list[int]:
        return [place for place in self.inside if place not in self.apart]

    @property
    def gone(self) -> set[int]:
        return self.suppressed | self.exact

    def again(self, inside: list[int], apart: set[int]) -> list[int]:
        """What belongs to a state that is gone back to: of what was held in it, only what is so now."""
        return [place for place in inside if place not in apart or place in self.apart]


class Story:
    """Drives a bank over REST beside the reference."""

    def __init__(self, lab, bank: str, encoder) -> None:
        self.lab, self.bank, self.encoder, self.reference = lab, bank, encoder, Reference()

    def post(self, path: str, body: dict, expect: int) -> dict:
        return self.lab.call("POST", path, {"bank": self.bank, **body}, expect=expect)

    def do(self, name: str, *arguments: int) -> None:
        getattr(self, name)(*arguments)
        known = self.reference
        known.moments.append((datetime.now(UTC).isoformat(), list(known.inside), known.apart))

    def teach(self, situation: int, response: int) -> None:
        body = {"input": SITUATIONS[situation], "right": RESPONSES[response], "session_id": f"ses:{situation % 2}"}
        said = self.post("/v1/corrections", body, 201)
        known = self.reference
        known.inside.append(len(known.ids))
        known.ids.append(said["id"])
        known.taught.append((situation, response))

    def snapshot(self) -> None:
        self._save(self.post("/v1/snapshots", {}, 201)["id"])

    def roll_back(self, which: int) -> None:
        if self.reference.saved:
            self._roll_back_to(which)

    def roll_back_keeping_later(self, which: int) -> None:
        known = self.reference
        if known.saved:
            *_, length = self._saved(which)
            later = [place for place in known.inside if place >= length and place not in known.gone]
            self._roll_back_to(which, keep="corrections_after", kept=later)

    def roll_back_keeping_one(self, which: int, chosen: int) -> None:
        known = self.reference
        if not known.saved or not known.ids:
            return
        _, inside, apart, _ = self._saved(which)
        place = chosen % len(known.ids)
        tainted = (set(inside) - apart) & known.exact
        if place in known.gone | known.apart and not tainted:
            assert self.post("/v1/rollback", self._to(which, keep=[known.ids[place]]), 409)["code"] == "conflict"
            return
        self._roll_back_to(which, keep=[known.ids[place]], kept=[place])

    def roll_back_to_a_time(self, which: int) -> None:
        known = self.reference
        if known.moments:
            time, inside, apart = known.moments[which % len(known.moments)]
            self._roll_back({"to_time": time}, [place for place in known.again(inside, apart) if place not in known.exact])

    def roll_back_a_session(self, number: int) -> None:
        known = self.reference
        name = f"ses:{number}"
        if not any(situation % 2 == number for situation, _ in known.taught):
            self.post("/v1/rollback", {"source": {"session_id": name}}, 404)
            return
        self._roll_back({"source": {"session_id": name}}, [place for place in known.inside if known.taught[place][0] % 2 != number])

    def _save(self, snapshot: str) -> None:
        known = self.reference
        known.saved.append((snapshot, list(known.inside), known.apart, len(known.ids)))

    def _saved(self, which: int) -> tuple[str, list[int], set[int], int]:
        return self.reference.saved[which % len(self.reference.saved)]

    def _to(self, which: int, **more: object) -> dict:
        return {"to": self._saved(which)[0], **more}

    def _roll_back_to(self, which: int, kept: Sequence[int] = (), **more: object) -> None:
        """The rollback to a snapshot, which is refused where its weights hold what was exactly forgotten."""
        known = self.reference
        _, inside, apart, _ = self._saved(which)
        if (set(inside) - apart) & known.exact:
            assert self.post("/v1/rollback", self._to(which, **more), 409)["code"] == "tainted-snapshot"
            return
        whole = {place for place in known.again(inside, apart) if place not in known.exact}
        self._roll_back(self._to(which, **more), sorted({*whole, *kept}))

    def _roll_back(self, body: dict, inside: list[int]) -> None:
        """The rollback, which has to do what its dry run told; `inside`: what belongs to the state then."""
        known = self.reference
        before, preview = self.answers(), self.post("/v1/rollback", {**body, "dry_run": True}, 200)
        said = self.post("/v1/rollback", body, 200)
        after, was = self.answers(), set(known.wanted)
        self._save(said["pre_rollback"])
        known.inside = inside
        told = {name: preview[name] for name in ("flips", "probes", "removed", "restored")}
        assert told == {name: said[name] for name in told}
        hidden = known.gone | known.apart
        asked = {SITUATIONS[known.taught[place][0]] for place in range(len(known.ids)) if place not in hidden}
        flips = {(flip["input"], flip["before"]["value"], flip["after"]["value"]) for flip in preview["flips"]}
        assert flips == {(text, before[text], after[text]) for text in asked if before[text] != after[text]}
        now = set(known.wanted)
        assert (said["removed"], said["restored"]) == (len(was - now), len(now - was))

    def quarantine(self, which: int) -> None:
        known = self.reference
        if not known.ids:
            return
        place = which % len(known.ids)
        said = self.post("/v1/quarantine", {"corrections": [known.ids[place]]}, 202)
        assert self.lab.finished(said["job_id"])["status"] == "succeeded"
        known.held[said["id"]] = {place}

    def lift(self, which: int) -> None:
        known = self.reference
        if not known.held:
            return
        name = sorted(known.held)[which % len(known.held)]
        said = self.lab.call("DELETE", f"/v1/quarantine/{name}", expect=202)
        del known.held[name]
        assert self.lab.finished(said["job_id"])["status"] == "succeeded"

    def answers(self) -> dict[str, str | None]:
        """What is said to each situation."""
        results = self.post("/v1/recall/batch", {"inputs": SITUATIONS}, 200)["results"]
        return {text: each["answers"][0]["value"] if each["answers"] else None for text, each in zip(SITUATIONS, results, strict=True)}

    def suppress(self, which: int) -> None:
        self._forget(which, "suppress")

    def rebuild(self, which: int) -> None:
        self._forget(which, "rebuild")

    def erase(self, which: int) -> None:
        self._forget(which, "erase")

    def _forget(self, which: int, mode: str) -> None:
        known = self.reference
        if not known.ids:
            return
        place = which % len(known.ids)
        said = self.post("/v1/forget", {"corrections": [known.ids[place]], "mode": mode}, 202)
        if mode == "suppress":
            known.suppressed.add(place)
            return
        assert self.lab.finished(said["job_id"])["status"] == "succeeded"
        known.exact.add(place)
        known.inside = [other for other in known.inside if other != place]

    def consolidate(self) -> None:
        job = self.lab.finished(self.post("/v1/consolidations", {}, 202)["job_id"])
        assert job["status"] == "succeeded", job
        self.reference.inside = [place for place in self.reference.inside if place not in self.reference.gone]

    def cold(self) -> None:
        """Drop the warm state, as a crash would."""
        engine = self.lab.service.engine
        engine.banks.drop(self.lab.run(engine.banks.id_of(self.lab.service.tenant, self.bank)))

    def digest(self) -> str:
        return self.lab.call("GET", f"/v1/memory?bank={self.bank}", expect=200)["digest"]

    def expected(self, recall: Recall) -> str:
        encoded = self.encoder.encode(SITUATIONS)
        words = self.encoder.encode([own_words(text) or "" for text in RESPONSES]).vectors
        state = recall.initial()
        for seq, place in enumerate(self.reference.wanted, start=1):
            situation, response = self.reference.taught[place]
            key = np.ascontiguousarray(encoded.vectors[situation])
            recall.apply_(state, Lesson(key, RESPONSES[response], encoded.tokens[situation], seq, words[response]))
        return state.digest()


@pytest.mark.timeout(300)  # on a busy machine; an example is dozens of folds
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(step, min_size=4, max_size=14))
def test_weights_are_the_fold_of_what_should_be_in_them_after_any_story(lab, encoder, steps):
    bank = lab.call("POST", "/v1/banks", {"name": f"story {np.random.default_rng().integers(1 << 60)}"}, expect=201)["id"]
    story = Story(lab, bank, encoder)
    recall = Recall(RecallConfig.tiny(encoder_digest=encoder.digest))
    for move in steps:
        story.do(*move)
        assert story.digest() == story.expected(recall), move
    story.cold()
    assert story.digest() == story.expected(recall), "after a cold start"
    for situation in SITUATIONS:
        answers = lab.call("POST", "/v1/recall", {"bank": bank, "input": situation, "min_confidence": 0, "top_k": 10}, expect=200)[
            "answers"
        ]
        hidden = story.reference.gone | story.reference.apart
        gone = {story.reference.ids[place] for place in hidden}
        assert not gone & {name for answer in answers for name in answer["support"]}, (
            "a forgotten or quarantined correction supports an answer"
        )
        live = {RESPONSES[story.reference.taught[place][1]] for place in story.reference.inside if story.reference.ids[place] not in gone}
        assert {answer["value"] for answer in answers} <= live
    lab.call("DELETE", f"/v1/banks/{bank}", expect=204)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    events=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=8),
    chosen=st.sets(st.integers(0, 7)),
)
def test_forget_by_rebuild_of_any_subset_equals_a_bank_that_never_saw_it(lab, encoder, events, chosen):
    names = [f"seen {np.random.default_rng().integers(1 << 60)}" for _ in range(2)]
    saw, never = (Story(lab, lab.call("POST", "/v1/banks", {"name": name}, expect=201)["id"], encoder) for name in names)
    for event in events:
        saw.teach(*event)
    for place, event in enumerate(events):
        if place not in chosen:
            never.teach(*event)
    gone = [saw.reference.ids[place] for place in sorted(chosen) if place < len(events)]
    if gone:
        said = saw.post("/v1/forget", {"corrections": gone, "mode": "rebuild"}, 202)
        assert lab.finished(said["job_id"])["status"] == "succeeded"
    assert saw.digest() == never.digest()

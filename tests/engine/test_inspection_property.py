"""After any story of a bank, what is explained and traced is what folding by hand has, and nothing forgotten is named."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_lineage_property import RESPONSES, SITUATIONS, Story, step

from model import Asked, Lesson, Recall, RecallConfig
from workers.encoding import own_words

ASKED = "Could you tell me how to choose another PIN for my card?"


class ByHand:
    """The memory of a story's events, folded by hand, with and without any of them."""

    def __init__(self, story: Story) -> None:
        self.known, encoder = story.reference, story.encoder
        self.recall = Recall(RecallConfig.tiny(encoder_digest=encoder.digest))
        self.key = encoder.encode([ASKED]).vectors[0]
        self.encoded, self.words = encoder.encode(SITUATIONS), encoder.encode([own_words(text) or "" for text in RESPONSES]).vectors
        self.book = self.recall.book()
        for text in RESPONSES:
            self.book.add(text)

    def standing(self, right: str, without: int | None = None):
        """How an answer stands where the event at a place was never taught, among those that a live event supports."""
        kept = [place for place in self.known.wanted if place != without]
        state = self.recall.initial()
        for seq, place in enumerate(kept, start=1):
            situation, response = self.known.taught[place]
            key = np.ascontiguousarray(self.encoded.vectors[situation])
            self.recall.apply_(state, Lesson(key, RESPONSES[response], self.encoded.tokens[situation], seq, self.words[response]))
        live = {self.known.taught[place][1] for place in kept if place not in self.known.suppressed}
        mask = np.array([response in live for response in range(len(RESPONSES))])
        answering, (reading,) = self.recall.look(Asked(state, self.key[None], self.book, 1, mask))
        return answering.standing(reading, RESPONSES.index(right))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(step, min_size=4, max_size=12))
def test_explanation_and_traces_agree_with_folding_by_hand_after_any_story(lab, encoder, steps):
    bank = lab.call("POST", "/v1/banks", {"name": f"looked into {np.random.default_rng().integers(1 << 60)}"}, expect=201)["id"]
    story = Story(lab, bank, encoder)
    for move in steps:
        story.do(*move)
    known, hand = story.reference, ByHand(story)
    gone = known.gone | known.apart
    told = lab.call("POST", "/v1/memory/explain", {"bank": bank, "input": ASKED, "sample": 64}, expect=200)
    carriers = {carrier["correction"]: carrier for carrier in told["carriers"]}
    if told["value"] is not None:
        assert told["score"] == pytest.approx(hand.standing(told["value"]).score, abs=1e-5)
        assert carriers.keys() == {known.ids[place] for place in known.inside if place not in gone}
    for place in known.wanted:
        if (carrier := carriers.get(known.ids[place])) is not None:
            left = hand.standing(told["value"], without=place)
            assert carrier["score"] == pytest.approx(left.score, abs=1e-5)
            assert carrier["confidence"] == pytest.approx(left.confidence, abs=1e-4)
            assert (carrier["rank"] is None) == (left.rank is None)
    for place, name in enumerate(known.ids):
        trace = lab.call("GET", f"/v1/memory/corrections/{name}/trace?bank={bank}", expect=200)
        if place in gone:
            out = ("forgotten", "forget") if place in known.gone else ("quarantined", "quarantine")
            assert (trace["status"], trace["removed"]["by"], trace["levels"], trace["snapshots"]) == (*out, [], [])
            continue
        assert (trace["status"] == "rolled_back") == (place not in known.inside)
        held = {snapshot: set(inside) - apart for snapshot, inside, apart, _ in known.saved}
        assert all(place in held[one["snapshot"]] for one in trace["snapshots"] if one["snapshot"] in held)
    lab.call("DELETE", f"/v1/banks/{bank}", expect=204)

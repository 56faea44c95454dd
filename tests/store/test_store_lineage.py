"""Spans of positions, held against plain sets of integers; and what has become of a correction, against its definition."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keeping import NOW

from service.store import lineage, present
from service.store.rows import BankRow, LevelBlob, SnapshotRow, TombstoneRow
from service.store.status import Standing

TOP = 24
seqs = st.integers(1, TOP)
sets = st.frozensets(seqs, max_size=TOP)
pairs = st.lists(st.tuples(st.integers(-2, TOP), st.integers(-2, TOP)), max_size=8)


def inside(spans) -> set[int]:
    return {seq for after, upto in spans for seq in range(after + 1, upto + 1)}


def spans_of(numbers) -> lineage.Spans:
    return lineage.normal((number - 1, number) for number in numbers)


def is_normal(spans) -> bool:
    """Disjoint, ascending, not touching, none empty."""
    edges = [edge for span in spans for edge in span]
    return isinstance(spans, tuple) and all(left < right for left, right in pairwise(edges))


@given(sets, st.integers(0, TOP + 1))
def test_newest_events_of_spans_are_the_last_ones_in_order(numbers, most):
    assert lineage.newest(spans_of(numbers), most) == sorted(numbers)[len(numbers) - min(most, len(numbers)) :]


@given(pairs)
def test_normal_spans_hold_what_was_given_in_the_one_form(given_pairs):
    spans = lineage.normal(given_pairs)
    assert inside(spans) == inside(given_pairs)
    assert is_normal(spans)
    assert lineage.normal(reversed(given_pairs)) == lineage.normal(spans) == spans


@given(sets)
def test_spans_of_equal_sets_are_equal(numbers):
    assert inside(spans_of(numbers)) == numbers
    assert spans_of(sorted(numbers, reverse=True)) == spans_of(numbers)
    assert lineage.count(spans_of(numbers)) == len(numbers)


@given(sets, st.integers(0, TOP + 2))
def test_restrict_keeps_what_is_at_or_below_a_position(numbers, at):
    low = lineage.restrict(spans_of(numbers), at)
    assert inside(low) == {number for number in numbers if number <= at}
    assert is_normal(low)


@given(sets, sets)
def test_subtract_takes_single_events_out(numbers, gone):
    left = lineage.subtract(spans_of(numbers), gone)
    assert inside(left) == numbers - gone
    assert is_normal(left)


@given(sets, st.integers(0, TOP + 2))
def test_above_keeps_what_is_above_a_position(numbers, after):
    high = lineage.above(spans_of(numbers), after)
    assert inside(high) == {number for number in numbers if number > after}
    assert is_normal(high)


@given(sets, sets)
def test_without_takes_the_events_of_other_spans_out(numbers, others):
    left = lineage.without(spans_of(numbers), spans_of(others))
    assert inside(left) == numbers - others
    assert is_normal(left)
    assert lineage.without(spans_of(numbers), lineage.only(others)) == left


@given(sets)
def test_events_of_spans_are_what_is_inside_in_order(numbers):
    assert lineage.events_of(spans_of(numbers)) == sorted(numbers)


@given(sets)
def test_holds_says_what_is_inside(numbers):
    spans = spans_of(numbers)
    assert [seq for seq in range(-1, TOP + 3) if lineage.holds(spans, seq)] == sorted(numbers)


@given(sets, st.integers(1, 3))
def test_with_next_adds_one_above_all_others(numbers, gap):
    new = max(numbers, default=0) + gap
    spans = lineage.with_next(spans_of(numbers), new)
    assert inside(spans) == numbers | {new}
    assert spans == lineage.normal(spans)


@given(sets, st.integers(0, TOP), st.integers(0, 10), sets)
def test_live_events_are_the_heads_and_those_since_without_the_forgotten(numbers, base_seq, more, forgotten):
    base = {number for number in numbers if number <= base_seq}
    live = lineage.live(spans_of(base), base_seq, base_seq + more, forgotten)
    assert inside(live) == (base | set(range(base_seq + 1, base_seq + more + 1))) - forgotten
    assert is_normal(live)


@given(sets, st.integers(0, TOP), sets)
def test_snapshot_serves_as_a_base_if_and_only_if_folding_on_gives_the_wanted_state(held, seq, wanted):
    """It can only add events above its own position: what it holds must be all that is wanted up to there."""
    candidate = {number for number in held if number <= seq}
    can = lineage.can_serve(spans_of(candidate), seq, spans_of(wanted))
    assert can == (candidate == {number for number in wanted if number <= seq})


@given(sets, st.integers(0, TOP))
def test_snapshot_always_serves_a_state_that_goes_on_from_it(wanted, seq):
    assert lineage.can_serve(lineage.restrict(spans_of(wanted), seq), seq, spans_of(wanted))


# --- what has become of a correction

STANDING = Standing.of(((0, 3), (4, 6)), 8, 12, {2, 10})  # the head covers 8 and holds 1-3, 5, 6; since then 9-12; 2 and 10 are forgotten
CASES = {
    "in the head": (1, 0, [], "active"),
    "after the head": (9, 0, [], "active"),
    "at the end": (12, 0, [], "active"),
    "not in the head": (4, 0, [], "rolled_back"),
    "last before the head's position": (8, 0, [], "rolled_back"),
    "forgotten in the head": (2, 0, [], "forgotten"),
    "forgotten since": (10, 0, [], "forgotten"),
    "erased": (1, None, [], "forgotten"),
    "replaced by a later one": (1, 0, [(5, 1)], "superseded"),
    "replaced after the head": (9, 0, [(11, 1)], "superseded"),
    "said again": (1, 0, [(5, 0)], "active"),
    "replaced, then said again": (1, 0, [(5, 1), (9, 0)], "superseded"),
    "replaced by a forgotten one": (1, 0, [(2, 1), (10, 1)], "active"),
    "replaced by one that was rolled back": (1, 0, [(4, 1), (7, 1)], "active"),
    "replaced, but itself rolled back": (4, 0, [(5, 1)], "rolled_back"),
    "replaced, but itself forgotten": (2, 0, [(5, 1)], "forgotten"),
    "forgotten and rolled back": (7, None, [], "forgotten"),
}


@pytest.mark.parametrize(("seq", "response", "later", "status"), CASES.values(), ids=CASES.keys())
def test_status_of_a_correction(seq, response, later, status):
    assert STANDING.status(seq, response, later) == status


@given(sets, st.integers(0, TOP), st.integers(0, 6), sets)
def test_status_follows_its_definition_at_every_position(head, head_seq, more, forgotten):
    held = {number for number in head if number <= head_seq}
    top = head_seq + more
    standing = Standing.of(spans_of(held), head_seq, top, forgotten)
    alive = (held | set(range(head_seq + 1, top + 1))) - forgotten
    for seq in range(1, top + 1):
        later = [(other, other % 2) for other in range(seq + 1, top + 1)]
        newer = {other for other, response in later if response != seq % 2}
        wanted = "superseded" if newer & alive else "active"
        if seq in forgotten:
            wanted = "forgotten"
        elif seq not in alive:
            wanted = "rolled_back"
        assert standing.status(seq, seq % 2, later) == wanted


def bank(**more) -> BankRow:
    given = {"id": "bnk_1", "tenant": "ten_1", "name": "main", "epoch": 3, "owner": "w", "seq": 9, "last_hash": "f" * 64, "head": "snp_1"}
    return BankRow(**given | {"config_hash": "c", "encoder_digest": "e", "head_version": 2, "created_at": NOW} | more)


def test_bank_is_shown_without_what_is_nobodys_business():
    shown = present.bank(bank())
    assert (shown.id, shown.name, shown.seq, shown.head, shown.etag, shown.created_at) == ("bnk_1", "main", 9, "snp_1", '"snp_1"', NOW)
    assert not {"tenant", "owner", "epoch", "last_hash"} & set(shown.__struct_fields__)
    assert present.bank(bank(head="snp_2")).etag != shown.etag


def mark(seq: int, mode: str) -> TombstoneRow:
    given = {"forget_id": "fgt_1", "response": 0, "embedding": None, "created_at": NOW}
    return TombstoneRow(seq=seq, event_id=f"cor_{seq}", mode=mode, exact=mode != "suppress", **given)


def test_snapshot_is_shown_with_the_exactly_forgotten_corrections_that_it_holds():
    given = {"kind": "manual", "parent": "snp_0", "digest": "d", "config_hash": "c", "clock": {}, "label": "l", "note": "n", "pinned": True}
    level = LevelBlob(name="fast", sha256="a" * 64, bytes=5)
    more = {"levels": (level,), "created_by": "key_1", "gate": None, "bank": "bnk_1", "created_at": NOW, "destroyed_at": None}
    row = SnapshotRow(id="snp_1", seq=8, spans=((0, 3), (4, 6)), **given, **more)
    marks = [mark(1, "rebuild"), mark(2, "suppress"), mark(4, "erase"), mark(6, "erase"), mark(9, "rebuild")]
    shown = present.snapshot(row, "snp_1", marks)
    assert shown.tainted_by == ["cor_1", "cor_6"]
    assert (shown.corrections, shown.seq, shown.is_head, shown.levels) == (5, 8, True, [level])
    assert (shown.id, shown.parent, shown.kind, shown.label, shown.note, shown.pinned) == ("snp_1", "snp_0", "manual", "l", "n", True)
    assert not present.snapshot(row, "snp_2", []).is_head
    assert present.snapshot(row, "snp_2", []).tainted_by == []

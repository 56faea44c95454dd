"""Ids sort in the order in which a process made them."""

from concurrent.futures import ThreadPoolExecutor

from service import ids


def test_ids_of_one_millisecond_sort_in_the_order_in_which_they_were_made(monkeypatch):
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_796_000_000_000_000_000)
    made = [ids.new_id("cor") for _ in range(1_000)]
    assert made == sorted(set(made))


def test_ids_sort_after_those_made_before_the_clock_was_put_back(monkeypatch):
    before = ids.new_id("cor")
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1)
    assert ids.new_id("cor") > before


def test_no_id_is_made_twice_by_threads():
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ids.new_id("cor"), range(2_000)))
    assert len(set(made)) == 2_000

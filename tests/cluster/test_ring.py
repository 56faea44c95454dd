"""Where banks go: the same everywhere, by capacity, moving only when they must, and around a worker that is far busier than the rest."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from service.cluster.coord import WorkerInfo
from service.cluster.ring import FAR, choose

BANKS = [f"bnk_{number:04}" for number in range(2_000)]


def worker(name: str, **said) -> WorkerInfo:
    return WorkerInfo(id=name, address=f"unix:///{name}", **said)


names = st.lists(st.text("0123456789ABCDEF", min_size=1, max_size=6), min_size=1, max_size=8, unique=True)
fleets = st.builds(
    lambda names, capacities: [worker(name, capacity=capacity) for name, capacity in zip(names, capacities, strict=False)],
    names,
    st.lists(st.floats(0.1, 10), min_size=8, max_size=8),
)


@given(fleet=fleets, bank=st.text(), seed=st.randoms())
def test_choice_is_a_whole_order_and_the_same_however_the_workers_are_listed(fleet, bank, seed):
    chosen = choose(bank, fleet)
    assert sorted(found.id for found in chosen) == sorted(found.id for found in fleet)
    shuffled = list(fleet)
    seed.shuffle(shuffled)
    assert choose(bank, shuffled) == chosen


@given(fleet=fleets, which=st.integers(0, 7))
def test_worker_that_goes_moves_only_its_own_banks_each_to_its_second_choice(fleet, which):
    gone = fleet[which % len(fleet)]
    rest = [found for found in fleet if found is not gone]
    for bank in BANKS[:50]:
        before = choose(bank, fleet)
        assert choose(bank, rest) == [found for found in before if found is not gone]


def test_worker_that_comes_takes_its_share_and_nothing_moves_between_the_others():
    fleet = [worker(f"w{number}") for number in range(4)]
    before = {bank: choose(bank, fleet)[0].id for bank in BANKS}
    after = {bank: choose(bank, [*fleet, worker("new")])[0].id for bank in BANKS}
    moved = [bank for bank in BANKS if before[bank] != after[bank]]
    assert {after[bank] for bank in moved} == {"new"}
    assert 0.16 < len(moved) / len(BANKS) < 0.24


def test_banks_spread_by_capacity():
    capacities = {"small": 1.0, "middle": 2.0, "large": 5.0}
    fleet = [worker(name, capacity=capacity) for name, capacity in capacities.items()]
    shares = Counter(choose(bank, fleet)[0].id for bank in BANKS)
    for name, capacity in capacities.items():
        assert abs(shares[name] / len(BANKS) - capacity / 8) < 0.035


def test_nobody_to_choose_from_is_an_empty_choice():
    assert choose("bnk_1", []) == []


def test_worker_that_is_far_busier_than_the_least_loaded_one_comes_last_but_stays():
    fleet = [worker(f"w{number}") for number in range(4)]
    preferred = choose("bnk_1", fleet)
    first = preferred[0]

    def loaded(*in_flight: int) -> list[str]:
        said = [structs.replace(found, in_flight=number) for found, number in zip(preferred, in_flight, strict=True)]
        return [found.id for found in choose("bnk_1", said)]

    order = [found.id for found in preferred]
    later = [*order[1:], first.id]
    assert loaded(FAR, 0, 0, 0) == order
    assert loaded(FAR + 1, 0, 0, 0) == later
    assert loaded(300, 210, 210, 210) == order, "90 above, but not half as much again"
    assert loaded(320, 210, 210, 210) == later
    assert loaded(300, 300, 300, 300) == order, "all are busy"
    assert loaded(300, 300, 0, 0) == [*order[2:], *order[:2]]


def test_load_is_looked_at_for_each_ones_capacity():
    large, small = worker("large", capacity=4.0, in_flight=400), worker("small", capacity=1.0, in_flight=100)
    idle = [structs.replace(large, in_flight=0), structs.replace(small, in_flight=0)]
    for bank in BANKS[:20]:
        assert [found.id for found in choose(bank, [large, small])] == [found.id for found in choose(bank, idle)]


def test_worker_without_capacity_is_chosen_when_there_is_no_other():
    fleet = [worker("none", capacity=0.0), worker("w1")]
    assert {choose(bank, fleet)[0].id for bank in BANKS[:200]} == {"w1"}
    assert choose("bnk_1", fleet[:1]) == fleet[:1]

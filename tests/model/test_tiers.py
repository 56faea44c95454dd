"""Warm banks by budgets of bytes: T1 to T4 of `model.tiers`, on any history and against a plain list of banks."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model.tiers import Moves, NoRoom, Tier, Tiers

BUDGETS = {Tier.DEVICE: 100, Tier.HOST: 60}


def filled(*banks: str, share: float = 1.0, size: int = 25) -> Tiers[str]:
    """A device for four banks and a host for three, with these: the tenant's letter and a number."""
    tiers = Tiers[str](100, 60, share=share)
    for bank in banks:
        tiers.put(bank[0], bank, bank.upper(), device_bytes=size, host_bytes=20)
    return tiers


def put(tiers: Tiers[str], bank: str, size: int = 25, host: int = 20) -> Moves[str]:
    return tiers.put(bank[0], bank, bank.upper(), device_bytes=size, host_bytes=host)


def on(tiers: Tiers[str], *banks: str) -> list[Tier | None]:
    return [tiers.where(bank) for bank in banks]


# --- one rule at a time


def test_what_was_used_longest_ago_is_lowered_and_what_was_lowered_longest_ago_is_dropped() -> None:
    tiers = filled("a1", "b1", "c1", "d1")
    assert tiers.get("a1") == "A1"
    assert put(tiers, "e1") == Moves(lowered={"b1": "B1"})
    for number, (lowered, dropped) in enumerate((("c1", ()), ("d1", ()), ("a1", ("b1",)), ("e1", ("c1",)))):
        assert put(tiers, f"f{number}") == Moves({name: name.upper() for name in dropped}, {lowered: lowered.upper()})
    assert on(tiers, "d1", "a1", "e1") == [Tier.HOST] * 3
    assert (tiers.bytes(Tier.DEVICE), tiers.bytes(Tier.HOST), len(tiers)) == (100, 60, 7)
    assert (tiers.get("b1"), tiers.peek("b1"), tiers.where("b1")) == (None, None, None)


def test_to_use_a_bank_on_the_host_keeps_it_there_longer_and_to_look_at_it_does_not() -> None:
    tiers = filled("a1", "b1", "c1", "d1", "e1", "f1", "g1")
    assert on(tiers, "a1", "b1", "c1") == [Tier.HOST] * 3
    assert (tiers.get("a1"), tiers.peek("b1")) == ("A1", "B1")
    assert put(tiers, "h1").dropped == {"b1": "B1"}


def test_a_lifted_bank_changes_places_with_the_one_that_was_used_longest_ago() -> None:
    tiers = filled("a1", "b1", "c1", "d1", "e1")
    assert tiers.lift("a1") == Moves(lowered={"b1": "B1"}, lifted={"a1": "A1"})
    assert tiers.lift("c1") == Moves()
    assert not tiers.lift("c1"), "it is there"
    assert put(tiers, "f1").lowered == {"d1": "D1"}, "to lift it was to use it"
    with pytest.raises(KeyError):
        tiers.lift("z1")


def test_a_large_bank_takes_the_place_of_several() -> None:
    tiers = filled("a1", "b1", "c1", "d1")
    assert put(tiers, "e1", size=70, host=50) == Moves(lowered={"a1": "A1", "b1": "B1", "c1": "C1"})
    assert put(tiers, "f1", size=100) == Moves({"a1": "A1", "b1": "B1", "c1": "C1", "d1": "D1"}, {"e1": "E1"}), (
        "what came to the host in this move may leave it in this move"
    )


def test_a_bank_may_come_to_the_host_at_once_and_goes_where_it_outgrows_it() -> None:
    tiers = filled("a1")
    assert tiers.keep("b", "b1", "B1", device_bytes=25, host_bytes=20) == Moves(lowered={"b1": "B1"})
    assert tiers.keep("a", "a1", "A2", device_bytes=25, host_bytes=20) == Moves(lowered={"a1": "A2"})
    assert on(tiers, "a1", "b1") == [Tier.HOST] * 2
    assert (tiers.bytes(Tier.DEVICE), tiers.bytes(Tier.HOST)) == (0, 40)
    assert not tiers.resize("b1", 30)
    assert tiers.resize("b1", 50).dropped == {"a1": "A2"}, "it was used, the other one was not"
    assert tiers.resize("b1", 61).dropped == {"b1": "B1"}
    assert tiers.keep("b", "b1", "B1", device_bytes=25, host_bytes=61).dropped == {"b1": "B1"}
    assert len(tiers) == 0
    tiers = filled("a1", "b1", "c1", "d1")
    assert not tiers.resize("a1", 61), "what it would take on the host"
    assert put(tiers, "e1").lowered == {"b1": "B1"}, "it was used"
    with pytest.raises(KeyError):
        tiers.resize("z1", 1)


def test_a_bank_that_the_host_has_no_room_for_is_dropped() -> None:
    tiers = Tiers[str](100, 0)
    assert not put(tiers, "a1", size=60)
    assert put(tiers, "b1", size=60) == Moves({"a1": "A1"})
    assert on(tiers, "a1", "b1") == [None, Tier.DEVICE]


def test_a_pinned_bank_stays_until_its_last_pin_is_taken_back() -> None:
    tiers = filled("a1", "b1", "c1", "d1")
    tiers.pin("a1")
    tiers.pin("a1")
    assert put(tiers, "e1").lowered == {"b1": "B1"}
    tiers.unpin("a1")
    assert put(tiers, "f1").lowered == {"c1": "C1"}
    tiers.unpin("a1")
    tiers.unpin("a1")  # once too often
    assert put(tiers, "g1").lowered == {"a1": "A1"}
    tiers.pin("b1")
    assert put(tiers, "h1").dropped == {"c1": "C1"}, "on the host as well"
    with pytest.raises(KeyError):
        tiers.pin("z1")
    tiers.unpin("z1")


@pytest.mark.parametrize("size", [101, 51])
def test_where_too_little_may_leave_nothing_changes(size: int) -> None:
    tiers = filled("a1", "b1", "c1", "d1")
    for bank in ("a1", "c1"):
        tiers.pin(bank)
    with pytest.raises(NoRoom, match=f"{size} bytes find no room on the device"):
        put(tiers, "e1", size=size)
    with pytest.raises(NoRoom):
        put(tiers, "b1", size=size)
    assert on(tiers, "a1", "b1", "c1", "d1", "e1") == [Tier.DEVICE] * 4 + [None]
    assert put(tiers, "f1").lowered == {"d1": "D1"}, "b1 was asked for last"


def test_a_bank_that_is_dropped_leaves_its_room_and_its_pins() -> None:
    tiers = filled("a1", "b1", "c1", "d1")
    tiers.pin("b1")
    assert (tiers.drop("b1"), tiers.drop("b1")) == ("B1", None)
    assert not put(tiers, "b1")
    assert put(tiers, "e1").lowered == {"a1": "A1"}
    assert put(tiers, "f1").lowered == {"c1": "C1"}
    assert put(tiers, "g1").lowered == {"d1": "D1"}
    assert put(tiers, "h1").lowered == {"b1": "B1"}


def test_a_bank_that_is_put_again_has_its_new_value_and_size_and_its_pins() -> None:
    tiers = filled("a1", "b1", "c1")
    tiers.pin("a1")
    assert not tiers.put("a", "a1", "new", device_bytes=40, host_bytes=20)
    assert (tiers.peek("a1"), tiers.bytes(Tier.DEVICE)) == ("new", 90)
    assert put(tiers, "d1").lowered == {"b1": "B1"}
    assert put(tiers, "b1") == Moves(lowered={"c1": "C1"}), "from the host to the device: its value is new, nothing is lifted"


# --- shares


def test_a_tenant_with_more_than_its_share_loses_its_own_banks_first_also_newer_ones() -> None:
    tiers = filled("b1", "a1", "a2", "a3", share=0.5)
    assert put(tiers, "a4").lowered == {"a1": "A1"}
    assert put(tiers, "c1").lowered == {"a2": "A2"}
    assert put(tiers, "c2").lowered == {"b1": "B1"}, "nobody has too much: the one that was used longest ago"
    assert on(tiers, "a3", "a4", "c1", "c2") == [Tier.DEVICE] * 4


def test_where_nobody_else_wants_it_a_tenant_may_have_it_all() -> None:
    assert on(filled("a1", "a2", "a3", "a4", share=0.25), "a1", "a2", "a3", "a4") == [Tier.DEVICE] * 4


def test_a_tenants_only_bank_is_never_too_much() -> None:
    tiers = filled("a1", "b1", "c1", "d1", share=0.01)
    assert put(tiers, "e1").lowered == {"a1": "A1"}
    assert put(tiers, "e2").lowered == {"e1": "E1"}


def test_a_tenant_with_more_than_its_share_takes_no_place_from_others_even_if_its_own_are_pinned() -> None:
    tiers = filled("b1", "b2", "a1", "a2", share=0.5)
    tiers.pin("a1")
    tiers.pin("a2")
    with pytest.raises(NoRoom):
        put(tiers, "a3")
    assert put(tiers, "c1").lowered == {"b1": "B1"}


def test_a_tenants_share_of_the_host_is_asked_for_there() -> None:
    tiers = filled("b1", "a1", "a2", "c1", "d1", "d2", "e1", share=0.5)
    assert on(tiers, "b1", "a1", "a2", "c1") == [Tier.HOST, Tier.HOST, Tier.HOST, Tier.DEVICE]
    assert put(tiers, "f1") == Moves({"a1": "A1"}, {"c1": "C1"}), "b1 is older, but its tenant has no more than its share"


# --- any history


@dataclass
class Plain:
    """A warm bank, in a list by its last use."""

    name: str
    tenant: str
    sizes: dict[Tier, int]
    tier: Tier
    pins: int = 0


class AnyHistory(RuleBasedStateMachine):
    """Tiers and a list that knows the rules in so many words."""

    share = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.tiers = Tiers[str](*BUDGETS.values(), share=self.share)
        self.plain: list[Plain] = []

    def here(self, tier: Tier, but: str = "") -> list[Plain]:
        return [bank for bank in self.plain if bank.tier == tier and bank.name != but]

    def greedy(self, tier: Tier, newcomer: Plain) -> set[str]:
        there = [*self.here(tier, newcomer.name), newcomer]
        tenants = {bank.tenant for bank in there}
        of = {tenant: [bank.sizes[tier] for bank in there if bank.tenant == tenant] for tenant in tenants}
        return {tenant for tenant, sizes in of.items() if len(sizes) > 1 and sum(sizes) > self.share * BUDGETS[tier]}

    def make_room(self, tier: Tier, newcomer: Plain) -> list[Plain] | None:
        leaving: list[Plain] = []
        kept = self.plain
        try:
            while sum(bank.sizes[tier] for bank in [*self.here(tier, newcomer.name), newcomer]) > BUDGETS[tier]:
                greedy = self.greedy(tier, newcomer)
                loose = [bank for bank in self.here(tier, newcomer.name) if not bank.pins]
                may = [bank for bank in loose if bank.tenant in greedy] or ([] if newcomer.tenant in greedy else loose)
                if not may:
                    return None
                leaving.append(may[0])
                self.plain = [bank for bank in self.plain if bank is not may[0]]
            return leaving
        finally:
            self.plain = kept

    def arrive(self, newcomer: Plain, known: Plain | None) -> bool:
        leaving = self.make_room(Tier.DEVICE, newcomer)
        if known:
            self.plain.remove(known)
        if leaving is None:
            self.plain += [known] if known else []
            return False
        for bank in leaving:
            self.plain.remove(bank)
        for bank in leaving:
            gone = self.make_room(Tier.HOST, bank)
            self.plain = [other for other in self.plain if other not in (gone or [])]
            if gone is not None:
                bank.tier = Tier.HOST
                self.plain.append(bank)
        newcomer.tier = Tier.DEVICE
        self.plain.append(newcomer)
        return True

    def named(self, name: str) -> Plain | None:
        return next((bank for bank in self.plain if bank.name == name), None)

    def check_moves(self, before: dict[str, Tier | None], moves: Moves[str], newcomer: str) -> None:
        after = {name: self.tiers.where(name) for name in before}
        assert set(moves.dropped) == {name for name in before if after[name] is None}
        assert set(moves.lowered) == {name for name in before if (before[name], after[name]) == (Tier.DEVICE, Tier.HOST)}
        assert set(moves.lifted) <= {newcomer}
        for name, value in [*moves.dropped.items(), *moves.lowered.items(), *moves.lifted.items()]:
            assert value.startswith(name)

    @rule(
        tenant=st.sampled_from("abc"),
        number=st.integers(0, 4),
        size=st.sampled_from([1, 20, 25, 40, 101]),
        host=st.sampled_from([1, 20, 61]),
    )
    def put(self, tenant: str, number: int, size: int, host: int) -> None:
        name = f"{tenant}{number}"
        known = self.named(name)
        newcomer = Plain(name, tenant, {Tier.DEVICE: size, Tier.HOST: host}, Tier.DEVICE, known.pins if known else 0)
        before = {bank.name: bank.tier for bank in self.plain}
        if self.arrive(newcomer, known):
            self.check_moves(before, self.tiers.put(tenant, name, f"{name} of {size}", device_bytes=size, host_bytes=host), name)
            assert self.tiers.peek(name) == f"{name} of {size}"
        else:
            with pytest.raises(NoRoom):
                self.tiers.put(tenant, name, "never kept", device_bytes=size, host_bytes=host)

    def lay(self, newcomer: Plain) -> None:
        """A bank comes to the host, as from outside."""
        gone = self.make_room(Tier.HOST, newcomer)
        self.plain = [other for other in self.plain if other not in (gone or [])]
        if gone is not None:
            newcomer.tier = Tier.HOST
            self.plain.append(newcomer)

    @rule(tenant=st.sampled_from("abc"), number=st.integers(0, 4), host=st.sampled_from([1, 20, 61]))
    def keep(self, tenant: str, number: int, host: int) -> None:
        name = f"{tenant}{number}"
        before = {bank.name: bank.tier for bank in self.plain if bank.name != name}
        self.plain = [bank for bank in self.plain if bank.name != name]
        self.lay(Plain(name, tenant, {Tier.DEVICE: 25, Tier.HOST: host}, Tier.HOST))
        moves = self.tiers.keep(tenant, name, f"{name} kept", device_bytes=25, host_bytes=host)
        itself = moves.lowered.pop(name, None) or moves.dropped.pop(name)
        assert itself == f"{name} kept"
        self.check_moves(before, moves, name)

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), host=st.sampled_from([1, 20, 61]))
    def resize(self, data: st.DataObject, host: int) -> None:
        bank = data.draw(st.sampled_from(self.plain))
        before = {other.name: other.tier for other in self.plain}
        self.plain.remove(bank)
        bank.sizes[Tier.HOST] = host
        if bank.tier == Tier.DEVICE:
            self.plain.append(bank)
        else:
            self.lay(bank)
        self.check_moves(before, self.tiers.resize(bank.name, host), bank.name)

    @precondition(lambda self: self.plain)
    @rule(data=st.data())
    def lift(self, data: st.DataObject) -> None:
        bank = data.draw(st.sampled_from(self.plain))
        before = {bank.name: bank.tier for bank in self.plain}
        if bank.tier == Tier.DEVICE:
            self.plain.remove(bank)
            self.plain.append(bank)
            assert not self.tiers.lift(bank.name)
        elif self.arrive(bank, bank):
            moves = self.tiers.lift(bank.name)
            self.check_moves(before, moves, bank.name)
            assert set(moves.lifted) == {bank.name}
        else:
            with pytest.raises(NoRoom):
                self.tiers.lift(bank.name)

    @precondition(lambda self: self.plain)
    @rule(data=st.data(), what=st.sampled_from(["get", "peek", "pin", "unpin", "drop"]))
    def use(self, data: st.DataObject, what: str) -> None:
        bank = data.draw(st.sampled_from(self.plain))
        if what == "get":
            self.plain.remove(bank)
            self.plain.append(bank)
        if what == "drop":
            self.plain.remove(bank)
        bank.pins = max(0, bank.pins + {"pin": 1, "unpin": -1}.get(what, 0))
        found = getattr(self.tiers, what)(bank.name)
        assert found is None if "pin" in what else found.startswith(bank.name)

    @invariant()
    def the_banks_are_where_the_list_has_them(self) -> None:
        assert {bank.name: bank.tier for bank in self.plain} == {
            name: tier for tenant in "abc" for number in range(5) if (tier := self.tiers.where(name := f"{tenant}{number}"))
        }
        assert len(self.tiers) == len(self.plain)

    @invariant()
    def t1_no_tier_holds_more_than_its_budget(self) -> None:
        for tier, budget in BUDGETS.items():
            assert self.tiers.bytes(tier) == sum(bank.sizes[tier] for bank in self.here(tier)) <= budget


class AnyHistoryWithoutShares(AnyHistory):
    """The same where a tenant may have everything."""

    share = 1.0


class AnyHistoryWithSmallShares(AnyHistory):
    """The same where a tenant's share is less than most banks."""

    share = 0.1


LONG = settings(max_examples=150, stateful_step_count=40, derandomize=True, deadline=None)
TestAnyHistory = AnyHistory.TestCase
TestAnyHistoryWithoutShares = AnyHistoryWithoutShares.TestCase
TestAnyHistoryWithSmallShares = AnyHistoryWithSmallShares.TestCase
TestAnyHistory.settings = TestAnyHistoryWithoutShares.settings = TestAnyHistoryWithSmallShares.settings = LONG

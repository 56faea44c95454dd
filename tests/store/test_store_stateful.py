"""The ledger with its snapshots, head and tombstones, beside a model of a few plain lists: whatever is done in whatever order."""

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from keeping import append, commit, draft, find, forget, new_bank, new_tenant, state
from stateful import long_walks

from service.errors import HeadMoved, NotOwner
from service.store import banks, forgets, history, ledger, snapshots

MODES = ("suppress", "rebuild", "erase")
EXAMPLES = 100  # the long form is `make long`
some = st.integers(0, 1_000)


@dataclass
class Model:
    """What the store should hold. Positions count from 1; a response's number is its place in `texts`."""

    events: list[int] = field(default_factory=list)  # the response's number of each
    texts: list[str] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)  # numbers of erased responses
    redacted: set[int] = field(default_factory=set)
    marks: dict[int, str] = field(default_factory=dict)
    epoch: int = 0
    heads: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    destroyed: set[str] = field(default_factory=set)

    def append(self, rights: list[str]) -> None:
        for right in rights:
            known = [number for number, text in enumerate(self.texts) if text == right and number not in self.gone]
            if not known:
                known = [len(self.texts)]
                self.texts.append(right)
            self.events.append(known[0])

    def forget(self, seq: int, mode: str) -> None:
        self.marks[seq] = max(self.marks.get(seq, mode), mode, key=MODES.index)

    def redact(self, seq: int) -> None:
        self.redacted.add(seq)
        number = self.events[seq - 1]
        if all(seq in self.redacted for seq in range(1, len(self.events) + 1) if self.events[seq - 1] == number):
            self.gone.add(number)

    def said(self) -> dict[int, str]:
        return {number: text for number, text in enumerate(self.texts) if number not in self.gone}

    def lessons(self) -> list[tuple[int, str]]:
        return [(seq, self.texts[number]) for seq, number in enumerate(self.events, start=1) if seq not in self.redacted]


class StoreBesideModel(RuleBasedStateMachine):
    """One bank of one tenant; every rule does a thing to both."""

    def __init__(self, runner, database) -> None:
        super().__init__()
        self.run, self.database, self.model = runner.run, database, Model()
        self.bank = self.run(new_bank(database, self.run(new_tenant(database))))

    def write(self, function, *arguments, **more):
        async def ask():
            async with self.database.write(self.bank.tenant) as conn:
                return await function(conn, self.bank.tenant, self.bank.id, *arguments, **more)

        return self.run(ask())

    def event_at(self, which: int):
        seq = which % len(self.model.events) + 1
        return self.write(history.by_seqs, [seq])[0]

    @rule(rights=st.lists(st.sampled_from("abcd"), min_size=1, max_size=4))
    def append(self, rights):
        drafts = [draft(f"q {right}", right) for right in rights]
        rows = self.run(append(self.database, self.bank, *drafts, epoch=self.model.epoch, head_version=len(self.model.heads)))
        first = len(self.model.events) + 1
        self.model.append(rights)
        assert [(row.seq, row.response) for row in rows] == list(enumerate(self.model.events[first - 1 :], start=first))

    @rule(behind=st.sampled_from([(1, 0), (3, 0), (0, 1), (0, 3)]))
    def overtaken_writer(self, behind):
        known = {"epoch": self.model.epoch - behind[0], "head_version": len(self.model.heads) + behind[1]}
        with pytest.raises(NotOwner):
            self.run(append(self.database, self.bank, draft(), **known))

    @rule()
    def acquire(self):
        self.model.epoch += 1
        assert self.write(banks.acquire, "worker").epoch == self.model.epoch

    @rule(move=st.booleans())
    def snapshot(self, move):
        saved = state(len(self.model.events), kind="auto")
        self.run(commit(self.database, self.bank, saved, head=len(self.model.heads) if move else None, epoch=self.model.epoch))
        self.model.saved.append(saved.id)
        if move:
            self.model.heads.append(saved.id)

    @rule(off=st.sampled_from([-1, 1]))
    def lost_compare_and_swap(self, off):
        with pytest.raises(HeadMoved):
            self.run(commit(self.database, self.bank, state(), head=len(self.model.heads) + off))

    @precondition(lambda self: self.model.saved)
    @rule(which=some)
    def destroy(self, which):
        snapshot = self.model.saved[which % len(self.model.saved)]
        self.write(snapshots.destroy_snapshots, [snapshot], self.bank.created_at)
        self.model.destroyed.add(snapshot)

    @precondition(lambda self: self.model.events)
    @rule(which=some, mode=st.sampled_from(MODES))
    def forget(self, which, mode):
        row = self.event_at(which)
        self.run(forget(self.database, self.bank, row, mode=mode))
        self.model.forget(row.seq, mode)

    @precondition(lambda self: self.model.events)
    @rule(which=some)
    def redact(self, which):
        row = self.event_at(which)
        self.write(forgets.redact, [row.seq], self.bank.created_at)
        self.model.redact(row.seq)

    @rule()
    def look(self):
        self.run(self._compare())

    def teardown(self):
        self.run(self._compare())

    async def _compare(self):
        """Everything at once is dear, so it is a step among others, and the last."""
        model, (tenant, bank) = self.model, (self.bank.tenant, self.bank.id)
        now = await find(self.database, self.bank)
        assert (now.seq, now.epoch, now.head_version) == (len(model.events), model.epoch, len(model.heads))
        assert now.head == (model.heads[-1] if model.heads else "")
        async with self.database.read(tenant) as conn:
            assert await ledger.verify_chain(conn, tenant, bank) == len(model.events)
            lessons = await history.lessons(conn, tenant, bank, 0, len(model.events), 10_000)
            assert [(lesson.seq, lesson.right) for lesson in lessons] == model.lessons()
            assert {row.ordinal: row.text for row in await history.responses(conn, tenant, bank)} == model.said()
            assert {mark.seq: mark.mode for mark in await forgets.tombstones(conn, tenant, bank)} == model.marks
            assert [row.snapshot for row in await snapshots.heads(conn, tenant, bank)] == model.heads[::-1]
            kept = [each for each in model.saved if each not in model.destroyed]
            assert [row.id for row in await snapshots.usable(conn, tenant, bank)] == kept[::-1]
            assert await snapshots.spare_autos(conn, tenant, bank, 2) == kept[::-1][2:]


@pytest.mark.timeout(3_600)
def test_store_holds_what_the_model_holds_whatever_is_done(runner_and_database):
    runner, database = runner_and_database
    run_state_machine_as_test(
        lambda: StoreBesideModel(runner, database),
        settings=long_walks(EXAMPLES),
    )

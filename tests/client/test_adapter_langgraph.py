"""A memory as LangGraph's store, used as graphs use any store: through its own methods, and inside a compiled graph."""

import pytest
from saying import PIN

from palimpsest import Client, errors

pytest.importorskip("langgraph")

from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore, GetOp, PutOp, SearchOp

from palimpsest.adapters.langgraph import PalimpsestStore

REWORDED = "How can I change the PIN of my card?"
FRANCE = "What is the capital of France?"


@pytest.fixture
def store(memory) -> PalimpsestStore:
    return PalimpsestStore(memory)


@pytest.fixture
def space(bank) -> tuple[str, ...]:
    """The namespace of the test's own bank, and of one below it that nobody made yet."""
    return (bank, "alice")


def test_what_is_put_is_got_by_its_key_and_found_by_other_words(store, space):
    assert store.get(space, PIN) is None
    assert store.search(space, query=PIN) == []
    store.put(space, PIN, {"right": "in the app", "source": "ana"})
    got = store.get(space, PIN)
    assert (got.key, got.value, got.namespace) == (PIN, {"right": "in the app", "source": "ana"}, space)
    (found,) = store.search(space, query=REWORDED)
    assert (found.key, found.value, found.score > 0.3) == (PIN, got.value, True)
    assert store.get(space, REWORDED) is None, "a key is looked up exactly"
    assert store.search(space, query=FRANCE) == [], "where nothing is known nothing is found"


def test_newer_value_displaces_the_older_and_deleting_brings_neither_back(store, space):
    store.put(space, PIN, {"right": "in the app"})
    store.put(space, PIN, {"right": "at any cash machine"})
    assert store.get(space, PIN).value == {"right": "at any cash machine"}
    assert [item.value["right"] for item in store.search(space, query=REWORDED, limit=10)] == ["at any cash machine"]
    assert [item.value["right"] for item in store.search(space)] == ["at any cash machine"]
    store.delete(space, PIN)
    assert store.get(space, PIN) is None
    assert store.search(space, query=REWORDED) == store.search(space) == []
    store.delete(space, PIN)


def test_value_without_an_answer_comes_back_whole_and_its_field_is_the_situation(memory, store, space):
    named = PalimpsestStore(memory, situation="when")
    value = {"when": PIN, "do": ["open the app", {"then": "Card > Security"}], "n": 1, "ä": None}
    named.put(space, "4711", value)
    assert named.get(space, "4711").value == value
    assert [(item.key, item.value) for item in named.search(space, query=REWORDED)] == [("4711", value)]
    named.put(space, "4711", {"when": FRANCE, "right": "Paris"})
    assert named.search(space, query=REWORDED) == [], "the key has moved to another situation"
    assert named.get(space, "4711").value["right"] == "Paris"
    store.put(space, "4712", {"text": PIN, "right": "in the app"}, index=["text"])
    assert store.search(space, query=REWORDED)[0].key == "4712"
    assert {item.key for item in store.search(space)} == {"4711", "4712"}


def test_search_filters_and_pages(store, space):
    for number in range(5):
        store.put(space, f"rule {number}", {"right": f"do {number}", "odd": number % 2 == 1})
    assert [item.key for item in store.search(space, filter={"odd": True})] == ["rule 1", "rule 3"]
    assert [item.key for item in store.search(space, limit=2, offset=1)] == ["rule 1", "rule 2"]
    assert [item.key for item in store.search(space, query="rule 3", filter={"right": "do 3"})] == ["rule 3"]


def test_namespaces_are_banks_and_know_nothing_of_each_other(memory, store, bank, space):
    store.put(space, PIN, {"right": "in the app"})
    store.put((bank, "bob", "work"), PIN, {"right": "at the branch"})
    assert store.list_namespaces(prefix=(bank,)) == [(bank,), (bank, "alice"), (bank, "bob", "work")]
    assert store.list_namespaces(prefix=(bank,), max_depth=2, offset=1) == [(bank, "alice"), (bank, "bob")]
    assert store.list_namespaces(prefix=(bank, "*", "work")) == store.list_namespaces(prefix=(bank,), suffix=("work",))
    assert store.get((bank,), PIN) is None
    memory.correct(PIN, "taught by somebody else", bank=f"{bank}.alice")
    assert store.get(space, PIN).value == {"right": "taught by somebody else"}


def test_what_a_memory_cannot_do_is_refused_with_a_reason(memory, url, store, bank, space):
    store.put((*space, "deep"), PIN, {"right": "x"})
    for ask, why in (
        (lambda: store.put(space, PIN, {"right": "x"}, index=False), "one situation"),
        (lambda: store.put(space, PIN, {"right": "x"}, index=["a", "b"]), "one situation"),
        (lambda: store.put(space, PIN, {"right": "x"}, index=["when"]), "no text"),
        (lambda: store.put(space, PIN, {"right": "x"}, ttl=5), "TTL"),
        (lambda: store.search((bank, "alice"), query=PIN), "one by one"),
        (lambda: store.search((), query=PIN), "name one"),
        (lambda: store.search((*space, "deep"), filter={"n": {"$gt": 1}}), "operators"),
    ):
        with pytest.raises(NotImplementedError, match=why):
            ask()
    with pytest.raises(errors.Invalid):
        store.put((bank,), " ", {"right": "x"})
    with pytest.raises(errors.Invalid, match="metadata"):
        store.put((bank,), PIN, {"right": "x", "more": "y" * 9_000})
    teacher = memory.mint_key("teacher", ["recall:read", "corrections:write", "memory:inspect"]).key
    with Client(url, api_key=teacher) as client, pytest.raises(errors.Forbidden):
        PalimpsestStore(client).put((bank, "carol"), PIN, {"right": "x"})


async def test_awaited_batch_does_its_operations_in_order(store, space):
    ops = [PutOp(space, PIN, {"right": "in the app"}), GetOp(space, PIN), SearchOp(space, query=REWORDED), PutOp(space, PIN, None)]
    put, got, found, deleted = await store.abatch([*ops])
    assert (put, got.value, [item.key for item in found], deleted) == (None, {"right": "in the app"}, [PIN], None)
    assert await store.aget(space, PIN) is None
    await store.aput(space, PIN, {"right": "at the branch"})
    assert [item.value["right"] for item in await store.asearch(space, query=REWORDED)] == ["at the branch"]


def test_graph_remembers_across_threads_what_one_of_them_was_told(store, space):
    def answer(state: dict, *, store: BaseStore) -> dict:
        found = store.search(space, query=state["question"], limit=1)
        return {"answer": found[0].value["right"] if found else "I do not know"}

    graph = StateGraph(dict).add_node("answer", answer).add_edge(START, "answer").add_edge("answer", END).compile(store=store)
    assert graph.invoke({"question": PIN})["answer"] == "I do not know"
    store.put(space, PIN, {"right": "in the app"})
    assert graph.invoke({"question": REWORDED})["answer"] == "in the app"

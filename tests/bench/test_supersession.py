"""The supersession protocol: the stream, the outcomes, and undoing."""

import numpy as np

from bench.asking import Said
from bench.scoreboard.sources import Version
from bench.scoreboard.stores import OLDEST, STORE, Store
from bench.scoreboard.supersession import OUTCOMES, Script, corrected, outcome, play, undoable, writes
from bench.vectors import Vectors

# wordings lie at right angles but for the one that was reworded
LIST = (Version(1, "list", "ls", True), Version(5, "list", "ls -1", True))
COPY = (Version(2, "copy", "cp", True), Version(3, "copy files", "cp", False), Version(6, "copy files", "cp -r", True))
MOVE = (Version(4, "move", "mv", True), Version(7, "move", "mv -- {{a}}", False))
ITEMS = [LIST, COPY, MOVE]
KEYS = np.zeros((4, 3), np.float32)
KEYS[0, 0] = KEYS[1, 1] = KEYS[3, 2] = 1.0
KEYS[2] = [0.0, 0.8, 0.6]
VECTORS = Vectors({"list": 0, "copy": 1, "copy files": 2, "move": 3}, KEYS, [3] * 4, "d" * 64)


def test_only_entries_that_were_really_corrected_take_part():
    assert corrected(ITEMS) == [LIST, COPY]
    assert corrected([LIST, COPY, LIST, LIST], 2) == [LIST, LIST]


def test_streams_are_in_the_order_of_time():
    assert [write.version.command for write in writes(ITEMS, "corrections")] == ["ls", "cp", "mv", "ls -1", "cp -r"]
    assert writes(ITEMS, "sheet") == writes(ITEMS, "corrections")
    assert [write.version.command for write in writes(ITEMS, "versions")] == ["ls", "cp", "cp", "mv", "ls -1", "cp -r", "mv -- {{a}}"]


def test_an_answer_is_current_stale_wrong_or_none():
    said = [Said("c", 1.0, silent=False), Said("a", 1.0, silent=False), Said("x", 1.0, silent=False), Said("c", 0.1, silent=True)]
    assert [outcome(one, ["a", "b", "c"]) for one in said] == list(OUTCOMES)
    assert outcome(Said("a", 1.0, silent=False), ["a", "b", "a"]) == "current"  # corrected back


def test_what_is_undone_has_an_earlier_command_under_a_wording_of_its_own():
    stream = writes([LIST, COPY], "corrections")
    assert {last.version.command for last, _ in undoable(stream, 10, 0)} == {"ls -1", "cp -r"}
    shared = writes([LIST, COPY, (Version(8, "list", "dir", True), Version(9, "list", "dir /b", True))], "corrections")
    assert {last.version.command for last, _ in undoable(shared, 10, 0)} == {"cp -r"}
    assert len(undoable(stream, 1, 0)) == 1


async def test_store_that_takes_the_newest_is_current_and_gives_the_earlier_answer_back():
    items = corrected(ITEMS)
    stream = writes(items, "corrections")
    script = Script(items, "corrections", stream, undoable(stream, 10, 0), 0)
    first, latest, undone = await play(STORE, Store(VECTORS), lambda done: None, script=script)
    assert [first[each] for each in OUTCOMES] == [0.5, 0.5, 0.0, 0.0]  # "copy" is nearest to what was told under it first
    assert [latest[each] for each in OUTCOMES] == [1.0, 0.0, 0.0, 0.0]
    assert (undone["undone"], undone["at_once"], undone["rebuilt"]) == (2, 1.0, None)


async def test_store_that_takes_the_oldest_is_stale():
    items = corrected(ITEMS)
    stream = writes(items, "corrections")
    _, latest = await play(OLDEST, Store(VECTORS, newest=False), lambda done: None, script=Script(items, "corrections", stream, [], 0))
    assert latest["stale"] == 0.5  # of the entry whose wording stayed

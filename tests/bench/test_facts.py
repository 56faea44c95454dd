"""The facts protocol: what counts as kept, found and left alone, and how the threshold is chosen."""

import pytest

from bench.asking import Said
from bench.scoreboard.facts import Answers, Course, Probes, answers_after, in_order, lines_of
from bench.scoreboard.sources import Fact

EDITS = [Fact(f"prompt {n}", f"rephrase {n}", f"target {n}", f"near {n}", "") for n in range(20)]
FAR = ["far 0", "far 1"]


class Scripted:
    """Right about prompts, less sure about rephrasings; says something about everything."""

    def __init__(self):
        self.told, self.order = {}, []

    async def tell_many(self, rows, progress):
        self.order += rows
        self.told |= {text.split()[1]: right for text, right in rows}
        progress(len(rows))

    async def ask_many(self, texts, progress):
        progress(len(texts))
        sure = {"prompt": 1.0, "rephrase": 0.7, "near": 0.5, "far": 0.1}
        return [Said(self.told.get(text.split()[1], "none"), sure[text.split()[0]], silent=sure[text.split()[0]] < 0.3) for text in texts]


async def test_figures_follow_the_threshold():
    memory, done = Scripted(), []
    first, last = await answers_after(memory, Course(EDITS, [4, 500], FAR), done.append)
    assert [len(one.probes.edits) for one in (first, last)] == [4, 20]
    assert memory.order == [(edit.prompt, edit.target) for edit in EDITS]
    assert sum(done) == 20 + (4 * 3 + 2) + (20 * 3 + 2)
    shares = ("reliability", "generality", "near", "far")
    assert [last.line(0.6)[share] for share in shares] == [1.0, 1.0, 1.0, 1.0]
    assert [last.line(0.4)[share] for share in shares] == [1.0, 1.0, 0.0, 1.0]
    assert [last.line(0.8)[share] for share in shares] == [1.0, 0.0, 1.0, 1.0]
    assert [last.line(None)[share] for share in shares] == [1.0, 1.0, 0.0, 1.0]  # its own silence
    assert last.line(0.6)["apart"] == 1.0
    assert 0.5 < last.best_threshold() <= 0.7


async def test_threshold_is_the_one_by_which_the_figure_that_is_furthest_from_its_goal_is_best():
    probes = Probes.of(EDITS, [])
    sure = [1.0] * 20 + [0.9] * 17 + [0.5] * 2 + [0.3] + [0.6] * 2 + [0.4] * 3 + [0.1] * 15  # prompts, rephrasings, near ones

    def answers(right):
        said = [Said(edit.target, 0.0, silent=False) for edit in (*EDITS, *EDITS)] + [Said("x", 0.0, silent=False)] * 20
        told = [Said(one.value if right else "wrong", at, silent=False) for one, at in zip(said, sure, strict=True)]
        return Answers(probes, told)

    # at .3 all rephrasings are found and 15 of 20 neighbours silent, at .5 19 and 18, at .9 17 and 20: of the ways from .95 and .93 to 1
    # the shorter is -2.6, -0.4 and -2.0
    assert answers(right=True).best_threshold() == 0.5
    assert answers(right=False).best_threshold() == 0.3  # it changes nothing: the lowest


async def test_latest_target_of_a_prompt_is_the_right_one_and_ages_are_told_apart():
    edits = [Fact("prompt 0", "rephrase 0", "old", "near 0", ""), *EDITS[1:19], Fact("prompt 0", "rephrase 0", "new", "near 0", "")]
    (found,) = await answers_after(Scripted(), Course(edits, [20], FAR), lambda done: None)
    assert found.line(0.6)["reliability"] == 1.0  # "new" is right for the first edit as well
    said = list(found.said)
    said[0] = said[1] = Said("wrong", 1.0, silent=False)
    aged = Answers(found.probes, said).line(0.6)
    assert (aged["oldest"], aged["newest"], aged["reliability"]) == (0.0, 1.0, pytest.approx(0.9))


def test_prompt_that_was_edited_is_no_locality_prompt():
    probes = Probes.of([Fact("a", "a?", "1", "b", ""), Fact("b", "b?", "2", "c", ""), Fact("d", "d?", "3", "", "")], FAR)
    assert probes.near == ["c"]
    assert probes.texts == ["a", "b", "d", "a?", "b?", "d?", "c", *FAR]


async def test_memory_with_a_silence_of_its_own_has_a_second_row():
    (found,) = await answers_after(Scripted(), Course(EDITS, [20], FAR), lambda done: None)
    lines = lines_of("counterfact", 3, "it", [found], threshold=0.6)
    assert [(line["memory"], line["T"], line["seed"], line["threshold"]) for line in lines] == [
        ("it", 20, 3, 0.6),
        ("it, its default threshold", 20, 3, None),
    ]


def test_order_is_drawn_with_the_seed():
    assert in_order(EDITS, 0) == in_order(EDITS, 0) != in_order(EDITS, 1)
    assert sorted(edit.prompt for edit in in_order(EDITS, 0)) == sorted(edit.prompt for edit in EDITS)

"""The gate of a consolidation counts what a recall would answer otherwise, also where one answer has replaced another."""

import numpy as np

from model import Lesson, succession
from model.codes import packed_code
from service.store.rows import LessonRow
from workers.gate import Gate
from workers.view import View

ANSWERS = ["A", "B", "other 0", "other 1", "other 2"]
AT = [0] * 60 + [1, 2, 3] * 10 + [0] * 3
TAUGHT = ["A"] * 60 + [f"other {place - 1}" for place in AT[60:90]] + ["B"] * 3  # in paraphrases that lie close together


def keys_of(width):
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((4, width))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    keys = centres[AT] + 0.3 * rng.standard_normal((len(AT), width)) / width**0.5
    return (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)


def view_of(recall, lessons):
    """Of a memory that learned them and in which B has replaced A."""
    state, book = recall.fold(recall.initial(), lessons), recall.book()
    counts = np.array([sum(lesson.right == answer for lesson in lessons) for answer in ANSWERS], np.int32)
    for answer in ANSWERS:
        book.add(answer)
    fast = state.levels["fast"]
    old, new = (succession.find(fast, packed_code(answer, recall.config.code_width)) for answer in "AB")
    fast["kin"][old, succession.SUCCESSOR], fast["kin"][new, succession.PARENT] = new, old
    return View("snap_1", len(lessons), state, ((0, len(lessons)),), book, counts)


async def test_a_correction_flips_where_what_it_replaced_is_certain_again(service):
    reader, thread = service.maintenance.consolidation.reader, service.maintenance.consolidation.thread
    keys = keys_of(reader.recall.config.key_width)
    lessons = [Lesson(key, right, 5, 1 + place) for place, (key, right) in enumerate(zip(keys, TAUGHT, strict=True))]
    again = [Lesson(key, "A", 5, 94 + place) for place, key in enumerate(keys[-3:])]
    rows = [
        LessonRow(seq=lesson.seq, embedding=lesson.key.tobytes(), tokens=5, response=ANSWERS.index(lesson.right), right=lesson.right)
        for lesson in lessons
    ]
    head, candidate = view_of(reader.recall, lessons), view_of(reader.recall, [*lessons, *again])
    said = [[ANSWERS[found[0].index] for found in reader.candidates(view, keys[-3:], 1)] for view in (head, candidate)]
    assert said == [["B"] * 3, ["A"] * 3]
    verdict = await Gate(reader, thread).verdict(head, candidate, rows)
    figures = verdict.figures()
    assert figures == {"probes": 93, "head_right": 93, "candidate_right": 90, "flipped": 3, "replaced": 0, "let_go": 0, "passed": False}
    verdict = await Gate(reader, thread).verdict(head, candidate, rows, replaced={91, 92, 93})
    figures = verdict.figures()
    assert figures == {"probes": 90, "head_right": 90, "candidate_right": 90, "flipped": 0, "replaced": 3, "let_go": 3, "passed": True}
    assert (await Gate(reader, thread).verdict(head, head, rows)).passed

"""Curves: JSON lines that survive a kill, and a picture."""

import json

import pytest
from PIL import Image

from model.train.curves import CurveFile, draw
from model.train.history import Evaluated, Saved, Stepped


def tell(file, steps, *, evaluations=True):
    for step in range(1, steps + 1):
        file(Stepped(step, 16 * step, 4.0 / step, 1e-3, 1.0, 16, 0.01))
        if evaluations and step % 4 == 0:
            file(Evaluated(step, 16 * step, {"loss": 5.0 / step, "bits_per_byte": 2.0, "bits_per_byte/books": 1.5}))
    file(Saved(steps, 16 * steps, file.path))


def test_every_event_but_a_checkpoint_is_one_line_of_json(tmp_path):
    file = CurveFile(tmp_path / "c.jsonl")
    tell(file, 4)
    lines = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert lines == file.lines()
    assert [line["kind"] for line in lines] == ["step"] * 4 + ["evaluation"]
    assert lines[0] | {"seconds": 0.01} == {
        "kind": "step", "step": 1, "tokens": 16, "loss": 4.0, "rate": 1e-3, "norm": 1.0, "step_tokens": 16,
        "seconds": 0.01, "tokens_per_s": 1600.0,
    }  # fmt: skip
    assert lines[-1]["scores"]["bits_per_byte"] == 2.0


def test_torn_last_line_is_not_read_and_a_resumed_run_tells_its_steps_once(tmp_path):
    file = CurveFile(tmp_path / "c.jsonl")
    tell(file, 6)
    with file.path.open("a") as torn:
        torn.write('{"kind": "step", "st')
    assert [line["step"] for line in file.lines()] == [1, 2, 3, 4, 4, 5, 6]
    file.cut(3)
    file(Stepped(4, 64, 1.0, 1e-3, 1.0, 16, 0.01))
    assert [line["step"] for line in file.lines()] == [1, 2, 3, 4]


@pytest.mark.parametrize(("steps", "evaluations"), [(1, False), (300, True)])
def test_picture_is_a_valid_png_with_something_on_it(steps, evaluations, tmp_path):
    file = CurveFile(tmp_path / "c.jsonl")
    tell(file, steps, evaluations=evaluations)
    draw(file.lines(), tmp_path / "c.png", "a run")
    with Image.open(tmp_path / "c.png") as picture:
        picture.verify()
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24)) > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "c.png"]


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="no step to draw"):
        draw([], tmp_path / "c.png", "a run")

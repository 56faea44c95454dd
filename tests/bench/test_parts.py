"""Parts of a board that were measured before: what is found again, and what is not."""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from bench.scoreboard import parts
from bench.scoreboard.parts import Parts, deciding
from service.settings import Settings

LINES = [{"table": "t", "share": 0.5, "after": [0.1, 0.2]}]
NAMED = {"data": "a", "seed": 0, "memory": "it"}
ANSWERS_NOTHING = {  # of a bank of corrections: language models, processes and their wires; a start of the encoder is in its digest
    "bench/language",
    "model/hope",
    "model/language",
    "model/optim",
    "model/start",
    "service/cluster",
    "service/processes",
    "service/wire",
}
DIGESTS = {"a": ["1", ["e", "e"]], "b": ["2", ["e", "e"]]}


def opened(tmp_path, *, given=None, digests=None, fresh=False):
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    return Parts.of("facts", given or {"far": 10}, digests or DIGESTS, fresh=fresh, environ=environ)


async def measured(kept, named=NAMED, lines=LINES, *, product=True):
    """The lines, the steps that were told of, and whether anything was measured."""
    told, ran = [], []

    async def work(progress):
        ran.append(True)
        progress(3)
        progress(4)
        return lines

    return await kept.part(named, work, told.append, product=product), sum(told), bool(ran)


async def test_a_part_is_measured_once_and_found_by_later_runs(tmp_path):
    assert await measured(opened(tmp_path)) == (LINES, 7, True)
    again = opened(tmp_path)
    assert await measured(again) == (LINES, 7, False)
    assert (again.asked, again.found) == (1, 1)
    assert again.earlier == " (1 of 1 parts in earlier runs)"
    assert await measured(again, {**NAMED, "seed": 1}) == (LINES, 7, True)
    assert (again.asked, again.found) == (2, 1)


async def test_a_run_that_is_cut_off_keeps_what_it_ended(tmp_path):
    async def cut(progress):
        raise KeyboardInterrupt

    run = opened(tmp_path)
    await measured(run)
    with pytest.raises(KeyboardInterrupt):
        await run.part({**NAMED, "seed": 1}, cut, lambda done: None, product=True)
    again = opened(tmp_path)
    assert (await measured(again))[2] is False
    assert (await measured(again, {**NAMED, "seed": 1}))[2] is True


async def test_a_part_of_other_options_data_encoders_or_code_is_measured_again(tmp_path, monkeypatch):
    await measured(opened(tmp_path))
    assert (await measured(opened(tmp_path, given={"far": 20})))[2] is True
    assert (await measured(opened(tmp_path, digests={**DIGESTS, "a": ["3", ["e", "e"]]})))[2] is True
    assert (await measured(opened(tmp_path, digests={**DIGESTS, "a": ["1", ["s", "e"]]})))[2] is True
    assert (await measured(opened(tmp_path, digests={"a": DIGESTS["a"]})))[2] is False, "the other set is not its own"
    monkeypatch.setattr(parts, "CODE", "other")
    assert (await measured(opened(tmp_path)))[2] is True


async def test_code_of_the_product_means_nothing_to_rivals(tmp_path, monkeypatch):
    await measured(opened(tmp_path), product=False)
    monkeypatch.setattr(parts, "CODE", "other")
    assert (await measured(opened(tmp_path), product=False))[2] is False
    monkeypatch.setattr(parts, "RIVALS_CODE", "other")
    assert (await measured(opened(tmp_path), product=False))[2] is True


async def test_a_part_of_code_that_was_changed_while_it_ran_is_told_and_not_kept(tmp_path, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(parts, "code_of", lambda *patterns: "changed")
        assert await measured(opened(tmp_path)) == (LINES, 7, True)
    assert (await measured(opened(tmp_path)))[2] is True
    assert (await measured(opened(tmp_path)))[2] is False


async def test_a_part_under_other_settings_is_measured_again(tmp_path):
    plain = Settings()
    await measured(opened(tmp_path, given=deciding(plain)))
    assert (await measured(opened(tmp_path, given=deciding(structs.replace(plain, var_dir=tmp_path)))))[2] is False
    assert (await measured(opened(tmp_path, given=deciding(structs.replace(plain, consolidate_events=99)))))[2] is True


async def test_fresh_measures_again_and_what_it_found_counts_from_then_on(tmp_path):
    await measured(opened(tmp_path))
    newer = [{"share": 0.9}]
    assert await measured(opened(tmp_path, fresh=True), lines=newer) == (newer, 7, True)
    assert await measured(opened(tmp_path)) == (newer, 7, False)


def test_all_that_a_board_of_palimpsest_loads_is_part_of_the_code():
    told = (
        "import sys, bench.scoreboard.facts, bench.corrections, bench.subjects, bench.runs\n"
        "print(*filter(None, (getattr(module, '__file__', None) for module in list(sys.modules.values()))), sep='\\n')"
    )
    loaded = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=parts.ROOT).stdout.split()
    known = {path for pattern in (*parts.BENCHES, *parts.PRODUCT) for path in parts.ROOT.glob(pattern)}
    ours = {Path(file) for file in loaded if Path(file).is_relative_to(parts.ROOT) and ".venv" not in Path(file).parts}
    apart = {path.parent.relative_to(parts.ROOT).as_posix() for path in ours - known}
    assert apart <= ANSWERS_NOTHING, "a package that decides answers must be among parts.PRODUCT"


async def test_nothing_is_kept_without_a_file():
    assert (await measured(Parts("facts", {}, DIGESTS)))[2] is True

"""docs/deviations.md names only what exists: every file, function, class and test in it, and every reference test by its id."""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from model.hope.config import MixerConfig, paper_literal, service

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "deviations.md").read_text()
REFERENCE_TESTS = [f"T{n}" for n in (*range(1, 26), *range(30, 42), *range(50, 54), *range(60, 64))]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)(?:::([\w.]+))?`", PAGE)))


def table(heading: str) -> list[list[str]]:
    """The rows of the first table after a heading, cell by cell, without its head."""
    after = PAGE.split(f"\n{heading}", 1)[1]
    lines = re.search(r"(?:^\|.*\|\n)+", after, re.MULTILINE)
    assert lines is not None, heading
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[0].splitlines()[2:]]


def files_of(name: str) -> list[Path]:
    """Where a name on the page leads: from the root, from `model/` with a folder, from `model/hope/` without, or a test file anywhere."""
    if (ROOT / name).exists():
        return [ROOT / name]
    if name.startswith("test_"):
        return [path for path in TESTS if path.name == name]
    path = ROOT / "model" / name if "/" in name else ROOT / "model" / "hope" / name
    return [path] if path.exists() else []


@cache
def defined(path: Path) -> dict[str, str]:
    """Every top-level name of a module and every method, dotted, with its docstring."""
    names = {}
    for node in ast.parse(path.read_text()).body:
        names |= dict.fromkeys(assigned(node), "")
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                names |= {f"{node.name}.{name}": "" for name in assigned(inner)}
                if isinstance(inner, ast.FunctionDef):
                    names[f"{node.name}.{inner.name}"] = ast.get_docstring(inner) or ""
    return names


def assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def ids_of(test: str, docstring: str) -> set[str]:
    """The reference tests that a test says it is: "T33" in its docstring, or test_t33_… as its name."""
    return set(re.findall(r"\bT\d+\b", docstring)) | {number.upper() for number in re.findall(r"^test_(t\d+)_", test)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=["::".join(filter(None, pair)) for pair in NAMED])
def test_everything_that_the_page_names_exists(file, name):
    found = files_of(file)
    assert len(found) == 1, f"{file} is {len(found)} files"
    assert not name or name in defined(found[0])


def test_every_equation_says_how_it_is_meant_where_it_is_and_what_holds_it():
    known = {row[0] for heading in ("## 7. Tests", "Other tests that §1 names") for row in table(heading)}
    rows = table("## 1. Equations")
    assert len(rows) > 30
    for paper, _, ours, where, held in rows:
        assert re.match(r"(literal|corrected|ours)\b", ours), paper
        assert re.search(r"`[\w/]+\.py::[\w.]+`", where), paper
        assert held, paper
        assert set(held.split(", ")) <= known, paper


def test_every_open_point_has_a_decision_and_a_place():
    rows = table("## 3. Open points")
    assert [row[0] for row in rows] == [f"A{n}" for n in range(1, 27)]
    assert all(decision and re.search(r"`[\w/]+\.py::[\w.]+`", where) for _, _, decision, where in rows)


def test_every_reference_test_has_its_row():
    assert list(dict.fromkeys(row[0] for row in table("## 7. Tests"))) == REFERENCE_TESTS


def test_a_row_names_tests_that_carry_its_id_and_missing_ones_are_missing():
    carried = {
        number for path in TESTS for name, text in defined(path).items() if name.startswith("test_") for number in ids_of(name, text)
    }
    status = {}
    for number, _, test, told in table("## 7. Tests"):
        status.setdefault(number, told)
        named = re.fullmatch(r"`([\w/]+\.py)::(\w+)`", test)
        if named:
            assert number in ids_of(named[2], defined(files_of(named[1])[0])[named[2]]), f"{test} does not say that it is {number}"
    assert {number for number in status if status[number] == "missing"} == set(REFERENCE_TESTS) - carried
    assert all(re.match(r"(present|partly|missing)\b", told) for told in status.values())


def test_the_table_of_presets_is_the_code():
    literal, ours = paper_literal(64), service(64)
    assert ours == MixerConfig(64)
    told = {row[0].strip("`"): tuple(ast.literal_eval(cell.strip("`")) for cell in row[1:3]) for row in table("## 2. Presets")}
    both = {field.name: (getattr(literal, field.name), getattr(ours, field.name)) for field in fields(MixerConfig)}
    assert told == {name: pair for name, pair in both.items() if pair[0] != pair[1]}

"""The documentation builds as a site without a warning, has every route and shape, and its examples print what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built strictly: a link that leads nowhere is an error."""
    where = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(where)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return where


def test_site_builds_without_a_link_that_leads_nowhere_and_has_a_reference_of_every_route_and_shape(site):
    described = json.loads((DOCS / "openapi.json").read_text())
    page = (site / "reference" / "index.html").read_text()
    for path, methods in described["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page
    for name in described["components"]["schemas"]:
        assert f'id="{name.lower()}"' in page, "shapes are linked to by their names"


def test_every_page_is_in_the_navigation():
    def pages(entries: list) -> set[str]:
        return {
            page for entry in entries for (value,) in [entry.values()] for page in (pages(value) if isinstance(value, list) else {value})
        }

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert listed == {page.name for page in DOCS.glob("*.md")} | {"reference.md"}


def test_site_asks_nothing_of_other_hosts(site):
    for page in site.rglob("*.html"):
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', page.read_text()), page


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_what_the_page_says(example, tmp_path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(example)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    page = (DOCS / "examples.md").read_text()
    (section,) = [part for part in page.split("\n## ") if f"examples/{example.name}" in part]
    said = [line.removeprefix("    ") for line in section.splitlines() if line.startswith("    ")]
    assert said == [line for line in done.stdout.splitlines() if line]

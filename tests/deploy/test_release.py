"""What is released: a wheel and a source distribution that build from the sources, and run where nothing of the sources is."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from bench.first_minutes import told

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Where wheel and source distribution lie, built from a copy of what git knows."""
    here = tmp_path_factory.mktemp("release")
    sources = here / "sources"
    sources.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            (sources / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(here / "dist"), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return here / "dist"


@pytest.fixture(scope="module")
def clean(built, tmp_path_factory) -> Path:
    """The commands of an environment that has the wheel, what it needs, and not this checkout."""
    here = tmp_path_factory.mktemp("clean")
    venv.create(here, with_pip=False, symlinks=True)
    (libraries,) = (here / "lib").glob("python*/site-packages")
    (wheel,) = built.glob("*.whl")
    said = ("-m", "pip", "--python", str(here), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    done = run(Path(sys.executable), *said, cwd=here)
    assert done.returncode == 0, done.stderr
    (libraries / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files, this checkout's too, are not followed
    return here / "bin"


def run(command: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("PALIMPSEST_")}
    return subprocess.run([str(command), *words], cwd=cwd, env=kept, capture_output=True, text=True, check=False)


def test_wheel_has_everything_that_is_not_python_and_its_licence(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for kept in ("migrations", "model", "palimpsest", "service", "workers", "bench"):
        tracked = subprocess.run(["git", "ls-files", kept], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
        missing = {name for name in tracked if not name.endswith(".md")} - set(names)
        assert not missing, "pyproject.toml's package-data does not name them"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)


def test_source_distribution_builds_the_same_files(built):
    (source,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(source) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} <= inside


def test_command_of_the_wheel_runs_where_nothing_of_the_sources_is(clean, tmp_path):
    done = run(clean / "palimpsest", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["palimpsest,", "version"]), done.stderr
    where = run(clean / "python", "-c", "import service, palimpsest; print(service.__file__, palimpsest.__file__)", cwd=tmp_path)
    assert str(ROOT) not in where.stdout, "it would be this checkout that is tested"


def test_five_lines_from_an_empty_directory_remember_a_correction(clean, tmp_path):
    story = told((ROOT / "docs" / "index.md").read_text())
    assert len(story.program.strip().splitlines()) <= 5
    done = run(clean / "python", "-W", "error", "-c", story.program, cwd=tmp_path)
    assert done.stdout == story.prints == "In the app, under Card > Security.\n", done.stderr


def test_forms_and_workflow_of_the_public_repository_are_well_formed():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 3
    for form in forms:
        told = yaml.safe_load(form.read_text())
        assert form.name == "config.yml" or {"name", "description", "body"} <= told.keys()
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["all"]["steps"]
    assert steps[-1]["run"] == ".ci/run", "the same that everybody can run"

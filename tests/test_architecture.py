"""The folders, the direction of imports and the sizes of docs/design.md §2, read from the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("model", "service", "workers", "palimpsest", "migrations", "bench")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ROOTS = {"service/embedded.py", "service/cli.py", "service/serving.py"}
ROOTS |= {name.relative_to(ROOT).as_posix() for name in (ROOT / "service" / "processes").glob("*.py")}  # the composition roots
OURS = {"model", "service", "workers", "palimpsest", "migrations", "bench"}
BANNED_NAMES = {"utils", "helpers", "common", "base", "manager", "impl"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_below(folder: str, *, but: set[str] = frozenset()) -> Iterator[tuple[str, str]]:
    for path in MODULES:
        name = name_of(path)
        if name.startswith(folder) and name not in but:
            yield from ((name, module) for module in imports(path))


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def test_every_package_of_the_design_exists():
    assert all((ROOT / package).is_dir() for package in (*PACKAGES, "tests", "docs"))


def test_model_imports_nothing_of_ours_and_no_clock_or_environment():
    bad = [(name, module) for name, module in imports_below("model/") if within(module, "service", "workers", "palimpsest", "bench")]
    bad += [
        (name, module)
        for name, module in imports_below("model/")
        if within(module, "time", "datetime", "random", "os.environ", "sqlalchemy", "redis")
        and not (module.startswith("time") and name.startswith("model/train/"))  # tokens per second
    ]
    assert bad == []


def test_only_composition_roots_of_service_know_torch_model_and_workers():
    bad = [(name, module) for name, module in imports_below("service/", but=ROOTS) if within(module, "torch", "model", "workers", "bench")]
    assert bad == []


def test_composition_roots_import_torch_code_inside_functions_only():
    for root in ROOTS:
        path = ROOT / root
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if within(name, "torch", "model", "workers")], root


def test_store_and_cluster_stay_apart_and_below_the_api():
    bad = [(n, m) for n, m in imports_below("service/store/") if within(m, "service.cluster", "service.api", "redis", "litestar", "celery")]
    bad += [
        (n, m)
        for n, m in imports_below("service/cluster/")
        if within(m, "service.store", "service.api", "sqlalchemy", "litestar", "celery")
    ]
    assert bad == []


def test_chat_knows_neither_store_nor_api():
    above = ("service.api", "service.store", "service.cluster", "litestar", "sqlalchemy")
    assert [(n, m) for n, m in imports_below("service/chat/") if within(m, *above)] == []


def test_workers_do_not_know_the_api():
    assert [(n, m) for n, m in imports_below("workers/") if within(m, "service.api", "bench", "palimpsest")] == []


def test_boards_know_nothing_of_the_comparison_of_language_models():
    bad = [(name, module) for name, module in imports_below("bench/scoreboard/") if within(module, "bench.language", "bench.synthetic")]
    assert bad == [], "what several benches use lies beside their packages"


def test_palimpsest_client_imports_nothing_of_ours_but_to_run_the_service():
    roots = {"palimpsest/embedded.py": "service.embedded", "palimpsest/cli/__init__.py": "service.cli"}
    known = [(n, m) for n, m in imports_below("palimpsest/") if within(m, *(OURS - {"palimpsest"}))]
    assert [(n, m) for n, m in known if not within(m, roots.get(n, "nothing"))] == []
    for root in roots:  # and that inside functions
        top = [node for node in ast.parse((ROOT / root).read_text()).body if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in top if within(node.module or "", *(OURS - {"palimpsest"}))], root


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("litestar", ("service/api/", "service/console/")),
        ("sqlalchemy", ("service/store/", "migrations/")),
        ("alembic", ("service/store/", "migrations/")),
        ("celery", ("workers/celery_app.py", "workers/tasks.py", "service/bell.py")),
        ("redis", ("service/cluster/",)),
        ("mcp", ("palimpsest/mcp/",)),
        ("anthropic", ("palimpsest/adapters/anthropic.py",)),
        ("agents", ("palimpsest/adapters/openai_agents.py",)),
        ("langchain_core", ("palimpsest/adapters/langchain.py",)),
        ("langgraph", ("palimpsest/adapters/langgraph.py",)),
        ("llama_index", ("palimpsest/adapters/llama_index.py",)),
    ],
)
def test_library_stays_in_its_room(library, homes):
    strangers = {
        name_of(path)
        for path in MODULES
        if any(within(module, library) for module in imports(path)) and not name_of(path).startswith(homes)
    }
    strangers = {name for name in strangers if not name.startswith("bench/")}
    assert strangers == set()


def test_batching_needs_no_torch():
    assert not [module for module in imports(ROOT / "workers/batch.py") if within(module, "torch", "model")]


def test_nothing_unpickles_or_evaluates():
    for path in MODULES:
        assert not any(within(module, "pickle", "dill", "shelve", "marshal") for module in imports(path)), name_of(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "torch.load", "yaml.load", "np.load", "numpy.load"}, f"{name_of(path)}: {called}"


def test_modules_are_one_idea_of_readable_size():
    too_long = {name_of(path): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 400}
    assert too_long == {}


def test_no_module_is_named_for_nothing():
    assert [name_of(path) for path in MODULES if path.stem in BANNED_NAMES] == []


def test_every_module_says_what_it_is():
    silent = [name_of(path) for path in MODULES if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None]
    assert silent == []


def test_functions_are_short():
    long = []
    for path in MODULES:
        if name_of(path).startswith("migrations/versions"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (node.end_lineno or 0) - node.lineno > 60:
                long.append(f"{name_of(path)}:{node.name}")
    assert long == []

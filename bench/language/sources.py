"""What a measured figure depends on: a digest of the source that makes a kind, trains it and reads it, and of nothing else.

Comments, docstrings and layout do not count, and neither do modules that a run does not use (conversion of pretrained models, other
optimizers, reports): a ledger of many hours must not become outdated by them. The modules that make a kind are followed through all that
they import below `model.hope`; those that every run goes through are listed. What is fixed in numbers is given as words (`how`).
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLLOWED = "model.hope"
TRAINED_BY = (
    *(f"model/train/{name}.py" for name in ("loop", "outer", "batches", "evaluate", "nats", "settings")),
    *(f"model/optim/{name}.py" for name in ("adamw", "rule", "split", "frequency")),
)
READ_BY = tuple(f"bench/language/{name}.py" for name in ("context", "continual", "corpora", "rivals", "sizes", "stream", "trials"))


def digest(makers: Iterable[str], how: str = "") -> str:
    """Twelve hex digits: the modules that make a kind, with what they import below `model.hope`, and those of every run."""
    files = {*reached(makers), *((ROOT / name).resolve() for name in (*TRAINED_BY, *READ_BY))}
    return sha256("\n".join([how, *(_meaning(file) for file in sorted(files))]).encode()).hexdigest()[:12]


def reached(modules: Iterable[str]) -> set[Path]:
    """The files of modules, and those of `model.hope` that they import, one after another."""
    found: set[Path] = set()
    waiting = [file for name in modules for file in _files(name)]
    while waiting:
        if (file := waiting.pop()) not in found:
            found.add(file)
            waiting += [under for name in _imports(file) if f"{name}.".startswith(f"{FOLLOWED}.") for under in _files(name)]
    return found


def _imports(file: Path) -> Iterator[str]:
    """Modules, and names of modules that may be one themselves."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _files(module: str) -> list[Path]:
    """The file of a module; none for a package, whose own file only says what it offers, and for a name that is no module."""
    file = (ROOT / module.replace(".", "/")).with_suffix(".py")
    return [file.resolve()] if file.is_file() else []


@cache
def _meaning(file: Path) -> str:
    """The code without what only people read."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)

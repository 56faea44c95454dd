"""What a measured figure depends on: a digest of the source that makes a kind, trains it and reads it, and of nothing else.

Comments, docstrings and layout do not count, and neither do modules that a run does not use (conversion of pretrained models, other
optimizers, reports): a ledger of many hours must not become outdated by them. What is fixed in numbers, such as batches and what is
measured on, is given as words (`how`).
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAINED_BY = ("loop", "outer", "batches", "evaluate", "nats", "settings", "../optim/adamw")  # of model/train
READ_BY = ("context", "continual", "corpora", "stream")  # of this package


def digest(makers: Iterable[str], how: str = "") -> str:
    """Twelve hex digits: the modules that make a kind, with all that they import below `model.hope`, and the protocol."""
    shared = [*(f"model/train/{name}.py" for name in TRAINED_BY), *(f"bench/language/{name}.py" for name in READ_BY)]
    files = {*_reached([_path(name) for name in makers]), *((ROOT / name).resolve() for name in shared)}
    return sha256("\n".join([how, *(_meaning(file) for file in sorted(files))]).encode()).hexdigest()[:12]


def _reached(files: Iterable[Path]) -> set[Path]:
    """The files, and those of `model.hope` that they import, one after another."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        if (file := waiting.pop()) not in found:
            found.add(file)
            waiting += [_path(name) for name in _imports(file) if name.startswith("model.hope.")]
    return found


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _path(module: str) -> Path:
    return (ROOT / module.replace(".", "/")).with_suffix(".py").resolve()


@cache
def _meaning(file: Path) -> str:
    """The code without what only people read."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)

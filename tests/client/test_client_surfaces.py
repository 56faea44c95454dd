"""The two clients are one: the same methods with the same parameters; and what they know of the service is what it is."""

import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import msgspec
import pytest

from palimpsest import AsyncClient, Client, errors, exchange, replies
from palimpsest.cli import ASKING
from palimpsest.steps import listing, method
from service import wire
from service.api.docs_page import error_codes
from service.api.openapi import VERSION

ROOT = Path(__file__).resolve().parents[2]
OTHERWISE = {"SessionInfo": "Session"}  # what the client calls otherwise
METHODS = sorted({name for kind in Client.__mro__ for name, value in vars(kind).items() if isinstance(value, (method, listing))})


def test_both_clients_have_the_same_public_names_and_parameters():
    waiting, awaiting = ({name for name in dir(kind) if not name.startswith("_")} for kind in (Client, AsyncClient))
    assert waiting == awaiting
    for name in waiting - {"bank"}:
        one, other = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
        assert one.parameters == other.parameters, name
    one, other = (inspect.signature(kind.__init__).parameters for kind in (Client, AsyncClient))
    assert {**one, "http": None, "self": None} == {**other, "http": None, "self": None}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_written_once_documented_and_seen_with_their_parameters(name):
    waiting, awaiting = Client(api_key="k"), AsyncClient(api_key="k")
    first, second = getattr(waiting, name), getattr(awaiting, name)
    assert first.__wrapped__.__func__ is second.__wrapped__.__func__
    assert first.__doc__ == second.__doc__
    assert first.__doc__.strip()
    assert inspect.signature(first).parameters == inspect.signature(second).parameters
    waiting.close()


TYPED = """
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from palimpsest import AsyncClient, Client, Told
from palimpsest.replies import Correction, Job, Recalled, RolledBack

def waiting(memory: Client) -> None:
    recalled: Recalled = memory.recall("x", top_k=2)
    listed: Iterator[Correction] = memory.corrections()
    job: Job = memory.consolidate().wait()
    saved: Path = memory.export("snap_1").save("file")
    told: Iterator[Told] = memory.changes()
    rolled: RolledBack = memory.rollback(source={"session_id": "x"}, keep=["cor_1"])
    memory.rollback(source={"session": "x"})  # wrong
    with memory.session() as session:
        said: Recalled = session.recall("x")
    memory.recall(1)  # wrong
    memory.correct("x")  # wrong

async def awaiting(memory: AsyncClient) -> None:
    recalled: Recalled = await memory.recall("x", top_k=2)
    listed: AsyncIterator[Correction] = memory.corrections()
    job: Job = await (await memory.consolidate()).wait()
    saved: Path = await (await memory.export("snap_1")).save("file")
    told: AsyncIterator[Told] = memory.changes()
    async with memory.session() as session:
        said: Recalled = await session.recall("x")
    with memory.session() as never:  # wrong
        pass
    unasked: Recalled = memory.recall("x")  # wrong
"""


@pytest.mark.timeout(900)
def test_type_checkers_see_what_each_client_gives(tmp_path):
    (tmp_path / "program.py").write_text(TYPED)
    words = [sys.executable, "-m", "mypy", str(tmp_path / "program.py")]  # with the cache that `make check` leaves
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    faulty = {int(line.split(":")[1]) for line in ran.stdout.splitlines() if "program.py:" in line and ": error:" in line}
    assert faulty == {number for number, line in enumerate(TYPED.splitlines(), 1) if line.endswith("# wrong")}, ran.stdout


def reply_kinds():
    kinds = [kind for kind in vars(replies).values() if isinstance(kind, type) and issubclass(kind, replies.Reply)]
    return [kind for kind in kinds if kind is not replies.Reply]


@pytest.mark.parametrize("kind", reply_kinds(), ids=lambda kind: kind.__name__)
def test_reply_has_the_fields_that_the_service_sends(kind):
    sent = getattr(wire, OTHERWISE.get(kind.__name__, kind.__name__))
    ours, theirs = ({field.name: field.required for field in msgspec.structs.fields(one)} for one in (kind, sent))
    assert ours == theirs
    for name in ours:
        mine, said = (str(typing.get_type_hints(one)[name]) for one in (kind, sent))
        mine, said = (re.sub(r"(palimpsest\.replies|service\.wire)\.\w+\.", "", text) for text in (mine, said))
        said = re.sub(r"^typing\.Optional\[(\w+)\]$", r"\1 | None", said)  # of a bounded text
        assert mine == said or "Literal" in said, name


def test_every_reply_of_the_service_is_known_to_the_client():
    sent = {name for name in wire.__all__ if isinstance(kind := getattr(wire, name), type) and issubclass(kind, wire.Reply)}
    known = {OTHERWISE.get(kind.__name__, kind.__name__) for kind in reply_kinds()}
    others = {name for name in sent if name.startswith("Mem0")}  # what programs of mem0 are answered
    assert sent - known - others == {"ForgetPreview", "Problem", "Reply"}  # the first goes from worker to api alone


def test_every_code_of_the_service_has_a_class_of_its_own():
    assert errors.BY_CODE.keys() == error_codes().keys()


def test_client_is_written_for_the_version_that_the_service_has():
    assert exchange.API == VERSION


def loaded(program: str) -> set[str]:
    shown = f"{program}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout.split())


def test_client_loads_nothing_of_the_service():
    names = loaded("import palimpsest; palimpsest.Client(api_key='k'); palimpsest.AsyncClient(api_key='k')")
    assert not names & {"torch", "litestar", "sqlalchemy", "celery", "service", "workers", "model", "numpy", "uvloop"}


def test_commands_of_a_client_load_nothing_of_the_service():
    others = [name for name in ASKING if name != "jobs"]  # shares its name with a command of the service
    program = f"import palimpsest.cli as cli\nfor name in {others}: cli.main.get_command(None, name)"
    assert not loaded(program) & {"torch", "litestar", "sqlalchemy", "celery", "service", "workers", "model", "numpy"}

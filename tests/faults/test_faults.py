"""A process dies at every await of an operation that reaches the database or the blob store, and a new one finds everything whole.

On SQLite one run of an operation gives what `kill -9` would leave at each of its points, and a new service lives on every one of these
remains that differ. On PostgreSQL, whose files cannot be copied, the operation is done anew for each point and killed there.
"""

import contextlib
import shutil
import traceback
from pathlib import Path

import pytest
from fault_operations import OPERATIONS, Operation
from fault_points import Crash, Fatal, Points, Recorded, Remains, armed
from fault_promises import check_erased, check_nothing_is_left_over, examine, unsynced
from fault_world import SECRET, SECRET_RIGHT, Process, World, load, rows_of, run_out, url_of, watched
from fixtures_service import client_of, serving
from fixtures_store import fresh_url

from service.embedded import utc_now
from service.store import tenants

pytestmark = pytest.mark.timeout(1_200)  # on a busy machine; a test is dozens of services

SLICES = 3  # tests that share an operation, so that they can run beside each other
# Before these something is written.
CHANGES = ("after the commit", "put: between", "put: after", "delete: after", "drop_tenant: after", "compacted", "end")
EVERY = 3  # of the points on PostgreSQL before which a process may die with different remains, but for erasures
LEFT = ("put: between", "put: after", "delete: after")  # with bytes in the store that no snapshot needs, or a row without them
ALL = False  # every point on PostgreSQL instead; a quarter of an hour

sliced = pytest.mark.parametrize(("name", "part"), [(name, part) for name in OPERATIONS for part in range(SLICES)])


@pytest.fixture(scope="session")
def recordings() -> dict[str, Recorded]:
    return {}


async def recorded(name: str, world: World, encoder, recordings, tmp_path_factory) -> Recorded:
    """The operation, done once in this process on a copy of the world: what a death leaves at each of its points."""
    if name not in recordings:
        folder = tmp_path_factory.mktemp("recorded")
        points = Recorded(folder / "var", folder / "remains")
        await do(OPERATIONS[name], world.copy(folder / "var"), encoder, points)
        recordings[name] = points
    return recordings[name]


async def do(operation: Operation, world: World, encoder, points: Points, **settings) -> None:
    async with watched(world.directory, encoder, points, **settings) as process:
        await note_key_use(process, world)
        if operation.prepare:
            await operation.prepare(process, world)
        with armed():
            await operation.run(process, world)
            points.reach("end")


async def note_key_use(process: Process, world: World) -> None:
    """Just now: else the service would do it now and again, beside the operation, and the points would not be the same each time."""
    tenant = process.service.tenant
    async with process.service.database.write(tenant) as conn:
        for key in world.rows["api_key"]:
            await tenants.touch_key(conn, tenant, key["id"], utc_now())


@pytest.fixture
def take(world, encoder, fold):
    """Look at remains and collect what is broken."""

    async def look(name: str, remains: Remains, **where) -> list[str]:
        try:
            await examine(remains, OPERATIONS[name], world, encoder, fold, **where)
        except Exception as error:  # of one death; those of the others are to be seen as well
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            return [f"{name}, death at {remains.points[0]} … {remains.points[-1]}: {said}"]
        return []

    return look


@sliced
async def test_process_that_dies_at_any_point_leaves_everything_whole(name, part, world, encoder, recordings, tmp_path_factory, take):
    points = await recorded(name, world, encoder, recordings, tmp_path_factory)
    broken = [said for remains in points.remains[part::SLICES] for said in await take(name, remains)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_no_operation_has_fewer_points_than_it_should(name, world, encoder, recordings, tmp_path_factory):
    points = await recorded(name, world, encoder, recordings, tmp_path_factory)
    check_points(name, points.names)
    assert [point for remains in points.remains for point in remains.points] == points.names


def check_points(name: str, names: list[str]) -> None:
    """Fail if the operation went past what watches it."""
    assert len(names) >= OPERATIONS[name].fewest
    kinds = {point.split(" ", 1)[1] for point in names}
    assert OPERATIONS[name].kinds <= kinds, f"{OPERATIONS[name].kinds - kinds} never happened"


@sliced
async def test_process_that_dies_on_postgresql_leaves_everything_whole(name, part, world, encoder, tmp_path, request, take):
    with on_postgresql(world, tmp_path / "count", request) as (mine, url):
        counted = Points()
        await do(OPERATIONS[name], mine, encoder, counted, database=url)
    check_points(name, counted.names)
    broken = []
    for number in chosen(name, counted.names)[part::SLICES]:
        with on_postgresql(world, tmp_path / f"{number}", request) as (mine, url):
            points = Fatal(mine.directory, tmp_path / f"{number}-remains", number)
            with contextlib.suppress(Crash):
                await do(OPERATIONS[name], mine, encoder, points, database=url)
            assert points.remains is not None
            (died_at,) = points.remains.points  # what happens side by side comes in either order
            assert died_at.split(" ", 1)[1] in {each.split(" ", 1)[1] for each in counted.names}
            broken += await take(name, points.remains, url=url)
    assert not broken, "\n".join(broken)


def chosen(name: str, names: list[str]) -> list[int]:
    """The points to die at: all, or of those before which nothing more is written every third, by turns of the operations.

    Of an erasure all of those.
    """
    if ALL:
        return list(range(len(names)))
    last = [number - 1 for number, point in enumerate(names) if number and point.endswith(CHANGES)]
    if OPERATIONS[name].erases:
        return last
    return last[list(OPERATIONS).index(name) % EVERY :: EVERY]


@contextlib.contextmanager
def on_postgresql(world: World, folder: Path, request):
    """A copy of the world whose rows are in a PostgreSQL database, and its URL."""
    with fresh_url("postgresql", folder, request) as url:
        mine = world.copy(folder)
        (folder / "palimpsest.db").unlink()
        load(url, world.rows)
        yield mine, url


async def test_process_that_has_died_changes_nothing_any_more(world, encoder, tmp_path):
    """What proves that a death is one: on its way out the operation, and whatever closes the service, is refused."""
    mine = world.copy(tmp_path / "var")
    counted = Points()
    await do(OPERATIONS["erasure"], world.copy(tmp_path / "count"), encoder, counted)
    number = len(counted.names) // 2
    points = Fatal(mine.directory, tmp_path / "remains", number)
    with pytest.raises(Crash):
        await do(OPERATIONS["erasure"], mine, encoder, points)
    assert rows_of(url_of(mine.directory)) == rows_of(url_of(points.remains.directory))


SAVING = ("snapshot", "automatic snapshot")  # what also deletes an older one, which holds the secret as well


@pytest.mark.parametrize("name", SAVING)
async def test_erasure_ends_what_a_save_that_died_has_left_of_the_weights(name, world, encoder, recordings, tmp_path_factory):
    """No snapshot tells of these bytes, and while they are half written no row does: nobody waits for the sweeper to find them."""
    points = await recorded(name, world, encoder, recordings, tmp_path_factory)
    assert len([remains for remains in points.remains if remains.points[0].endswith("put: between")]) == 3, "one for each level"
    for remains in points.remains:
        directory = tmp_path_factory.mktemp("erased") / "var"
        shutil.copytree(remains.directory, directory)
        await erase_and_look(directory, world, encoder, url_of(directory))


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("name", SAVING)
async def test_erasure_ends_what_a_save_that_died_has_left_on_postgresql(name, part, world, encoder, tmp_path, request):
    with on_postgresql(world, tmp_path / "count", request) as (mine, url):
        counted = Points()
        await do(OPERATIONS[name], mine, encoder, counted, database=url)
    numbers = [number for number, point in enumerate(counted.names) if point.endswith(LEFT)]
    assert len(numbers) >= 6, "three levels are written"
    for number in numbers[part::SLICES]:
        with on_postgresql(world, tmp_path / f"{number}", request) as (mine, url):
            points = Fatal(mine.directory, tmp_path / f"{number}-remains", number)
            with contextlib.suppress(Crash):
                await do(OPERATIONS[name], mine, encoder, points, database=url)
            assert points.remains is not None
            run_out(url)
            await erase_and_look(points.remains.directory, world, encoder, url, database=url)


async def erase_and_look(directory: Path, world: World, encoder, url: str, **settings) -> None:
    """Erase the secret: no byte that a snapshot does not need is there when the job says `succeeded`."""
    async with unsynced(), serving(directory, encoder, **settings) as service, client_of(service) as client:
        await OPERATIONS["erasure"].again(Process(service, client, Points()), world, False)
    rows = rows_of(url)
    check_nothing_is_left_over(rows, directory)
    check_erased((SECRET, SECRET_RIGHT), encoder, rows, directory)


def test_what_is_to_be_erased_is_found_before(world, encoder):
    """The positive control of all that looks for it afterwards."""
    for text in OPERATIONS["erasure"].erases + OPERATIONS["tenant erasure"].erases:
        for place in ((world.rows, None), ({}, world.directory)):
            with pytest.raises(AssertionError, match="what was erased is in"):
                check_erased([text], encoder, *place)

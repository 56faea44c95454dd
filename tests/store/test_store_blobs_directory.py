"""Blobs in a directory: on the disk before a put returns, gone from it before a deletion does, and nothing left behind on a full one."""

import errno
import hashlib
import os
import resource
import shutil
from pathlib import Path

import pytest

from service.errors import Capacity, StorageFull
from service.ids import new_id
from service.settings import SettingsRefused
from service.store.blobs import LocalBlobs, open_blobs

TENANT = new_id("ten")
DATA = b"weights of a bank" * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "var" / "objects"


@pytest.fixture
def blobs(root) -> LocalBlobs:
    return LocalBlobs(root)


@pytest.fixture
def place(root) -> Path:
    return root / TENANT / DIGEST[:2] / DIGEST


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture
def synced(monkeypatch):
    """What was told to be on the disk, in order: files as (name, bytes at that moment), folders as (path, names in it at that moment)."""
    real, told = os.fsync, []

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        told.append((path, sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return told


async def test_bytes_then_name_are_on_the_disk_before_a_put_returns(blobs, root, place, tmp_path, synced):
    await blobs.put(TENANT, DATA)
    contents = [content for _, content in synced]
    assert DATA in contents, "the bytes were not on the disk"
    named = [index for index, (path, content) in enumerate(synced) if path == place.parent and DIGEST in content]
    assert named, "the name was not on the disk"
    assert contents.index(DATA) < named[0], "the name was there before the bytes"
    new_folders = [root.parent, root, root / TENANT, place.parent]
    for folder in new_folders:  # as are all folders that were new
        assert any(path == folder.parent and folder.name in content for path, content in synced), folder


async def test_put_of_bytes_that_are_there_waits_for_the_disk_too(blobs, place, synced):
    """Who wrote them may have died before their name was durable, or may not have come so far yet."""
    await blobs.put(TENANT, DATA)
    synced.clear()
    await blobs.put(TENANT, DATA)
    assert (place.parent, [DIGEST]) in synced


async def test_deletion_is_on_the_disk_before_it_returns(blobs, place, synced):
    """Or a power cut would bring back what was erased."""
    await blobs.put(TENANT, DATA)
    synced.clear()
    await blobs.delete(TENANT, DIGEST)
    assert synced == [(place.parent, [])]


async def test_dropped_tenant_is_gone_from_the_disk(blobs, root, synced):
    await blobs.put(TENANT, DATA)
    synced.clear()
    assert await blobs.drop_tenant(TENANT) == 1
    assert synced == [(root, [])]


async def test_tenant_that_is_still_written_for_is_not_dropped(blobs, root, monkeypatch):
    await blobs.put(TENANT, DATA)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(Capacity, match="still writes"):
        await blobs.drop_tenant(TENANT)
    assert await blobs.list(TENANT) == [DIGEST]


async def test_file_that_a_killed_writer_left_is_no_blob(blobs, place):
    place.parent.mkdir(parents=True)
    (place.parent / f".{DIGEST[:16]}.0123456789abcdef").write_bytes(DATA[:10])
    assert await blobs.list(TENANT) == []
    await blobs.put(TENANT, DATA)
    assert await blobs.list(TENANT) == [DIGEST]


async def test_full_disk_is_told_and_leaves_nothing_behind(blobs, root):
    small = await blobs.put(TENANT, b"small")
    before = files(root)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        with pytest.raises(StorageFull) as refused:
            await blobs.put(TENANT, bytes(2 << 20))
        assert await blobs.put(TENANT, b"small") == small
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert refused.value.status == 507
    assert files(root) == before
    assert await blobs.get(TENANT, await blobs.put(TENANT, bytes(2 << 20))) == bytes(2 << 20)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
async def test_disk_that_turns_out_full_when_the_bytes_reach_it_leaves_nothing_behind(blobs, root, monkeypatch, code):
    """Delayed allocation: the write is taken and the fsync is refused."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{handle}")).is_file():
            raise OSError(code, os.strerror(code))
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(StorageFull):
            await blobs.put(TENANT, DATA)
    assert files(root) == []
    assert await blobs.put(TENANT, DATA) == DIGEST


async def test_name_that_does_not_reach_the_disk_is_not_acknowledged(blobs, place, synced, monkeypatch):
    recording = os.fsync

    def fsync(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}") == str(place.parent):
            raise OSError(errno.EIO, "I/O error")
        recording(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        for _ in range(2):  # a second try does not take what it finds for safe
            with pytest.raises(StorageFull):
                await blobs.put(TENANT, DATA)
    assert await blobs.put(TENANT, DATA) == DIGEST
    assert (place.parent, [DIGEST]) in synced


async def test_other_errors_of_the_disk_come_through_as_they_are(blobs, root, monkeypatch):
    def fsync(_handle: int) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(PermissionError):
        await blobs.put(TENANT, DATA)


async def test_url_names_the_directory(tmp_path):
    folder = tmp_path / "with a space"
    await open_blobs(folder.as_uri()).put(TENANT, DATA)
    assert len(files(folder)) == 1


@pytest.mark.parametrize("url", ["ftp://bucket", "file://host/var/objects", "/var/objects", "objects", "http://x/", ""])
def test_url_of_a_place_that_this_version_does_not_know_is_refused(url):
    with pytest.raises(SettingsRefused, match="PALIMPSEST_BLOBS"):
        open_blobs(url)


async def test_bytes_that_a_dead_process_was_writing_are_deleted_once_they_are_old(tmp_path):
    blobs = LocalBlobs(tmp_path)
    kept = await blobs.put(TENANT, b"whole")
    half = next(tmp_path.rglob(kept)).parent / ".0123456789abcdef.0123456789abcdef"
    half.write_bytes(b"hal")
    assert await blobs.drop_half_written(60.0) == 0, "somebody may be writing it"
    os.utime(half, (1, 1))
    assert await blobs.drop_half_written(60.0) == 1
    assert not half.exists()
    assert await blobs.get(TENANT, kept) == b"whole"

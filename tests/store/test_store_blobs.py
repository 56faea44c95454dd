"""What every blob store promises, on each of them: bytes under their own digest, never returned damaged, never another tenant's."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from fixtures_s3 import BUCKET, S3

from service.errors import ChecksumMismatch
from service.ids import new_id
from service.store.blobs import Blobs, open_blobs, place

TENANT = new_id("ten")
DATA = b"weights of a bank" * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


@dataclass
class Directory:
    """A directory and what lies in it."""

    root: Path

    def open(self) -> Blobs:
        return open_blobs(self.root.as_uri())

    def names(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def write(self, name: str, data: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)

    def written(self, name: str) -> object:
        found = (self.root / name).stat()
        return found.st_ino, found.st_mtime_ns


@dataclass
class Bucket:
    """A prefix of a bucket and what lies below it."""

    server: S3
    prefix: str

    def open(self) -> Blobs:
        return open_blobs(f"s3://{BUCKET}/{self.prefix}")

    def names(self) -> list[str]:
        return sorted(key.removeprefix(self.prefix + "/") for key in self.server.keys(self.prefix + "/"))

    def write(self, name: str, data: bytes) -> None:
        self.server.write(f"{self.prefix}/{name}", data)

    def written(self, name: str) -> object:
        return self.server.modified(f"{self.prefix}/{name}")


@pytest.fixture(params=["directory", "bucket"])
def store(request, tmp_path, monkeypatch) -> Directory | Bucket:
    """An empty store of each kind in turn."""
    if request.param == "directory":
        return Directory(tmp_path / "var" / "objects")
    server = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Bucket(server, f"some/{uuid4().hex}")


@pytest.fixture
def blobs(store) -> Blobs:
    return store.open()


async def test_blob_is_kept_under_the_digest_of_its_bytes(blobs, store):
    assert await blobs.put(TENANT, DATA) == DIGEST
    assert await blobs.get(TENANT, DIGEST) == DATA
    assert await blobs.list(TENANT) == [DIGEST]
    assert store.names() == [place(TENANT, DIGEST)] == [f"{TENANT}/{DIGEST[:2]}/{DIGEST}"]


async def test_empty_blob_is_a_blob(blobs):
    for _ in range(2):
        assert await blobs.get(TENANT, await blobs.put(TENANT, b"")) == b""


async def test_large_blob_is_one_blob(blobs, store):
    data = bytes(range(256)) * (48 << 10)  # 12 MiB: some clients would send it in parts
    digest = await blobs.put(TENANT, data)
    assert await blobs.put(TENANT, data) == digest
    assert await blobs.get(TENANT, digest) == data
    assert store.names() == [place(TENANT, digest)]


async def test_putting_the_same_bytes_again_leaves_them_alone(blobs, store):
    await blobs.put(TENANT, DATA)
    before = store.written(place(TENANT, DIGEST))
    await asyncio.sleep(1.1 if isinstance(store, Bucket) else 0)  # a server tells times to the second
    assert await blobs.put(TENANT, DATA) == DIGEST
    assert store.written(place(TENANT, DIGEST)) == before
    assert store.names() == [place(TENANT, DIGEST)]


async def test_same_bytes_put_at_once_are_one_blob(blobs, store):
    assert set(await asyncio.gather(*(store.open().put(TENANT, DATA) for _ in range(8)))) == {DIGEST}
    assert store.names() == [place(TENANT, DIGEST)]
    assert await blobs.get(TENANT, DIGEST) == DATA


DAMAGES = {
    "one bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut off": lambda data: data[:-1],
    "nothing left": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "of another blob": lambda data: b"other weights",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_damaged_blob_is_refused_by_name_and_written_anew_by_a_put(blobs, store, damage):
    await blobs.put(TENANT, DATA)
    store.write(place(TENANT, DIGEST), damage(DATA))
    with pytest.raises(ChecksumMismatch, match=DIGEST) as refused:
        await blobs.get(TENANT, DIGEST)
    assert refused.value.code == "checksum-mismatch"
    assert "damaged" in refused.value.detail
    assert await blobs.put(TENANT, DATA) == DIGEST
    assert await blobs.get(TENANT, DIGEST) == DATA
    assert store.names() == [place(TENANT, DIGEST)]


async def test_missing_blob_is_refused_by_name(blobs):
    await blobs.put(TENANT, b"another")
    with pytest.raises(ChecksumMismatch, match=f"{DIGEST} is missing"):
        await blobs.get(TENANT, DIGEST)


async def test_blob_of_another_tenant_is_not_there(blobs):
    stranger = new_id("ten")
    await blobs.put(TENANT, DATA)
    with pytest.raises(ChecksumMismatch, match="missing"):
        await blobs.get(stranger, DIGEST)
    assert await blobs.list(stranger) == []
    await blobs.delete(stranger, DIGEST)
    assert await blobs.drop_tenant(stranger) == 0
    assert await blobs.get(TENANT, DIGEST) == DATA


async def test_deleted_blob_is_gone_and_deleting_it_again_is_a_success(blobs):
    kept = await blobs.put(TENANT, b"kept")
    await blobs.put(TENANT, DATA)
    for _ in range(2):
        await blobs.delete(TENANT, DIGEST)
    assert await blobs.list(TENANT) == [kept]
    with pytest.raises(ChecksumMismatch):
        await blobs.get(TENANT, DIGEST)


async def test_list_names_blobs_only(blobs, store):
    digests = sorted([await blobs.put(TENANT, b"%d" % n) for n in range(120)])
    store.write(f"{TENANT}/00/.left-by-a-killed-writer", b"half")
    assert await blobs.list(TENANT) == digests


async def test_dropped_tenant_leaves_nothing_and_its_neighbours_whole(blobs, store):
    """Its neighbour's name begins as its own does, as far as names may."""
    neighbour = TENANT[:-1] + ("0" if TENANT[-1] != "0" else "1")
    kept = [await blobs.put(neighbour, b"%d" % n) for n in range(3)]
    for n in range(7):
        await blobs.put(TENANT, b"%d" % n)
    store.write(f"{TENANT}/00/.left-by-a-killed-writer", b"half of a secret")
    assert await blobs.drop_tenant(TENANT) == 8
    assert store.names() == sorted(place(neighbour, digest) for digest in kept)
    assert await blobs.drop_tenant(TENANT) == 0
    assert await blobs.list(TENANT) == []
    assert await blobs.get(neighbour, kept[0]) == b"0"
    assert await blobs.put(TENANT, DATA) == DIGEST


BAD_TENANTS = ["", ".", "..", "../" + TENANT, TENANT + "/..", f"/{TENANT}", TENANT.lower(), TENANT + "\n", "ten_", TENANT[:-1] + "."]
BAD_DIGESTS = [
    "",
    "..",
    "../" * 21 + "a",
    "/etc/passwd",
    DIGEST.upper(),
    DIGEST[:-1],
    DIGEST + "0",
    DIGEST + "\n",
    DIGEST[:-1] + "/",
    "\0" * 64,
]


async def test_no_id_leads_out_of_the_store(blobs, store):
    await blobs.put(TENANT, DATA)
    before = store.names()
    for tenant in BAD_TENANTS:
        calls = (
            blobs.put(tenant, DATA),
            blobs.get(tenant, DIGEST),
            blobs.delete(tenant, DIGEST),
            blobs.list(tenant),
            blobs.drop_tenant(tenant),
        )
        for call in calls:
            with pytest.raises(ValueError, match="not a tenant id"):
                await call
    for digest in BAD_DIGESTS:
        for call in (blobs.get(TENANT, digest), blobs.delete(TENANT, digest)):
            with pytest.raises(ValueError, match="a digest"):
                await call
    assert store.names() == before

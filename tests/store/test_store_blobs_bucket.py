"""Blobs in a bucket: where it is, and what is told when it cannot be used."""

import asyncio
import re
import sys
from datetime import timedelta

import pytest
from fixtures_s3 import BUCKET
from waiting import lasted

from service.errors import Capacity, ChecksumMismatch
from service.ids import new_id
from service.settings import SettingsRefused
from service.store import object_blobs
from service.store.blobs import open_blobs, place

TENANT = new_id("ten")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def environment(s3, monkeypatch):
    """The variables of the server, free to be changed."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


async def test_url_names_the_bucket_and_the_prefix(environment, s3):
    digest = await open_blobs(f"s3://{BUCKET}/one%20of/several/").put(TENANT, b"data")
    assert s3.keys("one of/") == [f"one of/several/{place(TENANT, digest)}"]
    for other in (f"s3://{BUCKET}/one", f"s3://{BUCKET}", f"s3://{BUCKET}/another"):
        assert await open_blobs(other).list(TENANT) == []
    assert await open_blobs(f"s3://{BUCKET}").put(TENANT, b"data") == digest
    assert s3.keys("ten_") == [place(TENANT, digest)]


CALLS = {
    "put": lambda blobs: blobs.put(TENANT, b"data"),
    "get": lambda blobs: blobs.get(TENANT, "0" * 64),
    "delete": lambda blobs: blobs.delete(TENANT, "0" * 64),
    "list": lambda blobs: blobs.list(TENANT),
    "drop_tenant": lambda blobs: blobs.drop_tenant(TENANT),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_store_that_is_away_is_told_as_such(environment, call):
    environment.setenv("AWS_ENDPOINT_URL", NOWHERE)
    with pytest.raises(Capacity, match="blob store cannot be reached") as refused:
        await call(open_blobs("s3://bucket"))
    assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
    assert "127.0.0.1" not in refused.value.detail
    assert TENANT not in refused.value.detail


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_bucket_that_is_not_there_is_no_bucket_without_blobs(environment, call):
    with pytest.raises(Capacity, match="its bucket is not there"):
        await call(open_blobs("s3://no-such-bucket"))


async def test_store_that_never_answers_is_given_up(environment, monkeypatch):
    """Each request has an end, and so has trying again."""
    monkeypatch.setattr(object_blobs, "REQUEST", timedelta(milliseconds=200))
    monkeypatch.setattr(object_blobs, "RETRY", timedelta(milliseconds=500))
    asked = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        asking = open_blobs("s3://bucket").get(TENANT, "0" * 64)
        (told,), seconds = await lasted(asyncio.gather(asking, return_exceptions=True))
        assert isinstance(told, Capacity)
        assert "blob store cannot be reached" in told.detail
        assert seconds < 5
        for writer in asked:
            writer.close()
            await writer.wait_closed()
    assert 1 <= len(asked) <= 1 + object_blobs.RETRIES


async def test_store_that_stumbles_is_asked_again(environment, s3):
    """Two requests in a row get an error of the server, the third goes through."""
    digest = await open_blobs(f"s3://{BUCKET}/stumbling").put(TENANT, b"data")
    refusals = [b"500 Internal Server Error", b"503 Slow Down"]

    async def stumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = refusals.pop(0) if refusals else b"200 OK"
        body = b"data" if said.startswith(b"200") else b""
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\netag: x\r\n" % (said, len(body)))
        writer.write(b"last-modified: Sun, 01 Nov 2026 12:00:00 GMT\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(stumble, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        assert await open_blobs(f"s3://{BUCKET}/stumbling").get(TENANT, digest) == b"data"
    assert refusals == []


async def test_put_whose_acknowledgement_was_lost_is_found_to_be_there(environment, s3):
    """The second try is told that the object exists, and looks whether it is what it wanted to write."""
    blobs = open_blobs(f"s3://{BUCKET}/lost")
    host, _, port = s3.url.removeprefix("http://").partition(":")
    cut = 0

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal cut
        there, back = await asyncio.open_connection(host, int(port))
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(re.search(rb"(?i)content-length: (\d+)", head + b"content-length: 0")[1])
        back.write(head.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nconnection: close\r\n") + await reader.readexactly(size))
        answer = await there.read()
        if head.startswith(b"PUT") and not cut:
            cut += 1
        else:
            writer.write(answer)
        for each in (writer, back):
            each.close()
            await each.wait_closed()

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        name, at = server.sockets[0].getsockname()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{name}:{at}")
        digest = await open_blobs(f"s3://{BUCKET}/lost").put(TENANT, b"data")
    assert cut == 1
    assert await blobs.get(TENANT, digest) == b"data"


async def test_endpoint_without_tls_is_used_only_where_the_environment_names_one(environment, s3):
    environment.setenv("AWS_ENDPOINT_URL", s3.url.replace("http://", "https://"))  # which nobody speaks there
    with pytest.raises(Capacity):
        await open_blobs(f"s3://{BUCKET}").get(TENANT, "0" * 64)
    environment.delenv("AWS_ENDPOINT_URL")
    for name in object_blobs.ENDPOINTS:
        environment.setenv(name, s3.url)
        with pytest.raises(ChecksumMismatch):
            await open_blobs(f"s3://{BUCKET}").get(TENANT, "0" * 64)
        environment.delenv(name)


def test_settings_of_the_client_that_it_does_not_know_are_refused(environment):
    environment.setenv("AWS_CONDITIONAL_PUT", "sometimes")
    with pytest.raises(SettingsRefused, match="PALIMPSEST_BLOBS and the AWS_ variables"):
        open_blobs(f"s3://{BUCKET}")


def test_bucket_without_its_package_is_refused_with_the_command_that_helps(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "service.store.object_blobs")
    with pytest.raises(SettingsRefused, match=r"pip install 'palimpsest\[s3\]'"):
        open_blobs(f"s3://{BUCKET}")


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://bucket?x=1", "s3://bucket#x", "s3:bucket"])
def test_url_that_names_no_bucket_is_refused(url):
    with pytest.raises(SettingsRefused, match="PALIMPSEST_BLOBS"):
        open_blobs(url)

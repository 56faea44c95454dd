"""A client's address is no way into this network: what is called is what was checked, and what answers is bounded."""

import asyncio
import contextlib
import socket

import pytest
from waiting import PATIENCE_S

from service.outside import ANSWER_MAX, AddressRefused, NoAnswer, Outside, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.5.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:c0a8:101::",
    ],
)
def test_address_of_a_network_of_ones_own_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_address_of_the_internet_is_public(address):
    assert is_public(address)


@contextlib.asynccontextmanager
async def outside(*addresses: str, private: bool = False):
    """One for whom every host has these addresses, the first time the first, and so on."""
    given = [each.split() for each in addresses]

    async def resolve(host: str, port: int) -> list[str]:
        return given.pop(0) if len(given) > 1 else given[0]

    made = Outside(private=private, resolve=resolve) if addresses else Outside(private=private)
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/",
        "ftp://a.example/",
        "https:///path",
        "https://",
        "//a.example/",
        "a.example",
        "",
        "https://user:secret@a.example/",
        "https://user@a.example/",
        "https://a.example/#part",
        "https://a.example:99999/",
        "https://a.example:x/",
        "https://a.example/ b",
        "https://a.example/\n",
        "https://é.example/",
        "https://[::1",
    ],
)
async def test_url_of_another_form_is_refused(url):
    async with outside("8.8.8.8") as out:
        with pytest.raises(AddressRefused):
            await out.check(url)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://[::1]/", "https://localhost/", "https://2130706433/", "https://0x7f000001/"]
)
async def test_url_that_leads_into_this_machine_is_refused(url):
    async with outside() as out:
        with pytest.raises(AddressRefused):
            await out.check(url)


async def test_host_with_one_address_inside_among_public_ones_is_refused():
    async with outside("8.8.8.8 10.0.0.1") as out:
        with pytest.raises(AddressRefused, match="not public"):
            await out.check("https://a.example/")


@contextlib.asynccontextmanager
async def answering(answer: bytes):
    """A server of this machine: its port, and what it was sent."""
    heard = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


async def test_name_that_leads_inside_once_it_was_checked_is_not_called():
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, heard), outside("8.8.8.8", "127.0.0.1") as out:
        url = f"https://a.example:{port}/"
        await out.check(url)
        with pytest.raises(AddressRefused):
            await out.post(url, b"{}", [])
        assert heard == []


async def test_what_was_looked_up_is_what_is_connected_to():
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n") as (port, heard), outside("127.0.0.1", private=True) as out:
        assert await out.post(f"http://nowhere.invalid:{port}/hook?a=1", b"{}", [("X-Test", "yes")]) == 204
    assert heard[0].startswith(b"POST /hook?a=1 HTTP/1.1\r\n")
    assert f"Host: nowhere.invalid:{port}".encode() in heard[0]
    assert b"X-Test: yes" in heard[0]


async def test_redirect_is_an_answer_and_is_not_followed():
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer) as (port, heard), outside(private=True) as out:
        assert await out.post(f"http://127.0.0.1:{port}/", b"{}", []) == 302
    assert len(heard) == 1


async def test_endless_answer_is_not_read_to_its_end():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * (2 * ANSWER_MAX)
    async with answering(answer) as (port, _), outside(private=True) as out:
        async with asyncio.timeout(PATIENCE_S):
            assert await out.post(f"http://127.0.0.1:{port}/", b"{}", []) == 200


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 banana\r\n\r\n"])
async def test_no_answer_is_told_as_such(answer):
    async with answering(answer) as (port, _), outside(private=True) as out:
        with pytest.raises(NoAnswer):
            await out.post(f"http://127.0.0.1:{port}/", b"{}", [])


async def test_closed_port_is_no_answer():
    with socket.socket() as taken:  # by nobody who listens, and by nobody else
        taken.bind(("127.0.0.1", 0))
        async with outside(private=True) as out:
            with pytest.raises(NoAnswer):
                await out.post(f"http://127.0.0.1:{taken.getsockname()[1]}/", b"{}", [])

"""The console over HTTP: its cookie stands for a key, for nothing more and no longer, and counts from its own pages alone."""

import hashlib
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path

import pytest
from fixtures_service import client_of, serving_app
from saying import PIN, teach
from tenancy import client_over, deps_of, kept, refused

from service.api.app import build_app
from service.cluster.coord import MemoryCoord
from service.console import pages

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "service" / "console" / "static"
MARK = {"Palimpsest-Console": "1"}
OURS = MARK | {"Sec-Fetch-Site": "same-origin"}
LESSON = {"input": PIN, "right": "change_pin"}


class Visitor:
    """A browser without a key: sends its cookie with everything, as browsers do."""

    def __init__(self, client, cookie: str) -> None:
        self.client, self.cookie = client, cookie

    async def __call__(self, method: str, path: str, headers: dict, body=None):
        return await self.client.request(method, path, headers={"Cookie": self.cookie, **headers}, json=body)


async def sign_in(client, key: str, headers=OURS):
    return await client.post("/console/sign-in", headers=headers | {"Authorization": f"Bearer {key}"})


async def visitor(tenant, *scopes: str, **more) -> tuple[Visitor, str]:
    """Somebody who is signed in with a key of these scopes, and the key."""
    key = await tenant.key(*(scopes or ("admin",)), **more)
    client = await tenant._stack.enter_async_context(client_of(tenant.service, key))
    del client.headers["authorization"]
    response = await sign_in(client, key)
    assert response.status_code == 201, response.text
    client.cookies.clear()
    return Visitor(client, response.headers["set-cookie"].partition(";")[0]), key


async def test_cookie_is_for_this_host_alone_and_no_script_can_read_it(tenant):
    key = await tenant.key("recall:read")
    response = await sign_in(tenant.client, key)
    cookie = response.headers["set-cookie"].split("; ")
    assert re.fullmatch(r"palimpsest_console=[\w-]{43}", cookie[0])
    assert {part.lower() for part in cookie[1:]} == {"httponly", "samesite=strict", "path=/", "max-age=43200"}
    assert response.json()["scopes"] == ["recall:read"]
    assert response.headers["cache-control"] == "no-store"
    over_tls = await sign_in(tenant.client, key, OURS | {"Origin": "https://palimpsest"})
    cookie = over_tls.headers["set-cookie"].split("; ")
    assert cookie[0].startswith("__Host-palimpsest_console=")
    assert "secure" in {part.lower() for part in cookie[1:]}


async def test_neither_key_nor_cookie_is_kept_anywhere(tenant):
    visit, key = await visitor(tenant)
    assert (await visit("GET", "/v1/whoami", MARK)).status_code == 200
    token = visit.cookie.partition("=")[2]
    for path in tenant.service.settings.var_dir.glob("palimpsest.db*"):
        held = path.read_bytes()
        assert key.encode() not in held
        assert token.encode() not in held


async def test_cookie_has_the_rights_of_its_key_and_no_others(tenant):
    visit, key = await visitor(tenant, "memory:inspect")
    async with client_of(tenant.service, key) as client:
        assert (await visit("GET", "/v1/whoami", MARK)).json() == (await client.get("/v1/whoami")).json()
    assert (await visit("GET", "/console/sign-in", MARK)).json()["scopes"] == ["memory:inspect"]
    assert (await visit("GET", "/v1/corrections", MARK)).status_code == 200
    refused(await visit("POST", "/v1/corrections", OURS, LESSON), 403, "forbidden")


async def test_what_is_done_with_a_cookie_is_in_the_audit_under_its_key(tenant):
    visit, _ = await visitor(tenant)
    me = (await visit("GET", "/v1/whoami", MARK)).json()
    assert (await visit("POST", "/v1/banks", OURS, {"name": "made in the console"})).status_code == 201
    assert (await visit("DELETE", "/console/sign-in", OURS)).status_code == 204
    done = [(row["action"], row["actor"]) for row in (await tenant.client.get("/v1/audit")).json()["items"]]
    assert done[0] == ("console.sign_out", me["key_id"])
    assert ("console.sign_in", me["key_id"]) in done


FOREIGN = {
    "another site": MARK | {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "another port of this host": MARK | {"Sec-Fetch-Site": "same-site", "Origin": "http://palimpsest:3000"},
    "a typed address": MARK | {"Sec-Fetch-Site": "none"},
    "an older browser on another site": MARK | {"Origin": "https://evil.example"},
    "an older browser on another port": MARK | {"Origin": "http://palimpsest:3000"},
    "a page without an origin": MARK | {"Origin": "null"},
    "nobody says who": MARK,
    "no header, so any form could do it": {"Sec-Fetch-Site": "same-origin", "Origin": "http://palimpsest"},
}


@pytest.mark.parametrize("whose", FOREIGN)
async def test_cookie_changes_nothing_for_a_foreign_page(tenant, whose):
    visit, key = await visitor(tenant)
    taught = await teach(tenant.client, PIN, "change_pin")
    bank = (await tenant.client.get("/v1/banks/default")).json()["id"]
    before = kept(tenant)
    status, code = (403, "forbidden") if "Palimpsest-Console" in FOREIGN[whose] else (401, "unauthenticated")
    for method, path, body in (
        ("POST", "/v1/corrections", LESSON),
        ("POST", "/v1/forget", {"corrections": [taught["id"]], "mode": "erase"}),
        ("POST", "/v1/keys", {"name": "mine now", "scopes": ["admin"]}),
        ("DELETE", f"/v1/banks/{bank}", None),
        ("DELETE", "/console/sign-in", None),
    ):
        refused(await visit(method, path, FOREIGN[whose], body), status, code)
    refused(await sign_in(visit.client, key, FOREIGN[whose]), 403, "forbidden")
    assert kept(tenant) == before


@pytest.mark.parametrize("headers", [OURS, MARK | {"Origin": "http://palimpsest"}], ids=["a browser", "an older browser"])
async def test_cookie_works_from_the_page_itself(tenant, headers):
    visit, _ = await visitor(tenant)
    assert (await visit("POST", "/v1/corrections", headers, LESSON)).status_code == 201


async def test_cookie_without_the_header_is_nobody(tenant):
    visit, _ = await visitor(tenant)
    refused(await visit("GET", "/v1/memory", {"Sec-Fetch-Site": "same-origin"}), 401, "unauthenticated")
    assert (await visit("GET", "/console/sign-in", {})).status_code == 204
    allowed = (await visit("OPTIONS", "/v1/memory", {"Origin": "https://evil.example"})).headers
    assert not [name for name in allowed if name.startswith("access-control")], "no other origin may send the header"


async def test_signing_out_ends_every_copy_of_the_cookie(tenant):
    visit, _ = await visitor(tenant)
    other, _ = await visitor(tenant)
    response = await visit("DELETE", "/console/sign-in", OURS)
    assert response.status_code == 204
    assert 'palimpsest_console=""' in response.headers["set-cookie"]
    assert "Max-Age=0" in response.headers["set-cookie"]
    refused(await visit("GET", "/v1/whoami", MARK), 401, "unauthenticated")
    assert (await visit("GET", "/console/sign-in", MARK)).status_code == 204
    assert (await other("GET", "/v1/whoami", MARK)).status_code == 200, "who is signed in elsewhere stays"


async def test_cookie_ends_at_once_with_its_key(tenant):
    visit, _ = await visitor(tenant)
    me = (await visit("GET", "/v1/whoami", MARK)).json()["key_id"]
    assert (await tenant.client.delete(f"/v1/keys/{me}")).status_code == 200
    refused(await visit("GET", "/v1/whoami", MARK), 401, "unauthenticated")


async def test_cookie_ends_when_its_key_expires(tenant):
    visit, _ = await visitor(tenant, "recall:read", expires_at=datetime.now(UTC) + timedelta(minutes=5))
    assert (await visit("GET", "/v1/whoami", MARK)).status_code == 200
    later = deps_of(tenant.service, now=lambda: datetime.now(UTC) + timedelta(minutes=5))
    async with client_over(later, "") as client:
        del client.headers["authorization"]
        refused(await client.get("/v1/whoami", headers=MARK | {"Cookie": visit.cookie}), 401, "unauthenticated")


async def test_cookie_ends_after_twelve_hours_and_its_row_with_the_next_sign_in(tenant):
    visit, key = await visitor(tenant)
    for hours, status in ((11.9, 200), (12.1, 401)):
        later = deps_of(tenant.service, now=lambda hours=hours: datetime.now(UTC) + timedelta(hours=hours))
        async with client_over(later, "") as client:
            del client.headers["authorization"]
            assert (await client.get("/v1/whoami", headers=MARK | {"Cookie": visit.cookie})).status_code == status
    async with client_over(later, key) as client:
        assert (await sign_in(client, key)).status_code == 201
    with sqlite3.connect(tenant.service.settings.var_dir / "palimpsest.db") as database:
        assert database.execute("SELECT count(*) FROM sign_in WHERE tenant = ?", (tenant.id,)).fetchone() == (1,)


async def test_cookie_is_no_key_and_makes_no_other_cookie(tenant):
    visit, key = await visitor(tenant)
    token = visit.cookie.partition("=")[2]
    for presented in (token, f"console\n{token}", f"console {token}"):
        refused(await visit.client.get("/v1/whoami", headers={"X-API-Key": presented}), 401, "unauthenticated")
    refused(await visit.client.get("/v1/whoami", headers=MARK | {"Cookie": f"palimpsest_console={key}"}), 401, "unauthenticated")
    refused(await visit("POST", "/console/sign-in", OURS), 409, "conflict")
    refused(await tenant.client.delete("/console/sign-in"), 409, "conflict")


async def test_key_goes_before_a_cookie(tenant, other):
    visit, _ = await visitor(tenant)
    key = await other.key("recall:read")
    told = (await visit("GET", "/v1/whoami", MARK | {"Authorization": f"Bearer {key}"})).json()
    assert told["tenant"] == other.id


async def test_who_tries_keys_at_the_form_is_slowed_down_like_anybody(house):
    app = build_app(deps_of(house, coord=MemoryCoord(lambda: 0.0)))
    async with serving_app(app, "x") as client:
        tried = [(await sign_in(client, f"wrong-{place}")).status_code for place in range(110)]
    await app.close()
    assert set(tried) == {401, 429}
    assert tried[-1] == 429


async def test_page_and_parts_come_with_a_policy_that_lets_nothing_else_in(tenant):
    page = await tenant.client.get("/console")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script>" not in page.text
    assert "style=" not in page.text
    parts = set(re.findall(r'(?:src|href)="(/console/[^"]+)"', page.text))
    assert len(parts) > 10
    for response in [page, *[await tenant.client.get(path) for path in parts]]:
        assert response.status_code == 200, response.request.url
        policy = dict(part.strip().partition(" ")[::2] for part in response.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert "unsafe" not in str(policy)
        assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_parts_are_kept_for_ever_and_the_page_is_looked_at_again(tenant):
    page = await tenant.client.get("/console")
    assert page.headers["cache-control"] == "no-cache"
    path = re.search(r'src="(/console/(\w+)/app\.js)"', page.text)
    part = await tenant.client.get(path[1])
    assert part.headers["cache-control"] == "public, max-age=31536000, immutable"
    for missing in (
        path[1].replace(path[2], "0" * 16),
        f"/console/{path[2]}/pages.py",
        f"/console/{path[2]}/../pages.py",
        f"/console/{path[2]}/%2e%2e/pages.py",
    ):
        assert (await tenant.client.get(missing)).status_code == 404


CALLS = re.compile(r"""(?:\b(get|post)\(|\bcall\('(\w+)', )[`'](/(?:v1|console)/[^`']+)[`']""")


async def test_everything_that_the_console_asks_is_a_route(tenant):
    paths = (await tenant.client.get("/openapi.json")).json()["paths"]
    routes = {(method.upper(), re.sub(r"{\w+}", "{}", path)) for path, methods in paths.items() for method in methods}
    routes |= {(method, "/console/sign-in") for method in ("GET", "POST", "DELETE")}
    asked = CALLS.findall((STATIC / "api.js").read_text())
    calls = {((short or method).upper(), re.sub(r"\${[^}]+}", "{}", path)) for short, method, path in asked}
    assert len(calls) > 50
    assert calls - routes == set()


async def test_whole_console_is_small(tenant):
    page = await tenant.client.get("/console")
    version = re.search(r"/console/(\w{16})/", page.text)[1]
    sent = 0
    for path in STATIC.rglob("*"):
        if path.suffix in (".js", ".css", ".svg"):
            async with tenant.client.stream("GET", f"/console/{version}/{path.relative_to(STATIC).as_posix()}") as response:
                assert response.headers["content-encoding"] == "gzip"
                sent += len(b"".join([chunk async for chunk in response.aiter_raw()]))
    assert sent < 120_000, "bytes on the wire, curves included"


async def test_every_part_is_packed_into_the_wheel():
    import tomllib

    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["service.console"]
    files = [path.relative_to(STATIC.parent).as_posix() for path in STATIC.rglob("*") if path.is_file()]
    assert [
        name for name in files if not any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
    ] == []
    assert {path.suffix for path in STATIC.rglob("*") if path.is_file()} == set(pages.TYPES)


async def test_files_of_others_are_those_that_were_looked_at():
    vendor = STATIC / "vendor"
    told = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", (vendor / "licences.txt").read_text(), re.MULTILINE))
    assert {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in vendor.iterdir() if path.suffix != ".txt"} == told

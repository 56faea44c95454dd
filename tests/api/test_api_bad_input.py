"""What cannot be meant is refused by name, and nothing is lost or kept: the digest, the ledger and every list stay as they were."""

import json

import pytest
from saying import PIN, ask, teach
from tenancy import JSON, kept, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = {"input": PIN, "right": "change_pin"}
DEEP = b"[" * 100_000 + b"]" * 100_000
MILLION = 1_000_000


def teaching(**more) -> bytes:
    return json.dumps({**GOOD, **more}).encode()


def metadata(raw: bytes) -> bytes:
    return teaching()[:-1] + b', "metadata": {"a": ' + raw + b"}}"


async def sent(tenant, path, raw, status=400, code="validation", field=None, **headers):
    """The problem that the raw body gets; nothing of the tenant may have changed."""
    before = kept(tenant)
    said = refused(await tenant.client.post(path, content=raw, headers={**JSON, **headers}), status, code, field)
    assert kept(tenant) == before
    return said


@pytest.mark.parametrize("blank", ["", " ", "\t\r\n", "\u2003\u00a0\u3000", "\x1f"])
@pytest.mark.parametrize("name", ["input", "right", "wrong"])
async def test_blank_text_is_refused_by_the_name_of_its_field(taught, name, blank):
    await sent(taught, "/v1/corrections", teaching(**{name: blank}), field=name)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/corrections", {**GOOD, "paraphrases": ["fine", "  "]}, "paraphrases[1]"),
        ("/v1/corrections/batch", {"items": [GOOD, {**GOOD, "right": " "}]}, "items[1].right"),
        ("/v1/recall", {"input": "\n"}, "input"),
        ("/v1/recall/batch", {"inputs": ["fine", "\n"]}, "inputs[1]"),
    ],
)
async def test_blank_text_inside_a_list_is_refused_by_its_place(taught, path, body, field):
    await sent(taught, path, json.dumps(body), field=field)


async def test_every_fault_of_a_batch_is_named(taught):
    items = [{**GOOD, "input": " "}, GOOD, {**GOOD, "right": "a\x00b", "wrong": "\t"}]
    said = await sent(taught, "/v1/corrections/batch", json.dumps({"items": items}))
    assert [fault["field"] for fault in said["errors"]] == ["items[0].input", "items[2].right", "items[2].wrong"]


def body_of(size: int) -> bytes:
    """A valid correction of exactly so many bytes: blanks between JSON values mean nothing."""
    body = teaching()
    return body[:-1] + b" " * (size - len(body)) + b"}"


async def test_body_of_one_million_bytes_is_read_and_one_byte_more_is_refused(taught):
    response = await taught.client.post("/v1/corrections", content=body_of(MILLION), headers=JSON)
    assert response.status_code == 201, response.text
    await sent(taught, "/v1/corrections", body_of(MILLION + 1), 413, "too-large")


async def test_body_that_does_not_tell_its_length_is_counted_as_it_arrives(taught):
    read = 0

    async def endless():
        nonlocal read
        for piece in (body_of(100_000)[:-1], *[b" " * 100_000] * 1_000):
            read += len(piece)
            yield piece

    before = kept(taught)
    refused(await taught.client.post("/v1/corrections", content=endless(), headers=JSON), 413, "too-large")
    assert read <= MILLION + 200_000, "it reads on after the limit"
    assert kept(taught) == before

    async def small():
        yield teaching()[:10]
        yield teaching()[10:]

    assert (await taught.client.post("/v1/corrections", content=small(), headers=JSON)).status_code == 201


@pytest.mark.parametrize("name", ["input", "right", "wrong"])
@pytest.mark.parametrize("length", [20_001, 40_000])
async def test_text_of_more_than_20000_characters_is_refused(taught, name, length):
    said = await sent(taught, "/v1/corrections", teaching(**{name: "é" * length}), field=name)
    assert "20000" in said["detail"]


async def test_text_of_20000_characters_is_kept_whole(tenant):
    text = "é" * 19_999 + "x"
    taught = await teach(tenant.client, text, text)
    kept = (await tenant.client.get(f"/v1/corrections/{taught['id']}")).json()
    assert (kept["input"], kept["right"]) == (text, text)
    assert (await ask(tenant.client, text))["answers"][0]["value"] == text


@pytest.mark.parametrize(
    "raw",
    [
        b'{"input": "\xff\xfe", "right": "b"}',
        b'{"input": "\xc3", "right": "b"}',
        b'{"input": "\xed\xa0\x80", "right": "b"}',  # half a surrogate pair, in the bytes
        b'{"input": "\xc0\xaf", "right": "b"}',  # an overlong slash
        '{"input": "a", "right": "b"}'.encode("utf-16"),
        b"\xef\xbb\xbf" + teaching(),  # a byte order mark is no JSON
    ],
)
async def test_what_is_not_utf8_is_refused(taught, raw):
    await sent(taught, "/v1/corrections", raw)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**GOOD, "input": "a\x00b"}, "input"),
        ({**GOOD, "right": "\x00"}, "right"),
        ({**GOOD, "paraphrases": ["a\x00"]}, "paraphrases[0]"),
        ({**GOOD, "metadata": {"a": ["\x00"]}}, "metadata"),
        ({**GOOD, "metadata": {"a\x00": 1}}, "metadata"),
        ({**GOOD, "session_id": "a\x00"}, "session_id"),
        ({**GOOD, "bank": "a\x00"}, "bank"),
    ],
)
async def test_nul_character_is_refused_wherever_text_is_taken(taught, body, field):
    await sent(taught, "/v1/corrections", json.dumps(body), field=field)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/recall", {"input": "a\x00"}, "input"),
        ("/v1/snapshots", {"note": "a\x00"}, "note"),
        ("/v1/snapshots", {"label": "a\x00"}, "label"),
        ("/v1/banks", {"name": "a\x00"}, "name"),
        ("/v1/banks", {"name": "name\n"}, "name"),
        ("/v1/keys", {"name": "a\x00", "scopes": ["admin"]}, "name"),
        ("/v1/rollback", {"to": "snap_x\n"}, "to"),
        ("/v1/rollback", {"to": "snap_x", "reason": "\x00"}, "reason"),
        ("/v1/forget", {"corrections": ["cor_x"], "mode": "suppress", "reason": "\x00"}, "reason"),
    ],
)
async def test_control_characters_are_refused_on_every_route(taught, path, body, field):
    await sent(taught, path, json.dumps(body), field=field)


@pytest.mark.parametrize("name", ["team/blue", "/", ".", ".."])
@pytest.mark.parametrize("path", ["/v1/banks", "/v1/branches"])
async def test_bank_whose_name_no_path_could_hold_is_not_made(taught, path, name):
    await sent(taught, path, json.dumps({"name": name}), field="name")


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udc00", rb"\ud800\ud800", rb"a\udfffb"])
@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/v1/corrections", b'{"input": "%s", "right": "b"}'),
        ("/v1/corrections", b'{"input": "a", "right": "b", "metadata": {"%s": 1}}'),
        ("/v1/recall", b'{"input": "%s"}'),
        ("/v1/banks", b'{"name": "%s"}'),
        ("/v1/snapshots", b'{"note": "%s"}'),
    ],
)
async def test_escape_of_half_a_surrogate_pair_is_refused(taught, path, raw, escape):
    await sent(taught, path, raw % escape)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/corrections", {**GOOD, "rigth": "typo"}, "rigth"),
        ("/v1/corrections", {**GOOD, "id": "cor_mine"}, "id"),
        ("/v1/corrections/batch", {"items": [{**GOOD, "x": 1}]}, "items[0].x"),
        ("/v1/recall", {"input": PIN, "tenant": "default"}, "tenant"),
        ("/v1/recall/batch", {"inputs": [PIN], "input": PIN}, "input"),
        ("/v1/banks", {"name": "n", "id": "bank_mine"}, "id"),
        ("/v1/keys", {"name": "n", "scopes": ["admin"], "key": "mine"}, "key"),
        ("/v1/snapshots", {"kind": "genesis"}, "kind"),
        ("/v1/rollback", {"to": "snap_x", "force": True}, "force"),
        ("/v1/forget", {"corrections": ["cor_x"], "mode": "erase", "all": True}, "all"),
        ("/v1/consolidations", {"gate": False}, "gate"),
        ("/v1/sessions", {"isolation": "private"}, "isolation"),
    ],
)
async def test_unknown_field_is_refused_by_name(taught, path, body, field):
    await sent(taught, path, json.dumps(body), field=field)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/recall", {"input": PIN, "top_k": "3"}, "top_k"),
        ("/v1/recall", {"input": PIN, "top_k": 3.0}, "top_k"),
        ("/v1/recall", {"input": PIN, "top_k": True}, "top_k"),
        ("/v1/recall", {"input": PIN, "top_k": None}, "top_k"),
        ("/v1/recall", {"input": PIN, "top_k": 0}, "top_k"),
        ("/v1/recall", {"input": PIN, "top_k": 101}, "top_k"),
        ("/v1/recall", {"input": PIN, "top_k": 10**30}, "top_k"),
        ("/v1/recall", {"input": PIN, "min_confidence": "0.5"}, "min_confidence"),
        ("/v1/recall", {"input": PIN, "min_confidence": -0.1}, "min_confidence"),
        ("/v1/recall", {"input": PIN, "min_confidence": 1.1}, "min_confidence"),
        ("/v1/recall", {"input": PIN, "explain": "yes"}, "explain"),
        ("/v1/recall", {"input": PIN, "explain": 1}, "explain"),
        ("/v1/recall", {"input": 3}, "input"),
        ("/v1/recall", {"input": None}, "input"),
        ("/v1/recall", {"input": [PIN]}, "input"),
        ("/v1/recall", {}, "input"),
        ("/v1/recall/batch", {"inputs": []}, "inputs"),
        ("/v1/recall/batch", {"inputs": PIN}, "inputs"),
        ("/v1/recall/batch", {"inputs": [PIN] * 1_001}, "inputs"),
        ("/v1/corrections", {"input": PIN}, "right"),
        ("/v1/corrections", {**GOOD, "right": None}, "right"),
        ("/v1/corrections", {**GOOD, "right": 3}, "right"),
        ("/v1/corrections", {**GOOD, "metadata": []}, "metadata"),
        ("/v1/corrections", {**GOOD, "metadata": None}, "metadata"),
        ("/v1/corrections", {**GOOD, "metadata": {"a": "x" * 9_000}}, "metadata"),
        ("/v1/corrections", {**GOOD, "paraphrases": "one"}, "paraphrases"),
        ("/v1/corrections", {**GOOD, "paraphrases": [PIN] * 17}, "paraphrases"),
        ("/v1/corrections", {**GOOD, "session_id": "with space"}, "session_id"),
        ("/v1/corrections", {**GOOD, "bank": ""}, "bank"),
        ("/v1/corrections/batch", {"items": []}, "items"),
        ("/v1/corrections/batch", {"items": [GOOD] * 1_001}, "items"),
        ("/v1/corrections/batch", {"items": [GOOD, None]}, "items[1]"),
        ("/v1/corrections/batch", {"items": [{**GOOD, "bank": "default"}, {**GOOD, "bank": "x"}]}, "items[1].bank"),
        ("/v1/banks", {"name": "x" * 129}, "name"),
        ("/v1/keys", {"name": "n", "scopes": []}, "scopes"),
        ("/v1/keys", {"name": "n", "scopes": ["root"]}, "scopes[0]"),
        ("/v1/keys", {"name": "n", "scopes": ["admin"], "banks": []}, "banks"),
        ("/v1/keys", {"name": "n", "scopes": ["admin"], "expires_at": "soon"}, "expires_at"),
        ("/v1/keys", {"name": "n", "scopes": ["admin"], "expires_at": "2031-01-01T00:00:00"}, "expires_at"),
        ("/v1/keys", {"name": "n", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ("/v1/keys", {"name": "n", "scopes": ["admin"], "expires_at": "9999-12-31T23:59:59-10:00"}, "expires_at"),
        ("/v1/snapshots", {"pin": "true"}, "pin"),
        ("/v1/snapshots", {"note": "x" * 1_001}, "note"),
        ("/v1/rollback", {"to": "snap_x", "keep": "all"}, "keep"),
        ("/v1/rollback", {"to": "snap_x", "dry_run": "yes"}, "dry_run"),
        ("/v1/rollback", {"to": ""}, "to"),
        ("/v1/forget", {"corrections": ["cor_x"], "mode": "delete"}, "mode"),
        ("/v1/forget", {"corrections": ["cor_x"]}, "mode"),
        ("/v1/forget", {"corrections": [], "mode": "erase"}, "corrections"),
        ("/v1/forget", {"corrections": "cor_x", "mode": "erase"}, "corrections"),
        ("/v1/sessions", {"id": ""}, "id"),
        ("/v1/sessions", {"id": "with space"}, "id"),
        ("/v1/sessions", {"id": "x" * 129}, "id"),
        ("/v1/sessions", {"id": 7}, "id"),
    ],
)
async def test_wrong_type_or_size_is_refused_by_the_name_of_its_field(taught, path, body, field):
    await sent(taught, path, json.dumps(body), field=field)


@pytest.mark.parametrize(
    ("path", "raw", "field"),
    [
        ("/v1/corrections", b'{"input": "a", "input": "b", "right": "c"}', "input"),
        ("/v1/corrections", b'{"input": "a", "right": "c", "metadata": {"x": {"y": 1, "y": 1}}}', "y"),
        ("/v1/recall", b'{"input": "a", "top_k": 1, "top_k": 2}', "top_k"),
        ("/v1/recall", b'{"input": "a", "\\u0069nput": "b"}', "input"),
    ],
)
async def test_name_given_twice_is_refused(taught, path, raw, field):
    await sent(taught, path, raw, field=field)


@pytest.mark.parametrize("raw", [DEEP, b"[" * 9 + b"]" * 9, b'{"a":' * 9 + b"1" + b"}" * 9, b'{"a":' * 50_000 + b"1" + b"}" * 50_000])
async def test_deep_nesting_is_refused(taught, raw):
    await sent(taught, "/v1/corrections", metadata(raw))


async def test_nesting_without_an_end_is_refused(taught):
    await sent(taught, "/v1/corrections", b"[" * 900_000)


@pytest.mark.parametrize("raw", [b"9" * 19, b"-" + b"9" * 30, b"9" * 5_000, b"1e999", b"-1e999", b"NaN", b"Infinity"])
async def test_number_that_cannot_be_kept_is_refused(taught, raw):
    await sent(taught, "/v1/corrections", metadata(raw))


async def test_largest_numbers_and_deepest_nesting_that_are_taken_come_back_as_they_were(tenant):
    given = {"most": 2**63 - 1, "least": -(2**63), "deep": [[[[[[1]]]]]], "float": 1.5e308, "none": None, "yes": True, "text": "😀 ü"}
    taught = await teach(tenant.client, PIN, "change_pin", metadata=given)
    assert (await tenant.client.get(f"/v1/corrections/{taught['id']}")).json()["metadata"] == given


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"null", b"[]", b'"text"', b"3", b"{", b"{}x", b"{'input': 1}", b"input=a&right=b", b"\x81\xa5input\xa1x"]
)
@pytest.mark.parametrize("path", ["/v1/corrections", "/v1/recall", "/v1/consolidations"])
async def test_body_that_is_no_json_object_is_refused(taught, path, raw):
    said = await sent(taught, path, raw)
    assert "data" not in said["detail"], "a name from the inside"


@pytest.mark.parametrize(
    "media_type", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/msgpack", "\xff/;"]
)
async def test_json_is_read_whatever_its_content_type_says(taught, media_type):
    response = await taught.client.post("/v1/recall", content=b'{"input": "a"}', headers={"content-type": media_type.encode("latin-1")})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("length", ["abc", "1.5", "9" * 30])
async def test_content_length_that_is_no_number_or_too_large_is_refused(taught, length):
    status, code = (413, "too-large") if length.isdigit() else (400, "validation")
    await sent(taught, "/v1/corrections", teaching(), status, code, **{"content-length": length})


@pytest.mark.parametrize("path", ["/v1/corrections", "/v1/stats", "/v1/audit/verify"])
async def test_parameter_that_the_call_does_not_know_is_refused_by_name(tenant, path):
    """A list that was asked for with a misspelt limit would be another one."""
    refused(await tenant.client.get(path, params={"limt": 5}), 400, "validation", "limt")
    assert (await tenant.client.get(path)).status_code == 200

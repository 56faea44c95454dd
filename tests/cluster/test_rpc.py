"""The engine port over frames: every method crosses with all its arguments and its result, and errors cross as themselves."""

import inspect
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from small_engine import Ledger, SmallEngine

import service.store.failures
from service import errors, wire
from service.cluster.engine import Actor, Engine
from service.cluster.faults import error_of, failure_of
from service.cluster.link import Call, Failure, pack
from service.cluster.rpc import METHODS, NotUnderstood, methods_of, serve_engine

ACTOR = Actor(key_id="key_1", request_id="req_1")
CANARY = "the text of somebody's memory"
ITEM = wire.NewCorrection(
    input="Wie heißt die Katze? 🐈",
    right="Mimi",
    wrong="Max",
    session_id="s:1",
    paraphrases=["Name?"],
    metadata={"n": 2**70, "deep": [{"x": None}]},
)
FURTHER = {"to_time": datetime(2026, 11, 29, 12, tzinfo=UTC), "source": wire.Source(session_id="s:1"), "keep": ["cor_1"], "probes": 100}
CALLS = {
    "teach": ("bnk_1", {"items": [ITEM], "actor": ACTOR, "idempotency_key": "k", "ids": ["cor_1"]}),
    "taught": ("bnk_1", {"first_seq": 3, "items": [ITEM, ITEM]}),
    "recall": (
        "bnk_1",
        {"inputs": [ITEM.input, "?"], "top_k": 3, "min_confidence": 0.25, "at": "snp_1", "explain": True, "min_seq": 7},
    ),
    "memory": ("bnk_1", {}),
    "snapshot": ("bnk_1", {"label": "l", "note": None, "pin": True, "actor": ACTOR}),
    "roll_back": (
        "bnk_1",
        {"to": "snp_1", "dry_run": False, "if_match": '"e"', "reason": "r", "actor": ACTOR, "idempotency_key": None, **FURTHER},
    ),
    "rolled_back": ("bnk_1", {"version": 4, "probes": 100}),
    "delete_snapshot": ("bnk_1", {"snapshot": "snp_1", "actor": ACTOR}),
    "diff": ("bnk_1", {"before": "snp_1", "after": "head", "probes": 100}),
    "verify": ("bnk_1", {"snapshot": "snp_1"}),
    "bisect": ("bnk_1", {"input": ITEM.input, "since": "snp_1", "until": "snp_2", "actor": ACTOR}),
    "create_branch": ("bnk_1", {"name": "try", "at": "snp_1", "actor": ACTOR}),
    "diff_branch": ("bnk_1", {"branch": "bnk_2", "probes": 100}),
    "promote_branch": ("bnk_1", {"branch": "bnk_2", "refold": True, "actor": ACTOR}),
    "import_bundle": ("bnk_1", {"bundle": "imp_1", "actor": ACTOR}),
    "forget": ("bnk_1", {"corrections": ["cor_1", "cor_2"], "mode": "erase", "reason": None, "actor": ACTOR}),
    "preview_forget": ("bnk_1", {"corrections": ["cor_1", "cor_2"]}),
    "membership": ("bnk_1", {"corrections": ["cor_1"]}),
    "quarantine": ("bnk_1", {"corrections": [], "session": "s:1", "key": None, "reason": "r", "actor": ACTOR}),
    "lift": ("bnk_1", {"quarantine_id": "qua_1", "actor": ACTOR}),
    "create_bank": (None, {"name": "new", "actor": ACTOR}),
    "delete_bank": ("bnk_1", {"actor": ACTOR}),
    "warm": ("bnk_1", {}),
    "levels": ("bnk_1", {"sample": 8}),
    "trace": ("bnk_1", {"correction": "cor_1"}),
    "probe": ("bnk_1", {"inputs": [ITEM.input, "?"], "at": ["head", "snp_1"]}),
    "explain": ("bnk_1", {"text": ITEM.input, "at": "snp_1", "sample": 3}),
    "observe": ("bnk_1", {"turn": wire.NewTurn(input=ITEM.input, right="Mimi"), "actor": ACTOR, "ids": ["trn_1", "trn_2"]}),
    "speak": (
        "bnk_1",
        {
            "lines": [wire.ChatLine(role="user", text=ITEM.input)],
            "talk": "talk_1",
            "at": None,
            "said": [3, 5],
            "most": 4,
            "last": False,
            "how": wire.Speaking(temperature=0.5, seed=7, stop=("\n",)),
        },
    ),
    "health": (None, {}),
}


class Listening(SmallEngine):
    """Remembers the arguments of every call."""

    def __init__(self) -> None:
        super().__init__(Ledger({"bnk_1": [ITEM]}), "w1")
        self.heard: dict | None = None

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in METHODS:
            return found

        async def asked(**arguments):
            self.heard = arguments
            return await found(**arguments)

        return asked


def call_of(name: str, body: bytes, tenant: str = "tnt_1") -> Call:
    return Call(1, 1_000, name, tenant, "", body)


def test_there_is_a_call_here_for_every_method_of_the_port():
    assert CALLS.keys() == METHODS.keys() == {name for name, _ in inspect.getmembers(Engine, inspect.iscoroutinefunction)}


@pytest.mark.parametrize("name", CALLS)
async def test_every_method_crosses_with_all_its_arguments_and_its_result(name):
    bank, arguments = CALLS[name]
    method, engine = METHODS[name], Listening()
    whole = dict(arguments) if bank is None else {"bank": bank, **arguments}
    tenant, bound = method.bind(() if name == "health" else ("tnt_1",), whole)
    reply = await serve_engine(engine)(call_of(name, method.encode(bound), tenant))
    assert engine.heard == (whole if name == "health" else {"tenant": "tnt_1", **whole})
    assert method.decode_result(reply) == await getattr(Listening(), name)(**engine.heard)


@given(
    metadata=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    ),
    text=st.text(min_size=1, max_size=50),
)
def test_whatever_json_may_be_taught_crosses_unchanged(metadata, text):
    item = wire.NewCorrection(input=text, right=text, metadata=metadata)
    method = METHODS["teach"]
    _, bound = method.bind(("t", "b", [item]), {"actor": ACTOR, "idempotency_key": None})
    assert method.decode(method.encode(bound)) == {"bank": "b", "items": [item], "actor": ACTOR, "idempotency_key": None, "ids": None}


class Older(Protocol):
    async def ask(self, tenant: str, bank: str, texts: Sequence[str], *, number: int = 1) -> list[str]: ...


class Newer(Protocol):
    async def ask(self, tenant: str, bank: str, texts: Sequence[str], *, number: int = 1, style: str = "plain") -> list[str]: ...


def test_newer_api_and_older_worker_understand_each_other_unless_the_new_argument_is_used():
    older, newer = methods_of(Older)["ask"], methods_of(Newer)["ask"]
    plain = {"bank": "b", "texts": ["x"], "number": 2}
    assert older.decode(newer.encode({**plain, "style": "plain"})) == plain
    assert newer.decode(older.encode(plain)) == {**plain, "style": "plain"}
    with pytest.raises(NotUnderstood):
        older.decode(newer.encode({**plain, "style": "bold"}))


def test_reply_of_a_newer_worker_is_read_without_its_new_fields():
    method = METHODS["warm"]
    assert method.decode_result(b'{"warm": true, "eta_ms": 1.5, "since": "2030"}') == wire.Warmth(warm=True, eta_ms=1.5)


@pytest.mark.parametrize("name", ["no_such", "__init__", "_begin", "ledger", ""])
async def test_nothing_but_the_methods_of_the_port_can_be_called(name):
    with pytest.raises(NotUnderstood):
        await serve_engine(Listening())(call_of(name, b"{}"))


QUOTING = f'{{"bank": ["{CANARY}"]}}'.encode()
BODIES = [b"", b"{}", b"[]", b"null", b'{"bank": 1}', b'{"bank": "b", "extra": 1}', b"\xff", b"[" * 100_000, QUOTING]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_body_that_is_not_understood_is_refused_without_being_quoted(body):
    engine = Listening()
    with pytest.raises(NotUnderstood) as raised:
        await serve_engine(engine)(call_of("warm", body))
    assert CANARY not in raised.value.detail
    assert engine.heard is None


async def test_tenant_of_the_body_is_not_believed():
    engine = Listening()
    with pytest.raises(NotUnderstood):
        await serve_engine(engine)(call_of("warm", b'{"bank": "bnk_1", "tenant": "tnt_2"}'))
    await serve_engine(engine)(call_of("warm", b'{"bank": "bnk_1"}'))
    assert engine.heard == {"tenant": "tnt_1", "bank": "bnk_1"}


# --- errors


def every_error() -> list[type[errors.PalimpsestError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PalimpsestError)]


def crossed(error: Exception) -> errors.PalimpsestError:
    """The error after a way over the wire."""
    packed = pack(failure_of(1, error, "recall"))
    return error_of(msgspec.msgpack.decode(packed[4:], type=Failure))


@pytest.mark.parametrize("kind", [*every_error(), service.store.failures.CommitUnknown], ids=lambda kind: kind.__name__)
def test_every_error_of_the_service_crosses_as_itself(kind):
    error = kind("said so", errors=[{"field": "f", "message": "m"}], retry_after_s=3)
    found = crossed(error)
    wanted = errors.WriterBusy if kind is errors.NotOwner else kind
    assert type(found) is wanted
    assert (found.status, found.code) == (kind.status, kind.code)
    if kind is not errors.NotOwner:
        assert (found.detail, found.errors, found.retry_after_s) == (error.detail, error.errors, 3)


def test_not_owner_never_leaves_the_worker_and_neither_does_what_it_says():
    found = crossed(errors.NotOwner(CANARY))
    assert type(found) is errors.WriterBusy
    assert found.retry_after_s == 1
    assert CANARY not in found.detail


def test_error_that_this_process_does_not_know_becomes_its_nearest_known_parent_with_its_status_and_code():
    found = error_of(Failure(1, ["OfTheYear2040", "HeadMoved", "PalimpsestError"], 418, "of-2040", "d", [], None))
    assert isinstance(found, errors.HeadMoved)
    assert (found.status, found.code, found.detail) == (418, "of-2040", "d")
    found = error_of(Failure(1, ["OfTheYear2040"], 418, "of-2040", "d", [], None))
    assert type(found) is errors.PalimpsestError
    assert (found.status, found.code) == (418, "of-2040")
    assert (errors.HeadMoved.status, errors.PalimpsestError.status) == (412, 500), "only that error"


def test_error_that_nobody_expected_crosses_without_its_message():
    with structlog.testing.capture_logs() as logs:
        found = crossed(KeyError(CANARY))
    assert (type(found), found.status, found.code) == (errors.PalimpsestError, 500, "internal")
    assert CANARY not in found.detail + str(logs)
    assert [entry["error"] for entry in logs] == ["KeyError"]

"""The replies of REST v1, field by field, as the contract has them; written by hand so that the code cannot agree with itself."""

import re
from datetime import datetime

TEXT, NUMBER = str, (int, float)


class Maybe:
    """null, or the shape."""

    def __init__(self, shape) -> None:
        self.shape = shape


class Id:
    """An id of a kind: prefix and ULID."""

    def __init__(self, prefix: str) -> None:
        self.pattern = re.compile(prefix + r"_[0-9A-HJKMNP-TV-Z]{26}")


class OneOf:
    """One of these words."""

    def __init__(self, *words: str) -> None:
        self.words = words


SHA = re.compile(r"[0-9a-f]{64}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
STATE = {"snapshot_id": Id("snap"), "seq": int}
USAGE = {"cpu_ms": NUMBER, "tokens_in": int, "updates": int, "level_writes": int}
SAID = {"value": Maybe(TEXT), "confidence": NUMBER}
LOCALITY = {"n": int, "flipped": [Id("cor")]}
RECEIPT = {"item": {"before": SAID, "after": SAID}, "paraphrase": {"n": int, "fixed": int}, "locality": LOCALITY}
TAUGHT = {"id": Id("cor"), "seq": int, "status": OneOf("active"), "receipt": RECEIPT, "state": STATE, "usage": USAGE}
TAUGHT_BATCH = {"items": [TAUGHT], "state": STATE, "usage": USAGE}
ANSWER = {"value": TEXT, "confidence": NUMBER, "support": [Id("cor")], "level": TEXT, "why": Maybe(dict)}
RECALLED = {"id": Id("rec"), "answers": [ANSWER], "abstained": bool, "state": STATE, "usage": USAGE}
RECALLED_BATCH = {"id": Id("rec"), "results": [{"answers": [ANSWER], "abstained": bool}], "state": STATE, "usage": USAGE}
BANK = {
    "id": Id("bank"),
    "name": TEXT,
    "seq": int,
    "head": Id("snap"),
    "etag": TEXT,
    "encoder_digest": SHA,
    "config_hash": TEXT,
    "created_at": TIME,
    "branch_of": Maybe(Id("bank")),
}
LANGUAGE = {
    "digest": Maybe(SHA),
    "turns": int,
    "sleeps": [int],
    "bytes": Maybe(int),
    "model": Maybe(SHA),
    "unavailable": Maybe(TEXT),
}
LEVEL = {"name": TEXT, "period_tokens": Maybe(int), "bytes": int, "norm": NUMBER, "digest": SHA}
MEMORY = {
    "bank": Id("bank"),
    "digest": SHA,
    "state": STATE,
    "levels": [LEVEL],
    "clock_tokens": int,
    "events": int,
    "corrections": int,
    "responses": int,
    "forgotten": int,
    "rebuild_pending": bool,
    "bytes": int,
    "config_hash": TEXT,
    "encoder_digest": SHA,
    "language": Maybe(LANGUAGE),
}
CORRECTION = {
    "id": Id("cor"),
    "seq": int,
    "status": OneOf("active", "superseded", "rolled_back", "quarantined", "forgotten"),
    "input": Maybe(TEXT),
    "right": Maybe(TEXT),
    "wrong": Maybe(TEXT),
    "session_id": Maybe(TEXT),
    "metadata": dict,
    "created_at": TIME,
}
EVENT = {
    "id": Id("cor"),
    "seq": int,
    "kind": OneOf("correction"),
    "epoch": int,
    "session_id": Maybe(TEXT),
    "input": Maybe(TEXT),
    "right": Maybe(TEXT),
    "wrong": Maybe(TEXT),
    "tokens": int,
    "prev_hash": SHA,
    "hash": SHA,
    "created_at": TIME,
    "redacted_at": Maybe(TIME),
}
SNAPSHOT = {
    "id": Id("snap"),
    "parent": Maybe(Id("snap")),
    "kind": OneOf("genesis", "manual", "auto", "consolidation", "pre_rollback", "rollback", "rebuild", "import"),
    "seq": int,
    "corrections": int,
    "digest": SHA,
    "levels": [{"name": TEXT, "sha256": SHA, "bytes": int}],
    "label": Maybe(TEXT),
    "note": Maybe(TEXT),
    "pinned": bool,
    "tainted_by": [Id("cor")],
    "config_hash": TEXT,
    "is_head": bool,
    "created_by": TEXT,
    "created_at": TIME,
}
FLIP = {"correction": Id("cor"), "input": TEXT, "before": SAID, "after": SAID}
ROLLED_BACK = {
    "head": Maybe(Id("snap")),
    "pre_rollback": Maybe(Id("snap")),
    "flips": [FLIP],
    "probes": int,
    "probes_of": int,
    "removed": int,
    "restored": int,
    "dry_run": bool,
    "state": STATE,
    "job_id": Maybe(Id("job")),
}
MOVED = {"id": Id("cor"), "seq": int, "input": Maybe(TEXT), "right": Maybe(TEXT)}
SNAPSHOT_DIFF = {
    "before": STATE,
    "after": STATE,
    "gained": [MOVED],
    "gained_total": int,
    "lost": [MOVED],
    "lost_total": int,
    "flips": [FLIP],
    "probes": int,
    "probes_of": int,
    "levels": [{"name": TEXT, "before_norm": NUMBER, "after_norm": NUMBER, "drift": NUMBER}],
}
VERIFIED = {"snapshot": Id("snap"), "ok": bool, "checks": [{"name": TEXT, "ok": bool, "detail": TEXT}]}
BRANCH = {"id": Id("bank"), "name": TEXT, "bank": Id("bank"), "corrections": int, "created_by": TEXT, "created_at": TIME}
PROMOTED = {"bank": Id("bank"), "corrections": [Id("cor")], "before": Id("snap"), "state": STATE}
IMPORTED = {"snapshot": SNAPSHOT, "probes": int, "agreeing": int}
FORGOTTEN = {
    "id": Maybe(Id("fgt")),
    "effective_now": bool,
    "mode": OneOf("suppress", "rebuild", "erase"),
    "corrections": [Id("cor")],
    "job_id": Maybe(Id("job")),
    "dry_run": bool,
    "flips": [FLIP],
    "probes": int,
    "probes_of": int,
    "confirm_token": Maybe(re.compile(r"[0-9]{10}\.[0-9a-f]{64}")),
    "confirm_until": Maybe(TIME),
}
MEMBERSHIP = {"correction": Id("cor"), "in_weights": bool, "answered": bool, "support": [Id("cor")], "passed": bool}
CERTIFICATE = {
    "id": Id("fgt"),
    "bank": Id("bank"),
    "mode": OneOf("suppress", "rebuild", "erase"),
    "complete": bool,
    "passed": Maybe(bool),
    "corrections": [Id("cor")],
    "requested_by": Id("key"),
    "requested_at": TIME,
    "completed_at": Maybe(TIME),
    "job_id": Maybe(Id("job")),
    "weights": Maybe(
        {
            "digest_before": Maybe(SHA),
            "digest_after": Maybe(SHA),
            "seq": int,
            "snapshot": Maybe(Id("snap")),
            "language": Maybe({"digest_before": Maybe(SHA), "digest_after": Maybe(SHA), "unavailable": Maybe(TEXT)}),
        }
    ),
    "removed": {
        "tombstones": int,
        "redacted_events": int,
        "responses": int,
        "stored_replies": int,
        "exports": [Id("exp")],
        "snapshots": [Id("snap")],
        "blobs": [SHA],
    },
    "membership": [MEMBERSHIP],
    "unreached": [{"place": TEXT, "advice": TEXT}],
    "bank_deleted_at": Maybe(TIME),
}
QUARANTINE = {
    "id": Id("qua"),
    "bank": Id("bank"),
    "source": dict,
    "corrections": int,
    "reason": Maybe(TEXT),
    "job_id": Maybe(Id("job")),
    "created_by": Id("key"),
    "created_at": TIME,
    "lifted_by": Maybe(Id("key")),
    "lifted_at": Maybe(TIME),
}
JOB_STARTED = {"job_id": Id("job"), "deduplicated": bool}
JOB = {
    "id": Id("job"),
    "kind": OneOf("consolidation", "rebuild", "erase", "export", "bisection", "preparation"),
    "bank": Maybe(Id("bank")),
    "status": OneOf("queued", "running", "succeeded", "failed", "canceled"),
    "progress": NUMBER,
    "attempts": int,
    "result": Maybe(dict),
    "error": Maybe(dict),
    "created_at": TIME,
    "updated_at": TIME,
    "finished_at": Maybe(TIME),
}
KEY = {
    "id": Id("key"),
    "name": TEXT,
    "prefix": TEXT,
    "scopes": [TEXT],
    "banks": Maybe([Id("bank")]),
    "created_at": TIME,
    "expires_at": Maybe(TIME),
    "revoked_at": Maybe(TIME),
    "last_used_at": Maybe(TIME),
    "rate": Maybe(NUMBER),
}
MINTED_KEY = {
    "id": Id("key"),
    "key": Maybe(re.compile(r"pal_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}")),
    "prefix": TEXT,
    "scopes": [TEXT],
    "banks": Maybe([Id("bank")]),
    "expires_at": Maybe(TIME),
    "rate": Maybe(NUMBER),
}
ROTATED_KEY = {**MINTED_KEY, "replaces": Id("key"), "replaced_until": TIME}
WEBHOOK = {"id": Id("whk"), "url": TEXT, "events": [TEXT], "created_by": Id("key"), "created_at": TIME}
MADE_WEBHOOK = {**WEBHOOK, "secret": Maybe(re.compile(r"whsec_[0-9A-Za-z_-]{43}"))}
DELIVERY = {
    "id": Id("dlv"),
    "webhook": Id("whk"),
    "change": Id("chg"),
    "event": TEXT,
    "status": OneOf("pending", "delivered", "failed"),
    "attempts": int,
    "due_at": Maybe(TIME),
    "answered": Maybe(int),
    "error": Maybe(TEXT),
    "created_at": TIME,
    "updated_at": TIME,
}
WHO_AM_I = {"tenant": Id("ten"), "key_id": Id("key"), "scopes": [TEXT], "banks": Maybe([Id("bank")])}
AUDIT_ENTRY = {
    "id": Id("aud"),
    "seq": int,
    "actor": TEXT,
    "request_id": TEXT,
    "action": TEXT,
    "target": TEXT,
    "detail": dict,
    "prev_hash": TEXT,
    "hash": SHA,
    "created_at": TIME,
}
AUDIT_VERIFIED = {
    "ok": bool,
    "entries": int,
    "hash": TEXT,
    "broken": Maybe({"seq": int, "id": Maybe(Id("aud")), "why": OneOf("changed", "missing")}),
}
SESSION = {"id": TEXT, "bank": Id("bank"), "created_at": TIME, "last_used_at": TIME, "expires_at": TIME}
WARMTH = {"warm": bool, "eta_ms": NUMBER}
OPENED_SESSION = {**SESSION, **WARMTH, "state": STATE}
LEVEL_VIEW = {
    "name": OneOf("fast", "middle", "slow"),
    "period_tokens": int,
    "updates": int,
    "tokens_until_update": int,
    "norm": NUMBER,
    "drift_start": NUMBER,
    "drift_snapshot": Maybe(NUMBER),
    "pairs": int,
    "capacity": int,
    "alone": Maybe(NUMBER),
    "strength": Maybe(NUMBER),
    "margin": Maybe(NUMBER),
    "half_life": Maybe(NUMBER),
}
LEVELS = {
    "bank": Id("bank"),
    "state": STATE,
    "levels": [LEVEL_VIEW],
    "clock_tokens": int,
    "compared_with": Maybe(Id("snap")),
    "corrections": int,
    "sample": int,
}
STANDS = {"score": NUMBER, "confidence": NUMBER, "rank": Maybe(int)}
TRACE = {
    "id": Id("cor"),
    "seq": int,
    "status": OneOf("active", "superseded", "rolled_back", "forgotten"),
    "superseded_by": Maybe(Id("cor")),
    "removed": Maybe({"by": OneOf("rollback", "rebuild", "consolidation", "forget"), "id": TEXT, "at": TIME, "mode": Maybe(TEXT)}),
    "right_now": Maybe(bool),
    "confidence": Maybe(NUMBER),
    "rank": Maybe(int),
    "levels": [{"name": TEXT, **STANDS}],
    "snapshots": [{"snapshot": Id("snap"), "kind": TEXT, "seq": int, "created_at": TIME, "label": Maybe(TEXT), **STANDS}],
    "holding": int,
    "verified_at": Maybe(TIME),
    "state": STATE,
}
CELL = {"value": Maybe(TEXT), "confidence": NUMBER, "abstained": bool}
PROBED = {"versions": [{"at": TEXT, "state": STATE}], "rows": [[CELL]], "usage": USAGE}
CARRIER = {"correction": Id("cor"), "level": OneOf("fast", "middle"), "cosine": NUMBER, "carries": NUMBER, **STANDS, "said": SAID}
EXPLAINED = {
    "value": Maybe(TEXT),
    "score": NUMBER,
    "confidence": NUMBER,
    "abstained": bool,
    "level": Maybe(TEXT),
    "levels": [{"name": TEXT, "score": NUMBER}],
    "carriers": [CARRIER],
    "sample": int,
    "method": OneOf("fold", "pairs"),
    "counter": Maybe({"value": TEXT, "score": NUMBER, "confidence": NUMBER, "correction": Maybe(Id("cor")), "cosine": Maybe(NUMBER)}),
    "state": STATE,
    "usage": USAGE,
}
PROBE = {"input": TEXT, "expected": Maybe(TEXT)}
PROBE_SET = {
    "id": Id("prb"),
    "bank": Id("bank"),
    "name": TEXT,
    "size": int,
    "probes": Maybe([PROBE]),
    "created_by": TEXT,
    "created_at": TIME,
}
PROPOSAL = {
    "id": Id("prp"),
    "bank": Id("bank"),
    "input": TEXT,
    "wrong": TEXT,
    "right": TEXT,
    "session_id": Maybe(TEXT),
    "created_by": Id("key"),
    "created_at": TIME,
}
TURN = {"id": Id("trn"), "seq": int, "tokens": int, "surprise": Maybe(NUMBER), "state": STATE}
REMEMBERED = {
    "recall_id": Maybe(Id("rec")),
    "used": [Id("cor")],
    "abstained": bool,
    "state": Maybe(STATE),
    "proposal": Maybe(PROPOSAL),
    "turn": Maybe(TURN),
}
CHAT_COMPLETION = {
    "id": TEXT,
    "object": OneOf("chat.completion"),
    "created": int,
    "model": TEXT,
    "choices": [dict],
    "usage": dict,
    "x_upstreams_own": dict,
    "memory": REMEMBERED,
}
CHAT_MODELS = {"object": OneOf("list"), "data": [{"id": TEXT, "object": OneOf("model"), "created": int, "owned_by": TEXT}]}
FAILURE = {"place": int, "input": TEXT, "expected": Maybe(TEXT), "said": SAID}
RAN = {
    "id": Id("prb"),
    "versions": [{"at": TEXT, "state": STATE, "passed": int, "failed": int, "failures": [FAILURE]}],
    "usage": USAGE,
}
MOMENT = {
    "at": TIME,
    "corrections": int,
    "measured": int,
    "mistakes": int,
    "unknown": int,
    "surprise": Maybe(NUMBER),
    "drift": dict,
}
STATS = {"bank": Id("bank"), "bucket": OneOf("hour", "day", "week"), "series": [MOMENT]}
HEALTH = {"ready": bool, "components": [{"name": TEXT, "ok": bool, "detail": TEXT}]}


def page_of(shape) -> dict:
    return {"items": [shape], "next_cursor": Maybe(TEXT)}


MEM0_MEMORY = {
    "id": Maybe(Id("cor")),
    "memory": TEXT,
    "input": Maybe(TEXT),
    "metadata": Maybe(dict),
    "user_id": Maybe(TEXT),
    "agent_id": Maybe(TEXT),
    "run_id": Maybe(TEXT),
    "score": Maybe(NUMBER),
    "created_at": Maybe(TIME),
    "updated_at": Maybe(TIME),
}
MEM0_FOUND = {"results": [MEM0_MEMORY]}
MEM0_LISTED = {"count": int, "next": Maybe(TEXT), "previous": Maybe(TEXT), "results": [MEM0_MEMORY]}
MEM0_ADDED = {"results": [{"id": Id("cor"), "memory": TEXT, "event": OneOf("ADD")}]}
MEM0_PAST = {
    "id": Id("cor"),
    "memory_id": Id("cor"),
    "old_memory": Maybe(TEXT),
    "new_memory": Maybe(TEXT),
    "event": OneOf("ADD", "UPDATE"),
    "created_at": TIME,
    "updated_at": TIME,
}
MEM0_DONE = {"message": TEXT, "id": Maybe(Id("qua"))}
MEM0_PING = {"status": OneOf("ok"), "org_id": Id("ten"), "project_id": TEXT, "user_email": Maybe(TEXT)}


def check(value, shape, where: str = "reply") -> None:
    """Fail unless the value has exactly this shape."""
    match shape:
        case Maybe():
            if value is not None:
                check(value, shape.shape, where)
        case dict():
            assert isinstance(value, dict), where
            assert value.keys() == shape.keys(), where
            for name, inner in shape.items():
                check(value[name], inner, f"{where}.{name}")
        case [inner]:
            assert isinstance(value, list), where
            for place, item in enumerate(value):
                check(item, inner, f"{where}[{place}]")
        case OneOf():
            assert value in shape.words, where
        case Id():
            assert shape.pattern.fullmatch(value), f"{where}: {value}"
        case re.Pattern():
            assert shape.fullmatch(value), f"{where}: {value}"
            if shape is TIME:
                datetime.fromisoformat(value)
        case _:
            assert isinstance(value, shape), f"{where}: {value!r}"
            assert shape is bool or not isinstance(value, bool), where

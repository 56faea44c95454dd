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
RECEIPT = {"item": {"before": SAID, "after": SAID}, "paraphrase": {"n": int, "fixed": int}}
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
}
CORRECTION = {
    "id": Id("cor"),
    "seq": int,
    "status": OneOf("active", "superseded", "rolled_back", "forgotten"),
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
    "removed": int,
    "restored": int,
    "dry_run": bool,
    "state": STATE,
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
    "levels": [{"name": TEXT, "before_norm": NUMBER, "after_norm": NUMBER, "drift": NUMBER}],
}
VERIFIED = {"snapshot": Id("snap"), "ok": bool, "checks": [{"name": TEXT, "ok": bool, "detail": TEXT}]}
BRANCH = {"id": Id("bank"), "name": TEXT, "bank": Id("bank"), "corrections": int, "created_by": TEXT, "created_at": TIME}
PROMOTED = {"bank": Id("bank"), "corrections": [Id("cor")], "before": Id("snap"), "state": STATE}
IMPORTED = {"snapshot": SNAPSHOT, "probes": int, "agreeing": int}
FORGOTTEN = {
    "id": Id("fgt"),
    "effective_now": bool,
    "mode": OneOf("suppress", "rebuild", "erase"),
    "corrections": [Id("cor")],
    "job_id": Maybe(Id("job")),
}
JOB_STARTED = {"job_id": Id("job"), "deduplicated": bool}
JOB = {
    "id": Id("job"),
    "kind": OneOf("consolidation", "rebuild", "erase", "export", "bisection"),
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
}
MINTED_KEY = {
    "id": Id("key"),
    "key": Maybe(re.compile(r"pal_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}")),
    "prefix": TEXT,
    "scopes": [TEXT],
    "banks": Maybe([Id("bank")]),
    "expires_at": Maybe(TIME),
}
WHO_AM_I = {"tenant": Id("ten"), "key_id": Id("key"), "scopes": [TEXT], "banks": Maybe([Id("bank")])}
AUDIT_ENTRY = {"id": Id("aud"), "actor": TEXT, "request_id": TEXT, "action": TEXT, "target": TEXT, "detail": dict, "created_at": TIME}
SESSION = {"id": TEXT, "bank": Id("bank"), "created_at": TIME, "last_used_at": TIME, "expires_at": TIME}
WARMTH = {"warm": bool, "eta_ms": NUMBER}
OPENED_SESSION = {**SESSION, **WARMTH, "state": STATE}
HEALTH = {"ready": bool, "components": [{"name": TEXT, "ok": bool, "detail": TEXT}]}


def page_of(shape) -> dict:
    return {"items": [shape], "next_cursor": Maybe(TEXT)}


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

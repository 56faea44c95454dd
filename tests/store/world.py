"""A tenant with something in every table."""

from keeping import NOW, append, commit, draft, forget, later, new_bank, new_tenant, sha, state
from sqlalchemy import select

from service.ids import new_id
from service.store import (
    audit,
    banks,
    blob_rows,
    branches,
    bundles,
    changes,
    idempotency,
    jobs,
    lookup,
    probe_sets,
    proposals,
    quarantines,
    sign_ins,
    tenants,
    turns,
    webhooks,
)
from service.store.tables import metadata
from service.store.turns import TurnDraft
from service.wire import Probe

BANK = {"config_hash": "c", "encoder_digest": "e", "now": NOW}


class World:
    """A tenant with something in every table; what it says carries its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def build(self, database, bank_id: str | None = None) -> "World":
        self.tenant = await new_tenant(database)
        async with database.write(self.tenant) as conn:
            self.bank = await banks.create_bank(conn, self.tenant, "main", id=bank_id or new_id("bnk"), **BANK)
        self.empty = await new_bank(database, self.tenant, "empty")
        self.events = await append(database, self.bank, *self.drafts())
        self.ids = [row.id for row in self.events]
        async with database.write(self.tenant) as conn:
            await turns.append(conn, self.tenant, self.empty.id, self.turn(f"trn_{self.name}"), epoch=0, head_version=0, now=NOW)
        async with database.write(self.tenant) as conn:
            self.births = await blob_rows.stage(
                conn, self.tenant, [(sha(content), 1) for content in ("live", "pending", "unused", "going")], NOW
            )
            await blob_rows.condemn_unused(conn, self.tenant, [sha("unused"), sha("going")])
            await blob_rows.begin_delete(conn, self.tenant, [sha("going")], now=NOW, before=NOW)
            await tenants.add_key(conn, self.tenant, **key("key_1", self.name))
            await sign_ins.add_sign_in(conn, self.tenant, **signing_in("sgn_1", self.name))
            await audit.record(conn, self.tenant, actor="a", request_id="r", action="x", target="t", detail={}, now=NOW)
            self.job, _ = await jobs.enqueue(conn, self.tenant, kind="gc", bank=self.bank.id, payload={}, dedupe="d", now=NOW)
            for name in ("pending", "committed", "done"):
                await idempotency.begin(conn, self.tenant, name, request_hash=b"r" * 32, now=NOW, lease_s=60)
            await idempotency.mark_committed(conn, self.tenant, "committed", bank=self.bank.id, first_seq=1, last_seq=3)
            await idempotency.finish(conn, self.tenant, "done", status=200, reply=f'"same {self.name}"'.encode(), now=NOW)
        self.head = await commit(database, self.bank, state(1, {"fast": "live"}), head=0)
        self.auto = await commit(database, self.bank, state(2, kind="auto"))
        self.forget = await forget(database, self.bank, self.events[0])
        async with database.write(self.tenant) as conn:
            given = {"event_ids": self.ids[1:2], "reason": None, "created_by": "key_1", "now": NOW}
            self.quarantine = await quarantines.add(conn, self.tenant, self.bank.id, source=quarantines.Source(session="s"), **given)
            await webhooks.add_webhook(conn, self.tenant, **hook("whk_1"))
            await changes.publish(conn, self.tenant, NOW)
            self.change = (await changes.page(conn, self.tenant, 0, 1))[0].id
            self.delivery = (await webhooks.list_deliveries(conn, self.tenant, "whk_1", None, 1))[0].id
            await changes.emit(conn, self.tenant, "correction.created", self.bank.id, {}, NOW)
            await lookup.add_drift(conn, self.tenant, self.bank.id, self.auto.id, {"fast": 0.5}, NOW)
            saved = {"id": new_id("prb"), "name": "p", "probes": [Probe(input=f"same {self.name}", expected=None)], "created_by": "key_1"}
            self.probe_set = await probe_sets.add_probe_set(conn, self.tenant, self.bank.id, **saved, now=NOW)
        async with database.write(self.tenant) as conn:
            self.proposal = await proposals.propose(conn, self.tenant, self.bank.id, **proposed(f"prp_{self.name}", self.name))
        self.bundle, carried = f"exp_{self.name}", {"spans": ((0, 2),), "manifest": b"m", "data": self.name.encode(), "now": NOW}
        async with database.write(self.tenant) as conn:
            await jobs.enqueue(conn, self.tenant, kind="bisection", bank=self.bank.id, payload={"key": "k"}, dedupe=None, now=NOW)
            await branches.add(conn, self.tenant, self.empty.id, id=self.bank.id, spans=((0, 1),), created_by="k", now=NOW)
            await bundles.add(conn, self.tenant, self.bank.id, id=self.bundle, **carried)
        return self

    def turn(self, id: str) -> TurnDraft:
        return TurnDraft(id, None, f"same {self.name}", None, 1, "key_1")

    def drafts(self):
        said = (("same", "a"), ("same", "b"), ("other", "a"))
        return [draft(f"{input} {self.name}", f"{right} {self.name}", session_id="s", words=b"words") for input, right in said]


def key(id: str, secret: str = "") -> dict:
    given = {"name": "k", "prefix": "p", "scopes": [], "banks": None, "expires_at": None, "now": NOW}
    return {"id": id, "lookup_hash": sha(id + secret).encode()[:32], **given}


def signing_in(id: str, secret: str = "") -> dict:
    return {"id": id, "key": "key_1", "lookup_hash": sha(id + secret).encode()[:32], "now": NOW, "expires_at": later(60)}


def proposed(id: str, said: str) -> dict:
    texts = {"input": f"same {said}", "wrong": "a", "right": "b"}
    return {"id": id, **texts, "session_id": "s", "created_by": "key_1", "now": NOW}


def hook(id: str) -> dict:
    return {"id": id, "url": "https://a.example/", "events": ["correction.created"], "created_by": "key_1", "now": NOW}


async def owned(conn, tenant: str) -> dict:
    """All rows of a tenant."""
    rows = {}
    for name, table in metadata.tables.items():
        mine = table.c.id if name in ("tenant", "erased_tenant") else table.c.tenant
        rows[name] = sorted(map(repr, await conn.execute(select(table).where(mine == tenant))))
    return rows

"""Every route that needs a key, with a request that it takes and the scope that it asks for."""

from dataclasses import dataclass

from fixtures_service import finished
from saying import PIN, SPAIN, snapshot, teach
from tenancy import Tenant

ANY = "any key"


@dataclass(frozen=True)
class Route:
    """`{…}` in path and body is filled from what a tenant has."""

    method: str
    template: str
    scope: str
    status: int
    body: dict | None = None
    query: str = ""

    def path(self, has: dict[str, str]) -> str:
        return self.template.format(**has) + self.query.format(**has)

    def json(self, has: dict[str, str]) -> dict | None:
        return None if self.body is None else _filled(self.body, has)


def _filled(value, has):
    if isinstance(value, list):
        return [_filled(item, has) for item in value]
    if isinstance(value, dict):
        return {name: _filled(inner, has) for name, inner in value.items()}
    return value.format(**has) if isinstance(value, str) else value


PROBE = {"input": PIN, "expected": "change_pin"}
CHAT = {"model": "echo+palimpsest", "messages": [{"role": "user", "content": PIN}]}
ROUTES = (
    Route("POST", "/v1/corrections", "corrections:write", 201, {"input": PIN, "right": "x", "bank": "{bank_id}"}),
    Route("POST", "/v1/corrections/batch", "corrections:write", 201, {"items": [{"input": PIN, "right": "x"}], "bank": "{bank_id}"}),
    Route("GET", "/v1/corrections", "memory:inspect", 200),
    Route("GET", "/v1/corrections/{correction_id}", "memory:inspect", 200),
    Route("GET", "/v1/events", "memory:inspect", 200),
    Route("POST", "/v1/recall", "recall:read", 200, {"input": PIN, "bank": "{bank_id}", "at": "{snapshot_id}"}),
    Route("POST", "/v1/recall/batch", "recall:read", 200, {"inputs": [PIN], "bank": "{bank_id}"}),
    Route("POST", "/v1/chat/completions", "recall:read", 200, {**CHAT, "memory": {"bank": "{bank_id}", "at": "{snapshot_id}"}}),
    Route("GET", "/v1/models", "recall:read", 200),
    Route("GET", "/v1/proposals", "memory:inspect", 200),
    Route("POST", "/v1/proposals/{proposal_id}/confirm", "corrections:write", 400, {"right": " "}),  # else it would be gone
    Route("DELETE", "/v1/proposals/{proposal_id}", "corrections:write", 204),
    Route("GET", "/v1/memory", "memory:inspect", 200),
    Route("GET", "/v1/memory/levels", "memory:inspect", 200),
    Route("GET", "/v1/memory/corrections/{correction_id}/trace", "memory:inspect", 200),
    Route("POST", "/v1/memory/probe", "memory:inspect", 200, {"inputs": [PIN], "at": ["head", "{snapshot_id}"], "bank": "{bank_id}"}),
    Route("POST", "/v1/memory/explain", "memory:inspect", 200, {"input": PIN, "at": "{snapshot_id}", "bank": "{bank_id}"}),
    Route("GET", "/v1/memory/search?q=pin", "memory:inspect", 200),
    Route("GET", "/compat/mem0/v1/ping", ANY, 200),
    Route("POST", "/compat/mem0/memories", "corrections:write", 200, {"messages": PIN}),
    Route("POST", "/compat/mem0/v3/memories/add", "corrections:write", 200, {"messages": [{"role": "user", "content": PIN}]}),
    Route("GET", "/compat/mem0/memories", "memory:inspect", 200),
    Route("POST", "/compat/mem0/v3/memories", "memory:inspect", 200, {}),
    Route("POST", "/compat/mem0/search", "recall:read", 200, {"query": PIN}),
    Route("POST", "/compat/mem0/v3/memories/search", "recall:read", 200, {"query": PIN}),
    Route("GET", "/compat/mem0/memories/{memory_id}", "memory:inspect", 200),
    Route("GET", "/compat/mem0/v1/memories/{memory_id}", "memory:inspect", 200),
    Route("GET", "/compat/mem0/memories/{memory_id}/history", "memory:inspect", 200),
    Route("GET", "/compat/mem0/v1/memories/{memory_id}/history", "memory:inspect", 200),
    Route("PUT", "/compat/mem0/memories/{memory_id}", "corrections:write", 200, {"text": "change_pin"}),
    Route("PUT", "/compat/mem0/v1/memories/{memory_id}", "corrections:write", 200, {"text": "change_pin"}),
    Route("POST", "/compat/mem0/v1/feedback", "forget", 200, {"memory_id": "{memory_id}", "feedback": "POSITIVE"}),
    Route("GET", "/v1/stats", "memory:inspect", 200),
    Route("POST", "/v1/probe-sets", "snapshots:write", 201, {"name": "new", "probes": [PROBE], "bank": "{bank_id}"}),
    Route("GET", "/v1/probe-sets", "memory:inspect", 200),
    Route("GET", "/v1/probe-sets/{probe_set_id}", "memory:inspect", 200),
    Route("POST", "/v1/probe-sets/{probe_set_id}/run", "memory:inspect", 200, {"at": ["head", "{snapshot_id}"]}),
    Route("PUT", "/v1/probe-sets/{probe_set_id}", "snapshots:write", 200, {"probes": [PROBE]}),
    Route("DELETE", "/v1/probe-sets/{probe_set_id}", "snapshots:write", 204),
    Route("POST", "/v1/snapshots", "snapshots:write", 201, {"bank": "{bank_id}"}),
    Route("GET", "/v1/snapshots", "snapshots:read", 200),
    Route("GET", "/v1/snapshots/{snapshot_id}", "snapshots:read", 200),
    Route("PATCH", "/v1/snapshots/{snapshot_id}", "snapshots:write", 200, {"label": "mine"}),
    Route("GET", "/v1/snapshots/{snapshot_id}/diff/{other_id}", "memory:inspect", 200),
    Route("POST", "/v1/snapshots/{snapshot_id}/verify", "snapshots:read", 200),
    Route("POST", "/v1/snapshots/{snapshot_id}/export", "admin", 202, {"bank": "{bank_id}"}),
    Route("GET", "/v1/exports/{export_id}", "admin", 200),
    Route("POST", "/v1/imports", "admin", 422, {"not": "a bundle"}),
    Route("POST", "/v1/memory/bisect", "memory:inspect", 202, {"input": PIN, "bank": "{bank_id}", "since": "{snapshot_id}"}),
    Route("POST", "/v1/rollback", "rollback", 200, {"to": "{snapshot_id}", "bank": "{bank_id}", "dry_run": True}),
    Route("POST", "/v1/rollback", "rollback", 200, {"source": {"session_id": "{session_of_teaching}"}, "dry_run": True}),
    Route("POST", "/v1/rollback", "rollback", 200, {"to": "{snapshot_id}", "keep": ["{correction_id}"], "dry_run": True}),
    Route("DELETE", "/v1/snapshots/{snapshot_id}", "snapshots:write", 204),
    Route("POST", "/v1/forget", "forget", 202, {"corrections": ["{correction_id}"], "mode": "suppress", "bank": "{bank_id}"}),
    Route("POST", "/v1/forget", "forget", 202, {"corrections": ["{correction_id}"], "mode": "rebuild", "bank": "{bank_id}"}),
    Route("POST", "/v1/forget", "erase", 202, {"corrections": ["{other_correction_id}"], "mode": "erase", "bank": "{bank_id}"}),
    Route("POST", "/v1/forget", "forget", 202, {"source": {"session_id": "{session_id}"}, "mode": "suppress", "bank": "{bank_id}"}),
    Route(
        "POST", "/v1/forget", "forget", 200, {"corrections": ["{correction_id}"], "mode": "rebuild", "bank": "{bank_id}", "dry_run": True}
    ),
    Route("GET", "/v1/forget", "forget", 200),
    Route("GET", "/v1/forget/{forget_id}", "forget", 200),
    Route("DELETE", "/compat/mem0/memories/{memory_id}", "forget", 200),
    Route("DELETE", "/compat/mem0/v1/memories/{memory_id}", "forget", 200),
    Route("POST", "/v1/quarantine", "forget", 202, {"corrections": ["{correction_id}"], "bank": "{bank_id}"}),
    Route("GET", "/v1/quarantine", "forget", 200),
    Route("DELETE", "/v1/quarantine/{quarantine_id}", "forget", 202),
    Route("POST", "/v1/consolidations", "snapshots:write", 202, {"bank": "{bank_id}"}),
    Route("GET", "/v1/jobs", ANY, 200),
    Route("GET", "/v1/jobs/{job_id}", ANY, 200),
    Route("POST", "/v1/jobs/{job_id}/cancel", "admin", 200),
    Route("POST", "/v1/banks", "admin", 201, {"name": "another"}),
    Route("GET", "/v1/banks", ANY, 200),
    Route("GET", "/v1/banks/{bank_id}", ANY, 200),
    Route("POST", "/v1/keys", "admin", 201, {"name": "another", "scopes": ["admin"], "banks": ["{bank_id}"]}),
    Route("GET", "/v1/keys", "admin", 200),
    Route("POST", "/v1/keys/{key_id}/rotate", "admin", 201, {"overlap_s": 60}),
    Route("DELETE", "/v1/keys/{key_id}", "admin", 200),
    Route("GET", "/v1/whoami", ANY, 200),
    Route("GET", "/v1/audit", "admin", 200),
    Route("GET", "/v1/audit/verify", "admin", 200),
    Route("POST", "/v1/webhooks", "admin", 201, {"url": "http://127.0.0.1:9/", "events": ["rollback.done"]}),
    Route("GET", "/v1/webhooks", "admin", 200),
    Route("GET", "/v1/webhooks/{webhook_id}/deliveries", "admin", 200),
    Route("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", "admin", 202),
    Route("DELETE", "/v1/webhooks/{webhook_id}", "admin", 204),
    Route("GET", "/v1/stream", "memory:inspect", 200, query="?wait_s=0&bank={bank_id}"),
    Route("POST", "/v1/sessions", "recall:read", 201, {"bank": "{bank_id}"}),
    Route("GET", "/v1/sessions", "memory:inspect", 200),
    Route("GET", "/v1/sessions/{session_id}", "recall:read", 200),
    Route("POST", "/v1/sessions/{session_id}/warm", "recall:read", 200),
    Route("DELETE", "/v1/sessions/{session_id}", "recall:read", 204),
    Route("POST", "/v1/branches", "admin", 201, {"name": "another branch", "bank": "{spare_bank_id}"}),
    Route("GET", "/v1/branches", "snapshots:read", 200),
    Route("GET", "/v1/branches/{branch_id}/diff", "memory:inspect", 200),
    Route("POST", "/v1/branches/{branch_id}/promote", "admin", 409, {"refold": True}),  # nothing was taught in it
    Route("DELETE", "/v1/branches/{branch_id}", "admin", 204),
    Route("DELETE", "/v1/banks/{bank_id}", "admin", 204),
)


async def furnish(tenant: Tenant) -> dict[str, str]:
    """Something of every kind in the tenant, by name; the job is a queued one."""
    from datetime import UTC, datetime

    from service.ids import new_id
    from service.store import changes, jobs, proposals, webhooks

    client = tenant.client
    conversation = new_id("ses")
    taught, other = await teach(client, PIN, "change_pin", session_id=conversation), await teach(client, SPAIN, "transfer_time")
    bank = (await client.get("/v1/banks/default")).json()["id"]
    saved, later = await snapshot(client), await snapshot(client)
    exported = await finished(client, (await client.post(f"/v1/snapshots/{saved['id']}/export", json={})).json()["job_id"])
    spare_bank = (await client.post("/v1/banks", json={"name": "spare bank"})).json()["id"]
    branch = (await client.post("/v1/branches", json={"name": "spare branch", "bank": spare_bank})).json()
    minted = (await client.post("/v1/keys", json={"name": "spare", "scopes": ["recall:read"]})).json()
    opened = (await client.post("/v1/sessions", json={})).json()
    memory = await teach(client, "And something of mem0's?", "something")
    gone = await teach(client, "And what else?", "nothing else", session_id=opened["id"])
    forgotten = (await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "suppress"})).json()
    held = (await client.post("/v1/quarantine", json={"source": {"session_id": "nobody"}})).json()
    await finished(client, held["job_id"])  # what it does beside the requests is done before somebody looks at the rows
    hook = (await client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/", "events": ["forget.completed"]})).json()
    async with tenant.service.database.write(tenant.id) as conn:
        while await changes.publish(conn, tenant.id, datetime.now(UTC)):
            pass
        told = [row.id for row in await changes.page(conn, tenant.id, 0, 200)]
        await webhooks.send(conn, tenant.id, [(told[0], "forget.completed")], datetime.now(UTC))
        delivery = (await webhooks.list_deliveries(conn, tenant.id, hook["id"], None, 1))[0]
    probes = (await client.post("/v1/probe-sets", json={"name": "saved", "probes": [PROBE]})).json()
    async with tenant.service.database.write(tenant.id) as conn:
        seen = {"wrong": "x", "right": "y", "session_id": None, "created_by": "test", "now": datetime.now(UTC)}
        proposal = await proposals.propose(conn, tenant.id, bank, id=new_id("prp"), input=PIN, **seen)
        what = {"kind": "consolidation", "bank": bank, "payload": {"by": "test"}, "dedupe": None}
        job, _ = await jobs.enqueue(conn, tenant.id, **what, now=datetime.now(UTC))
    return {
        "bank_id": bank,
        "correction_id": taught["id"],
        "other_correction_id": other["id"],
        "memory_id": memory["id"],
        "snapshot_id": saved["id"],
        "other_id": later["id"],
        "export_id": exported["result"]["export"],
        "session_of_teaching": conversation,
        "spare_bank_id": spare_bank,
        "branch_id": branch["id"],
        "key_id": minted["id"],
        "job_id": job.id,
        "session_id": opened["id"],
        "forget_id": forgotten["id"],
        "quarantine_id": held["id"],
        "webhook_id": hook["id"],
        "delivery_id": delivery.id,
        "probe_set_id": probes["id"],
        "proposal_id": proposal.id,
    }

"""Snapshots are labelled, pinned and deleted; retention keeps its hands off what people hold on to."""

from fixtures_service import client_of, serving
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from waiting import until

from service.store import snapshots


async def change(client, name, expect=200, **said):
    response = await client.patch(f"/v1/snapshots/{name}", json=said)
    assert response.status_code == expect, response.text
    return response.json()


async def test_what_is_said_about_a_snapshot_changes_and_its_weights_do_not(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    told = await change(client, saved["id"], label="before the sale", note="Où ? 💳", pinned=True)
    assert told == saved | {"label": "before the sale", "note": "Où ? 💳", "pinned": True}
    assert await change(client, saved["id"], label=None) == told | {"label": None}, "what is not given stays"
    assert (await client.get(f"/v1/snapshots/{saved['id']}")).json() == told | {"label": None}
    assert await change(client, saved["id"]) == told | {"label": None}
    for wrong in ({"pinned": None}, {"label": ""}, {"note": "\0"}, {"digest": "0" * 64}):
        assert (await change(client, saved["id"], 400, **wrong))["code"] == "validation"
    lines = [row["action"] for row in (await client.get("/v1/audit")).json()["items"]]
    assert lines.count("snapshot.change") == 2


async def test_deleted_snapshot_is_gone_with_its_bytes_and_nothing_learned_is_lost(client, service):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    assert (await ask(client, PIN, at=saved["id"]))["answers"]
    await teach(client, SPAIN, "transfer_time")
    lived = await digest(client)
    assert (await client.delete(f"/v1/snapshots/{saved['id']}")).status_code == 204
    for refused in (
        await client.delete(f"/v1/snapshots/{saved['id']}"),
        await client.patch(f"/v1/snapshots/{saved['id']}", json={"pinned": True}),
        await client.post("/v1/recall", json={"input": PIN, "at": saved["id"]}),
        await client.post("/v1/rollback", json={"to": saved["id"]}),
        await client.post(f"/v1/snapshots/{saved['id']}/verify"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found"), refused.text
    assert saved["id"] not in [row["id"] for row in (await client.get("/v1/snapshots")).json()["items"]]
    assert await service.engine.versions.blobs.list(service.tenant) == []
    service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, "default"))
    assert await digest(client) == lived


async def test_head_genesis_and_pinned_snapshots_cannot_be_deleted(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await change(client, saved["id"], pinned=True)
    moved = (await client.post("/v1/rollback", json={"to": saved["id"]})).json()
    genesis = (await client.get("/v1/snapshots")).json()["items"][-1]["id"]
    for name, why in ((saved["id"], "unpin"), (moved["head"], "head"), (genesis, "genesis")):
        refused = await client.delete(f"/v1/snapshots/{name}")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert why in refused.json()["detail"]
    await change(client, saved["id"], pinned=False)
    assert (await client.delete(f"/v1/snapshots/{saved['id']}")).status_code == 204
    assert await digest(client) == saved["digest"], "the head has the same bytes and keeps them"


async def test_retention_leaves_what_is_pinned_or_labelled(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, snapshot_every=8, auto_snapshots=1) as service, client_of(service) as client:
        bank = await service.engine.banks.id_of(service.tenant, "default")

        async def autos(newest, number):
            """Their ids, newest first, once there are so many and the newest covers that."""

            async def saved() -> list[str] | None:
                rows = [row for row in (await client.get("/v1/snapshots")).json()["items"] if row["kind"] == "auto"]
                return [row["id"] for row in rows] if len(rows) == number and rows[0]["seq"] == newest else None

            return await until(saved, f"{number} automatic snapshots, the newest of {newest} events")

        kept = []
        for round_, said in enumerate(({"pinned": True}, {"label": "mine"}), start=1):
            items = [{"input": f"{PIN} {round_} {number}", "right": "change_pin"} for number in range(8)]
            await client.post("/v1/corrections/batch", json={"items": items})
            kept.append((await autos(8 * round_, round_))[0])
            await change(client, kept[-1], **said)
        for round_ in (3, 4):
            items = [{"input": f"{SPAIN} {round_} {number}", "right": "transfer_time"} for number in range(8)]
            await client.post("/v1/corrections/batch", json={"items": items})
            assert (await autos(8 * round_, 3))[1:] == kept[::-1], "of the others the newest is kept"
        await change(client, kept[0], pinned=False)
        await service.engine.versions.thin(service.tenant, bank, 1)
        assert kept[0] not in await autos(32, 2)
        async with service.database.read(service.tenant) as conn:
            gone = await snapshots.get_snapshot(conn, service.tenant, kept[0], bank)
        assert gone.destroyed_at is not None

"""What a client says to the service, for tests: each call fails on an unexpected status and gives the reply."""

PIN, SPAIN = "Where do I change my PIN?", "How long does a transfer to Spain take?"


async def teach(client, text, right, expect=201, **more):
    response = await client.post("/v1/corrections", json={"input": text, "right": right, **more})
    assert response.status_code == expect, response.text
    return response.json()


async def ask(client, text, **more):
    response = await client.post("/v1/recall", json={"input": text, **more})
    assert response.status_code == 200, response.text
    return response.json()


async def digest(client):
    return (await client.get("/v1/memory")).json()["digest"]


async def snapshot(client):
    response = await client.post("/v1/snapshots", json={})
    assert response.status_code == 201, response.text
    return response.json()

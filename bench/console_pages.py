"""How long the console's pages wait for their calls, over REST, in a bank with a large ledger."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import httpx
from tqdm import tqdm

from bench.large_bank import BATCH, fill, settle
from bench.running import Running, running_service
from bench.subjects import reply_of
from service.store import banks
from service.store.db import Database

BANK = "large"
IDS = re.compile(r"(cor|snap)_\w+")
FOLD_S = 3_600.0  # of the first use of a bank that nobody has loaded
ALONE = {f"PALIMPSEST_CONSOLIDATE_{name}": "1000000000" for name in ("TOKENS", "EVENTS", "AGE_S")}  # no job takes the other core


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a page. `opens`: the page makes it when it is opened; else when somebody presses a button there.

    `patient`: it comes behind a first answer that is there already.
    """

    page: str
    method: str
    path: str
    body: dict[str, Any] | None = field(default=None, hash=False)
    opens: bool = True
    patient: bool = False
    of_bank: bool = True

    @property
    def name(self) -> str:
        """The page and its call, without ids."""
        return f"{self.page}: {self.method} {IDS.sub('{id}', self.path.removeprefix('/v1/'))}"

    async def made(self, client: httpx.AsyncClient) -> Any:  # noqa: ANN401
        """Its reply."""
        if self.method == "GET":
            bank = f"{'&' if '?' in self.path else '?'}bank={BANK}" if self.of_bank else ""
            return reply_of(await client.get(f"{self.path}{bank}", timeout=FOLD_S))
        return reply_of(await client.post(self.path, json={"bank": BANK, **(self.body or {})}, timeout=FOLD_S))


async def page_times(many: int, calls: int) -> dict[Call, list[float]]:
    """Milliseconds of each call, one after the other, so that noise hits all alike.

    Before each round a correction is taught: what was found of the present state before helps nobody.
    """
    async with running_service({**os.environ, **ALONE}) as running, running.client() as client:
        await _taught(running, client, many)
        looks = await _calls(client)
        taken: dict[Call, list[float]] = {call: [] for call in looks}
        for number in tqdm(range(calls), desc="pages", unit=" rounds"):
            lesson = {"bank": BANK, "input": f"what is the question of round {number}", "right": f"answer {number}"}
            reply_of(await client.post("/v1/corrections", json=lesson, timeout=600))
            for call, times in taken.items():
                begin = time.perf_counter()
                await call.made(client)
                times.append(1e3 * (time.perf_counter() - begin))
        return taken


async def _taught(running: Running, client: httpx.AsyncClient, many: int) -> None:
    """A bank that nobody has loaded is filled beside the service, and given weights."""
    assert running.var_dir is not None
    made = reply_of(await client.post("/v1/banks", json={"name": BANK}))
    tenant = reply_of(await client.get("/v1/whoami"))["tenant"]
    database = Database(f"sqlite+aiosqlite:///{running.var_dir}/palimpsest.db")
    async with database.read(tenant) as conn:
        row = await banks.find_bank(conn, tenant, made["id"])
    await fill(database, row, many, begin=datetime.now(UTC) - timedelta(hours=many // BATCH))
    await settle(database, running.var_dir, row, many)
    await database.close()
    begin = time.perf_counter()
    await Call("load", "GET", "/v1/memory").made(client)
    click.echo(f"loaded {many} corrections in {time.perf_counter() - begin:.1f} s")


async def _calls(client: httpx.AsyncClient) -> Sequence[Call]:
    """What the pages ask, of two snapshots with fifty corrections between them."""
    saved = [reply_of(await client.post("/v1/snapshots", json={"bank": BANK}))["id"]]
    items = [{"input": f"what is question {number}", "right": f"answer {number}"} for number in range(50)]
    reply_of(await client.post("/v1/corrections/batch", json={"bank": BANK, "items": items}, timeout=600))
    saved.append(reply_of(await client.post("/v1/snapshots", json={"bank": BANK}))["id"])
    one = (await Call("", "GET", "/v1/corrections?order=newest").made(client))["items"][0]
    forget = {"corrections": [one["id"]], "mode": "rebuild", "dry_run": True}
    return (
        Call("overview", "GET", "/v1/memory"),
        Call("overview", "GET", "/v1/memory/levels"),
        *(Call("overview", "GET", f"/v1/stats?bucket={bucket}") for bucket in ("hour", "day", "week")),
        Call("overview", "GET", "/v1/corrections?order=newest&limit=5"),
        Call("corrections", "GET", "/v1/corrections?order=newest&limit=50"),
        Call("corrections", "GET", "/v1/corrections?order=newest&limit=200"),
        Call("corrections", "GET", "/v1/memory/search?q=w17&limit=50"),
        Call("corrections", "GET", "/v1/memory/search?q=zqzqzq&limit=50"),
        Call("corrections", "GET", f"/v1/corrections/{one['id']}"),
        Call("corrections", "GET", f"/v1/memory/corrections/{one['id']}/trace", opens=False),
        Call("corrections", "POST", "/v1/forget", forget, opens=False),
        Call("ask", "GET", "/v1/snapshots?limit=100"),
        Call("ask", "POST", "/v1/memory/probe", {"inputs": [one["input"]], "at": ["head", saved[0]]}),
        Call("ask", "POST", "/v1/memory/explain", {"input": one["input"]}, opens=False),
        Call("versions", "GET", "/v1/snapshots?limit=50"),
        Call("versions", "GET", f"/v1/snapshots/{saved[0]}/diff/{saved[1]}", opens=False),
        Call("versions", "GET", f"/v1/snapshots/{saved[0]}/diff/head", opens=False),
        Call("versions", "GET", f"/v1/snapshots/{saved[0]}/diff/head?probes=512", opens=False, patient=True),
        Call("versions", "POST", "/v1/rollback", {"to": saved[0], "dry_run": True}, opens=False),
        Call("quarantine", "GET", "/v1/quarantine?limit=50"),
        Call("quarantine", "GET", "/v1/forget?limit=50"),
        Call("jobs", "GET", "/v1/jobs?order=newest&limit=50"),
        Call("audit", "GET", "/v1/audit?limit=50", of_bank=False),
        Call("audit", "GET", "/v1/audit/verify", of_bank=False),
        Call("keys", "GET", "/v1/keys?limit=50", of_bank=False),
    )

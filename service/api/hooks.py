"""Webhooks: which addresses are told of changes of the tenant, and what became of each delivery. For admins of the whole tenant."""

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, Cursor, Limit, Pager
from service.api.texts import known_form
from service.errors import Conflict, Invalid, NotFound
from service.ids import new_id
from service.outside import AddressRefused, Outside
from service.signing import secret_of
from service.store import present, webhooks
from service.store.rows import DeliveryRow, WebhookRow

TAGS = ["webhooks"]
WHAT = "have webhooks"


@post(
    "/v1/webhooks",
    operation_id="create_webhook",
    summary="Tell an address of changes; its secret is shown once",
    tags=TAGS,
    opt=needs("admin"),
    dto=Strict[wire.NewWebhook],
    status_code=201,
)
async def create_webhook(caller: NamedDependency[Caller], data: JSONBody[wire.NewWebhook]) -> Response[wire.MadeWebhook]:
    """The address must be https and lead to public addresses; `secret` signs what is sent there."""
    caller.refuse_pinned(WHAT)
    await _check(caller, data.url)

    async def work(_: str | None) -> wire.MadeWebhook:
        return await _create(caller, data)

    return await once(caller, work, status=201, stored=lambda made: msgspec.structs.replace(made, secret=None))


@get("/v1/webhooks", operation_id="list_webhooks", summary="Webhooks without their secrets", tags=TAGS, opt=needs("admin"))
async def list_webhooks(
    caller: NamedDependency[Caller], limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Webhook]]:
    """In the order they were made."""
    caller.refuse_pinned(WHAT)
    pager = Pager("webhooks", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda after, number: webhooks.list_webhooks(conn, caller.tenant, after, number), _id, present.webhook)
    return replies.send(page)


@delete(
    "/v1/webhooks/{webhook_id:str}",
    operation_id="delete_webhook",
    summary="Tell an address nothing more",
    tags=TAGS,
    opt=needs("admin"),
    status_code=204,
)
async def delete_webhook(caller: NamedDependency[Caller], webhook_id: FromPath[str]) -> None:
    """With what is known of its deliveries."""
    caller.refuse_pinned(WHAT)
    async with caller.deps.database.write(caller.tenant) as conn:
        row = await webhooks.get_webhook(conn, caller.tenant, known_form(webhook_id))
        await webhooks.delete_webhook(conn, caller.tenant, row.id)
        await caller.note(conn, "webhook.delete", row.id, {"before": {"events": list(row.events)}})


@get(
    "/v1/webhooks/{webhook_id:str}/deliveries",
    operation_id="list_deliveries",
    summary="What became of each delivery, newest first",
    tags=TAGS,
    opt=needs("admin"),
)
async def list_deliveries(
    caller: NamedDependency[Caller], webhook_id: FromPath[str], limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Delivery]]:
    """For a week."""
    caller.refuse_pinned(WHAT)
    async with caller.deps.database.read(caller.tenant) as conn:
        row = await webhooks.get_webhook(conn, caller.tenant, known_form(webhook_id))
        pager = Pager(f"deliveries:{row.id}", str, limit, cursor)
        page = await pager.page(
            lambda after, number: webhooks.list_deliveries(conn, caller.tenant, row.id, after, number), _id, present.delivery
        )
    return replies.send(page)


@post(
    "/v1/webhooks/{webhook_id:str}/deliveries/{delivery_id:str}/redeliver",
    operation_id="redeliver",
    summary="Deliver once more",
    tags=TAGS,
    opt=needs("admin"),
    status_code=202,
)
async def redeliver(caller: NamedDependency[Caller], webhook_id: FromPath[str], delivery_id: FromPath[str]) -> Response[wire.Delivery]:
    """From the first attempt on, whatever became of it before."""
    caller.refuse_pinned(WHAT)

    async def work(_: str | None) -> wire.Delivery:
        async with caller.deps.database.write(caller.tenant) as conn:
            row = await webhooks.get_delivery(conn, caller.tenant, known_form(delivery_id))
            if row.webhook != known_form(webhook_id):
                raise NotFound(f"no delivery {delivery_id} of this webhook")
            await webhooks.deliver_again(conn, caller.tenant, row.id, caller.deps.now())
            return present.delivery(await webhooks.get_delivery(conn, caller.tenant, row.id))

    return await once(caller, work, status=202)


async def _create(caller: Caller, data: wire.NewWebhook) -> wire.MadeWebhook:
    id, now = new_id("whk"), caller.deps.now()
    async with caller.deps.database.write(caller.tenant) as conn:
        if len(await webhooks.list_webhooks(conn, caller.tenant, None, webhooks.MOST)) >= webhooks.MOST:
            raise Conflict(f"a tenant has at most {webhooks.MOST} webhooks; delete one first")
        events = tuple(dict.fromkeys(data.events))
        row = await webhooks.add_webhook(
            conn, caller.tenant, id=id, url=data.url, events=events, created_by=caller.principal.key_id, now=now
        )
        await caller.note(conn, "webhook.create", row.id, {"after": {"events": list(row.events)}})
    return wire.MadeWebhook(
        id=row.id,
        url=row.url,
        events=list(row.events),
        secret=secret_of(caller.deps.pepper, row.id),
        created_by=row.created_by,
        created_at=row.created_at,
    )


async def _check(caller: Caller, url: str) -> None:
    outside = Outside(private=caller.deps.settings.webhook_private)
    try:
        await outside.check(url)
    except AddressRefused as refused:
        raise Invalid(f"url: {refused}", errors=[{"field": "url", "message": str(refused)}]) from None
    finally:
        await outside.close()


def _id(row: WebhookRow | DeliveryRow) -> str:
    return row.id

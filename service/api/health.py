"""Health and metrics, open to whoever reaches the port; nothing of a tenant is in them."""

from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from service import wire
from service.api import replies
from service.api.auth import PUBLIC
from service.api.deps import Deps
from service.errors import PalimpsestError
from service.telemetry import CONTENT_TYPE

TAGS = ["health"]


@get("/health/live", operation_id="live", summary="The process answers", tags=TAGS, opt=PUBLIC)
async def live() -> Response[wire.Health]:
    """200 as long as the event loop turns."""
    return replies.send(wire.Health(ready=True, components=[]))


@get("/health/ready", operation_id="ready", summary="The first recall would be served warm", tags=TAGS, opt=PUBLIC)
async def ready(deps: NamedDependency[Deps]) -> Response[wire.Health]:
    """200 when every part is well, else 503 with the parts."""
    components = [await _database(deps), *await deps.engine.health()]
    well = deps.ready() and all(component.ok for component in components)
    return replies.send(wire.Health(ready=well, components=components), 200 if well else 503)


@get("/metrics", operation_id="metrics", summary="Metrics for Prometheus", tags=TAGS, opt=PUBLIC, media_type=MediaType.TEXT)
async def metrics(deps: NamedDependency[Deps]) -> Response[str]:
    """Counts and times by route and stage."""
    return Response(deps.metrics.render().decode(), media_type=CONTENT_TYPE)


async def _database(deps: Deps) -> wire.Component:
    try:
        await deps.database.ping()
    except PalimpsestError as error:
        return wire.Component(name="database", ok=False, detail=error.code)
    return wire.Component(name="database", ok=True, detail=deps.database.dialect)

"""The application: every route, and what they share, put together once."""

from functools import partial

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.routes import HTTPRoute

from service.api import (
    banks,
    branches,
    carriage,
    chat,
    compat_mem0,
    corrections,
    docs_page,
    forget,
    health,
    hooks,
    inspection,
    jobs,
    keys,
    memory,
    openapi,
    probe_sets,
    proposals,
    quarantine,
    rollback,
    sessions,
    stream,
    trail,
    versions,
)
from service.api.auth import Keyring, authorize
from service.api.caller import provide_caller
from service.api.deps import Deps
from service.api.edge import Edge
from service.api.limits import Limiter
from service.api.problems import answer
from service.api.queries import refuse_unknown
from service.chat.backends import Backends
from service.chat.hope import Hope
from service.chat.upstream import Upstreams
from service.console import pages, sign_in

__all__ = ["Deps", "build_app", "routes_only"]

BODY_MAX = 1_000_000  # bytes, counted as they arrive when the client does not say
ROUTES = (
    corrections.teach,
    corrections.teach_batch,
    corrections.list_corrections,
    corrections.get_correction,
    corrections.list_events,
    memory.recall,
    memory.recall_batch,
    memory.get_memory,
    chat.complete_chat,
    chat.list_models,
    proposals.list_proposals,
    proposals.confirm_proposal,
    proposals.dismiss_proposal,
    inspection.get_levels,
    inspection.trace_correction,
    inspection.probe,
    inspection.explain,
    inspection.search,
    inspection.get_stats,
    probe_sets.save_probe_set,
    probe_sets.list_probe_sets,
    probe_sets.get_probe_set,
    probe_sets.change_probe_set,
    probe_sets.delete_probe_set,
    probe_sets.run_probe_set,
    banks.create_bank,
    banks.list_banks,
    banks.get_bank,
    banks.delete_bank,
    keys.mint_key,
    keys.list_keys,
    keys.revoke_key,
    keys.rotate_key,
    keys.whoami,
    sessions.open_session,
    sessions.list_sessions,
    sessions.get_session,
    sessions.close_session,
    sessions.warm_session,
    versions.take_snapshot,
    versions.list_snapshots,
    versions.get_snapshot,
    versions.change_snapshot,
    versions.delete_snapshot,
    versions.diff_snapshots,
    versions.verify_snapshot,
    carriage.export_snapshot,
    carriage.get_export,
    carriage.import_bundle,
    branches.create_branch,
    branches.list_branches,
    branches.diff_branch,
    branches.promote_branch,
    branches.delete_branch,
    rollback.roll_back,
    rollback.bisect,
    forget.forget,
    forget.get_certificate,
    forget.list_certificates,
    quarantine.set_quarantine,
    quarantine.list_quarantines,
    quarantine.lift_quarantine,
    jobs.consolidate,
    jobs.list_jobs,
    jobs.get_job,
    jobs.cancel_job,
    hooks.create_webhook,
    hooks.list_webhooks,
    hooks.delete_webhook,
    hooks.list_deliveries,
    hooks.redeliver,
    stream.stream_changes,
    trail.list_audit,
    trail.verify_audit,
    compat_mem0.ping,
    compat_mem0.add,
    compat_mem0.list_memories,
    compat_mem0.list_by_filters,
    compat_mem0.search,
    compat_mem0.get_memory,
    compat_mem0.update,
    compat_mem0.delete_memory,
    compat_mem0.get_history,
    compat_mem0.feedback,
    health.live,
    health.ready,
    health.metrics,
    docs_page.openapi_json,
    docs_page.docs_page,
    pages.page,
    pages.part,
    sign_in.signed_in,
    sign_in.sign_in,
    sign_in.sign_out,
)


def build_app(deps: Deps) -> Edge:
    """The ASGI application over `deps`."""
    app = routes_only()
    keyring = Keyring(deps.database, deps.pepper, deps.now)
    limiter = Limiter(deps.coord, deps.settings, deps.metrics)
    ending = stream.Ending()
    upstreams = [Upstreams(deps.settings.upstreams, deps.settings.upstream_silence_s)] if deps.settings.upstreams else []
    backends = Backends([*upstreams, Hope(deps.engine, partial(chat.bank_names, deps.database))])
    app.state.update({"deps": deps, "keyring": keyring, "limiter": limiter, "ending": ending, "backends": backends})

    async def close() -> None:
        await keyring.close()
        await backends.close()

    methods = {route.path_format: ", ".join(sorted(route.methods)) for route in app.routes if isinstance(route, HTTPRoute)}
    return Edge(app, deps.metrics, deps.settings.max_in_flight, leave=limiter.leave, end=ending.end, close=close, methods=methods)


def routes_only() -> Litestar:
    """The framework's application without anything to answer from: what the OpenAPI document is derived from."""
    return Litestar(
        route_handlers=list(ROUTES),
        guards=[authorize, refuse_unknown],
        dependencies={"caller": Provide(provide_caller), "deps": Provide(_deps, sync_to_thread=False)},
        exception_handlers={Exception: answer},
        openapi_config=openapi.CONFIG,
        request_max_body_size=BODY_MAX,
        return_dto=None,  # else a handler's body DTO would be tried on its reply
        logging_config=None,
        debug=False,
        state=State(),
    )


def _deps(request: Request) -> Deps:  # type: ignore[type-arg]
    deps: Deps = request.app.state.deps
    return deps

"""A parameter that a call does not know is refused: a list asked for with `limt=5` would be another one, and nobody would notice."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import QueryParameter

from service.errors import Invalid


async def refuse_unknown(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of the service's own calls; those that imitate another service's let pass what that has besides.

    It awaits nothing, but the framework would run a plain function in a thread: two of them would wake each other for every request.

    Raises:
        Invalid: the query names what is no parameter of this call.
    """
    if not connection.scope["query_string"] or not connection.scope["path"].startswith("/v1/") or not isinstance(handler, HTTPRouteHandler):
        return
    known = _parameters(handler)
    unknown = [name for name in connection.query_params if name not in known]
    if unknown:
        takes = f"the call takes {', '.join(known)}" if known else "the call takes none"
        message = f"no parameter of this call; {takes}"
        raise Invalid(f"{unknown[0][:100]}: {message}", errors=[{"field": unknown[0][:100], "message": message}])


def _parameters(handler: HTTPRouteHandler) -> tuple[str, ...]:
    given = handler.parsed_fn_signature.parameters.items()
    return tuple(field.kwarg_definition.name or name for name, field in given if isinstance(field.kwarg_definition, QueryParameter))

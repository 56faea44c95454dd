"""Forgetting: effective in the request, exact after its job."""

from litestar import Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from service import wire
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.texts import check_note
from service.errors import Forbidden


@post(
    "/v1/forget",
    operation_id="forget",
    summary="Forget corrections",
    tags=["forget"],
    opt=needs("forget", "erase"),
    dto=Strict[wire.ForgetRequest],
    status_code=202,
)
async def forget(caller: NamedDependency[Caller], data: JSONBody[wire.ForgetRequest]) -> Response[wire.Forgotten]:
    """From the answer on nothing is answered with them. The mode `erase` needs the scope `erase`, the others `forget`."""
    scope = "erase" if data.mode == "erase" else "forget"
    if not caller.principal.allows(scope):
        raise Forbidden(f"mode {data.mode} needs a key with the scope {scope}; ask an admin for one")
    check_note("reason", data.reason)
    bank = await caller.bank(data.bank)
    wanted = list(dict.fromkeys(data.corrections))

    async def work(_: str | None) -> wire.Forgotten:
        return await caller.deps.engine.forget(caller.tenant, bank, wanted, mode=data.mode, reason=data.reason, actor=caller.actor)

    return await once(caller, work, status=202)

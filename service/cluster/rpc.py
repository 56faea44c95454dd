"""The engine port over frames: each method's arguments and result, derived from the port itself, so that there is one list of methods.

Arguments travel by name, and those that have their default do not travel. So an api and a worker of different versions understand each
other as long as neither uses what the other lacks; a worker that is sent more than it knows refuses, instead of doing something else.

Bodies are JSON, not msgpack: metadata that was taken as JSON may hold what msgpack cannot, such as integers of more than 64 bits.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec
from msgspec import NODEFAULT, Struct, structs

from service.cluster.engine import Engine
from service.cluster.link import Call
from service.errors import PalimpsestError

TENANT = "tenant"  # travels in the frame


class NotUnderstood(PalimpsestError):
    """Api and worker are of versions that do not understand each other; update the workers first, then the api."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the port, both ways."""

    name: str
    signature: inspect.Signature  # without self
    arguments: "msgspec.json.Decoder[Struct]"
    result: "msgspec.json.Decoder[Any]"

    @property
    def has_bank(self) -> bool:
        """Whether it is about one bank."""
        return "bank" in self.signature.parameters

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The tenant ('' for none) and the other arguments by name, of a call as one writes it in Python."""
        given = self.signature.bind(*args, **kwargs).arguments
        return given.pop(TENANT, ""), given

    def encode(self, arguments: Mapping[str, Any]) -> bytes:
        """The body of a call."""
        parameters = self.signature.parameters
        return _encoder.encode({name: value for name, value in arguments.items() if value != parameters[name].default})

    def decode(self, body: bytes) -> dict[str, Any]:
        """The arguments in the body of a call, by name.

        Raises:
            NotUnderstood: unknown, missing, or of another type.
        """
        try:
            return structs.asdict(self.arguments.decode(body))
        except (msgspec.DecodeError, ValueError, RecursionError):  # not its message: it may quote a memory
            raise NotUnderstood() from None

    def decode_result(self, body: bytes) -> Any:  # noqa: ANN401 (what the port's method returns)
        """The result in the body of a reply; raises as `decode`."""
        try:
            return self.result.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise NotUnderstood() from None


def serve_engine(engine: Engine) -> Callable[[Call], Awaitable[bytes]]:
    """A handler for `FrameServer` that makes calls on the engine."""

    async def handler(call: Call) -> bytes:
        method = METHODS.get(call.method)
        if method is None:
            raise NotUnderstood()
        arguments = method.decode(call.body)
        if TENANT in method.signature.parameters:
            arguments[TENANT] = call.tenant
        return _encoder.encode(await getattr(engine, method.name)(**arguments))

    return handler


def methods_of(port: type) -> dict[str, Method]:
    """The methods of a port by name."""
    return {name: _method(name, function) for name, function in vars(port).items() if inspect.iscoroutinefunction(function)}


def _method(name: str, function: Callable[..., Any]) -> Method:
    signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    fields = [(each.name, hints[each.name], _default(each)) for each in parameters if each.name != TENANT]
    arguments = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    result = msgspec.json.Decoder(hints["return"])
    return Method(name, signature.replace(parameters=parameters), msgspec.json.Decoder(arguments), result)


def _default(parameter: inspect.Parameter) -> Any:  # noqa: ANN401 (whatever it is)
    return NODEFAULT if parameter.default is parameter.empty else parameter.default


_encoder = msgspec.json.Encoder()
METHODS = methods_of(Engine)

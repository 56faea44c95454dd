"""Request bodies: decoded once, strictly, from the raw bytes into a wire Struct.

The framework's own decoding accepts `"3"` for an int and cannot be told not to, so a handler names its body with `dto=Strict[T]`: the
framework hands the bytes over and still describes T in the OpenAPI document. The content type is not looked at: a body is JSON or it is
refused.
"""

import json
import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from service.errors import Invalid

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator

T = TypeVar("T")

_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_NAMED = re.compile(r"(?:unknown|required) field `(?P<field>[^`]*)`")


class Strict(AbstractDTO[T], Generic[T]):
    """A JSON body of type T, decoded without any leniency."""

    def decode_bytes(self, value: bytes) -> T:
        """The body as T.

        Raises:
            Invalid: not JSON, not UTF-8, a field unknown, missing, twice, or of another type or size; `errors` names it.
        """
        return decode(value, self.model_type)

    @classmethod
    def create_for_field_definition(cls, field_definition: FieldDefinition, handler_id: str, backend_cls: object = None) -> None:
        """There is nothing to prepare: T is decoded as it is."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: "SchemaCreator"
    ) -> Reference | Schema:
        """T as it is."""
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """None: fields are not copied one by one."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Never asked."""
        return False


def decode(raw: bytes, kind: type[T]) -> T:
    """The JSON text `raw` as `kind`; see `Strict.decode_bytes`."""
    try:
        decoded = msgspec.json.decode(raw, type=kind)
        json.loads(raw.decode(), object_pairs_hook=_refuse_twice)
    except msgspec.ValidationError as error:
        raise refused(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Invalid("the body is not JSON in UTF-8", errors=[{"field": "", "message": "not JSON in UTF-8"}]) from None
    except RecursionError:
        raise Invalid("the body is nested too deep", errors=[{"field": "", "message": "nested too deep"}]) from None
    except ValueError as error:  # a number of thousands of digits
        raise Invalid("the body holds a number that is too long", errors=[{"field": "", "message": str(error)}]) from None
    return decoded


def refused(said: str) -> Invalid:
    """The error for a message of the decoder, with the field that it names."""
    place = _AT.search(said)
    path = place["path"] if place else ""
    message = _AT.sub("", said)
    named = _NAMED.search(message)
    field = ".".join(part for part in (path, named["field"] if named else "") if part)
    return Invalid(f"{field}: {message}" if field else message, errors=[{"field": field, "message": message}])


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    # decoders keep the first or the last of equal names: two readers of one body could understand two things
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        name = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"{name}: given twice", errors=[{"field": name, "message": "given twice"}])

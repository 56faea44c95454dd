"""Replies: encoded once, with the headers that follow from what they say."""

from typing import Any, TypeAlias

import msgspec
from litestar import Response

from service import wire

MEDIA_TYPE = "application/json"
Sent: TypeAlias = msgspec.Struct | dict[str, Any]  # a dict where the reply is another service's, and goes on as it came
_encoder = msgspec.json.Encoder()


class _Told(msgspec.Struct, frozen=True):
    """The parts of a reply that are repeated in headers."""

    state: wire.StateRef | None = None
    job_id: str | None = None


_told = msgspec.json.Decoder(_Told)


def encode(reply: Sent) -> bytes:
    """The reply as JSON."""
    return _encoder.encode(reply)


def send(reply: Sent | list[Any], status: int = 200, headers: dict[str, str] | None = None) -> Response[Any]:
    """The reply as a response; `Memory-State` and `Location` are set from its `state` and `job_id`."""
    told = _Told(state=getattr(reply, "state", None), job_id=getattr(reply, "job_id", None))
    return Response(_encoder.encode(reply), status_code=status, headers=_headers(told) | (headers or {}), media_type=MEDIA_TYPE)


def send_again(body: bytes, status: int) -> Response[Any]:
    """A stored reply, marked as one."""
    headers = _headers(_told.decode(body)) | {"Idempotent-Replayed": "true"}
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def _headers(told: _Told) -> dict[str, str]:
    headers = {}
    if told.state is not None:
        headers["Memory-State"] = f"{told.state.snapshot_id}:{told.state.seq}"
    if told.job_id is not None:
        headers["Location"] = f"/v1/jobs/{told.job_id}"
    return headers

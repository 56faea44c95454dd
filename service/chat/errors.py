"""What can go wrong with whoever completes a conversation. Only `/v1/chat/completions` answers with these, in the form of OpenAI's API.

    ChatError
    ├── UpstreamRefused 400     ├── UpstreamDown 503     ├── UpstreamSlow 504
    └── UpstreamFailed 502      └── UpstreamBusy 503

`status` and `code` are as in `service.errors`. No message holds an upstream's key or address.
"""

from typing import ClassVar


class ChatError(Exception):
    """The conversation was not completed. `param` and `said_code` are what an upstream told of it."""

    status: ClassVar[int]
    code: ClassVar[str]

    def __init__(self, detail: str, *, param: str | None = None, said_code: str | None = None, retry_after_s: int | None = None) -> None:
        self.detail, self.param, self.said_code, self.retry_after_s = detail, param, said_code, retry_after_s
        super().__init__(detail)


class UpstreamRefused(ChatError):
    """The upstream does not take this request; its reason is told. Change the request."""

    status = 400
    code = "upstream-refused"


class UpstreamFailed(ChatError):
    """The upstream answered with an error of its own, or with what is no completion. Try again later, or tell who runs this service."""

    status = 502
    code = "upstream-failed"


class UpstreamDown(ChatError):
    """Nobody answers at the upstream's address. Try again later."""

    status = 503
    code = "upstream-unavailable"


class UpstreamBusy(ChatError):
    """A limit of the upstream, or of calls to it, is reached. Try again after the given seconds."""

    status = 503
    code = "upstream-busy"


class UpstreamSlow(ChatError):
    """The upstream said nothing for too long. Ask for less, or try again."""

    status = 504
    code = "upstream-timeout"

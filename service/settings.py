"""Every setting of the service: one frozen Struct, read from environment variables with the prefix `PALIMPSEST_`.

The defaults are the embedded service of one process: SQLite, local files, Celery's memory broker. `docs/operations.md` lists them all
and a test keeps that list complete. `PALIMPSEST_DATA` is not here: it names the benchmarks' data sets and only `bench/` reads it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from service.wire.parts import Share

PREFIX = "PALIMPSEST_"
NOT_SETTINGS = frozenset({f"PALIMPSEST_{name}" for name in ("DATA", "URL", "KEY", "BANK", "PROFILE")})  # bench/'s and the client's
BOOTSTRAP_KEY_MIN = 32
REDIS = ("redis://", "rediss://", "unix://")
LISTEN = re.compile(r"unix:///.+|tcp://[^/]+:\d+")
DATABASES = ("sqlite+aiosqlite:///", "postgresql://", "postgresql+psycopg://")


class SettingsRefused(ValueError):
    """A setting is unknown or has a value that the service cannot run with; the message names the variable."""


class Upstream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service that completes conversations, reached in the way of OpenAI's API."""

    url: Annotated[str, Meta(max_length=2_048)]  # what its paths begin with: https://api.openai.com/v1
    models: Annotated[tuple[Annotated[str, Meta(pattern=r"^[!-~]{1,128}\Z")], ...], Meta(min_length=1, max_length=200)]
    key: Annotated[str, Meta(max_length=2_048, pattern=r"^[!-~]*\Z")] = ""  # sent as `Authorization: Bearer`


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one process of the service runs; the variable of a field is its name in capitals after `PALIMPSEST_`."""

    var_dir: Path = Path("var")  # everything the embedded service writes
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000  # 0 takes a free port
    database: str = ""  # default: sqlite+aiosqlite below var_dir
    blobs: str = ""  # default: file:// below var_dir
    bootstrap_key: str = ""  # admin key of a new, empty database
    key_pepper: str = ""  # HMAC key over API keys; default: a generated file below var_dir
    encoder: str = ""  # directory of the sentence encoder
    encoder_sha256: str = ""  # digest of another encoder's model.safetensors that the operator vouches for
    encoder_start: str = "none"  # what was meta-learned for the encoder: `none`, `shipped`, `auto` (as its banks), or a file
    encoder_start_sha256: str = ""  # digest of that file
    encoder_threads: Annotated[int, Meta(ge=1, le=64)] = 1
    model_threads: Annotated[int, Meta(ge=1, le=64)] = 1
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda:[0-9]+)\Z")] = "cpu"  # where banks are computed; a process serves one
    warm_bytes: Annotated[int, Meta(ge=0)] = 0  # for banks on the device, 13.1 MiB each; 0: 1 GiB on a CPU, 0.7 of a GPU's free memory
    host_bytes: Annotated[int, Meta(ge=0)] = (
        2**29
    )  # for banks that left the device: only what they have learned, 80 KB after twenty lessons
    tenant_share: Share = 0.5  # of both, what one tenant may have while others want it
    snapshot_every: Annotated[int, Meta(ge=8, le=1_000_000)] = 512  # events between automatic snapshots: bounds a cold start
    auto_snapshots: Annotated[int, Meta(ge=1, le=1_000)] = 4  # newest automatic snapshots kept
    sweep_s: Annotated[float, Meta(ge=0.05, le=3_600)] = 5.0  # seconds between looks at the job table
    claim_ttl_s: Annotated[float, Meta(ge=0.5, le=3_600)] = 30.0  # a job whose worker is silent for so long is taken over
    redis: str = ""  # coordination of several processes; default: this process is alone
    broker: str = ""  # Celery's broker; default: in memory, for a process that is alone
    listen: str = ""  # where a worker takes calls: unix:///path or tcp://host:port
    advertise: str = ""  # the address under which others reach it; default: listen
    tls_cert: str = ""  # with tls_key and tls_ca: mutual TLS between api and workers over tcp
    tls_key: str = ""
    tls_ca: str = ""
    heartbeat_s: Annotated[float, Meta(ge=0.2, le=60)] = 8.0  # a worker silent for so long is taken for dead
    drain_s: Annotated[float, Meta(ge=1, le=3_600)] = 30.0  # time a worker takes to hand over before it stops
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0  # where worker and jobs show metrics and health; 0: nowhere
    consolidate_tokens: Annotated[int, Meta(ge=1)] = 1_000_000  # taught since the last consolidation: the slow level's period
    consolidate_events: Annotated[int, Meta(ge=1)] = 2_560  # the window holds 2,048 pairs: what leaves it is blurred
    consolidate_early: Annotated[int, Meta(ge=1)] = 128  # or so many, if they are a quarter of all that the bank was taught
    consolidate_age_s: Annotated[float, Meta(ge=1)] = 86_400.0  # age of the oldest lesson that was not consolidated
    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0  # requests a second of one tenant; 0: no limit
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 200  # requests at once that a tenant may make above its rate
    max_in_flight: Annotated[int, Meta(ge=1, le=10_000)] = 256  # requests at once before the service answers 503
    tenant_in_flight: Annotated[int, Meta(ge=1, le=10_000)] = 256  # of these, requests of one tenant before it is answered 429
    webhook_private: bool = False  # whether webhooks may lead to addresses of this network, and over plain http
    webhook_retry_s: Annotated[float, Meta(ge=0.01, le=3_600)] = (
        10.0  # wait after a delivery's first failure; each next is six times as long
    )
    session_ttl_s: Annotated[float, Meta(ge=1, le=31_536_000)] = 86_400.0  # a session that is unused for so long is gone
    upstreams: tuple[Upstream, ...] = ()  # whom /v1/chat/completions may ask; in the environment a JSON list
    upstream_silence_s: Annotated[float, Meta(ge=0.05, le=3_600)] = 120.0  # an upstream that says nothing for so long is given up
    lm: str = ""  # folder of the language model that `hope:<bank>` speaks with; default: the small one that is shipped
    note_tokens: Annotated[int, Meta(ge=0, le=100_000)] = 512  # of what is remembered, in a conversation's system message
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def database_url(self) -> str:
        """The database, with the embedded default filled in."""
        return self.database or f"sqlite+aiosqlite:///{self.var_dir / 'palimpsest.db'}"

    @property
    def blobs_url(self) -> str:
        """The blob store, with the embedded default filled in."""
        return self.blobs or (self.var_dir / "objects").resolve().as_uri()


def _path(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(kind)  # how msgspec is told that a type is not ours to convert


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Settings from the environment.

    Raises:
        SettingsRefused: an unknown `PALIMPSEST_` variable, a value of the wrong form, a bootstrap key that is too short.
    """
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in NOT_SETTINGS}
    known = {PREFIX + field.upper(): field for field in Settings.__struct_fields__}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SettingsRefused(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(sorted(known))}")
    values: dict[str, Any] = {known[name]: value for name, value in given.items() if value}
    if "upstreams" in values:
        values["upstreams"] = _list_in("PALIMPSEST_UPSTREAMS", values["upstreams"])
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        said = re.sub(r"`\$\.(\w+)([^`]*)`", lambda match: PREFIX + match[1].upper() + match[2], str(error))
        raise SettingsRefused(f"a setting has a value that cannot be used: {said}") from None
    if settings.bootstrap_key and len(settings.bootstrap_key) < BOOTSTRAP_KEY_MIN:
        raise SettingsRefused(f"PALIMPSEST_BOOTSTRAP_KEY needs at least {BOOTSTRAP_KEY_MIN} characters")
    if settings.database and not settings.database.startswith(DATABASES):
        raise SettingsRefused(f"PALIMPSEST_DATABASE must begin with one of {', '.join(DATABASES)}")
    _check_cluster(settings)
    _check_upstreams(settings.upstreams)
    if settings.blobs and not settings.blobs.startswith(("file:///", "s3://")):
        raise SettingsRefused("PALIMPSEST_BLOBS must be a file:///folder or s3://bucket/prefix URL")
    return settings


def _check_cluster(settings: Settings) -> None:
    for name in ("redis", "broker"):
        value = getattr(settings, name)
        if value and not value.startswith(REDIS):
            raise SettingsRefused(f"PALIMPSEST_{name.upper()} must begin with one of {', '.join(REDIS)}")
    for name in ("listen", "advertise"):
        value = getattr(settings, name)
        if value and not LISTEN.fullmatch(value):
            raise SettingsRefused(f"PALIMPSEST_{name.upper()} must be unix:///path or tcp://host:port")
    if re.match(r"tcp://(0\.0\.0\.0|\[::\]):", settings.listen) and not settings.advertise:
        raise SettingsRefused("PALIMPSEST_LISTEN takes calls on every address; PALIMPSEST_ADVERTISE has to say by which one others come")
    tls = [bool(value) for value in (settings.tls_cert, settings.tls_key, settings.tls_ca)]
    if any(tls) and not all(tls):
        raise SettingsRefused("PALIMPSEST_TLS_CERT, PALIMPSEST_TLS_KEY and PALIMPSEST_TLS_CA are given together or not at all")


def _list_in(name: str, value: str) -> object:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        raise SettingsRefused(f'{name} must be a JSON list: [{{"url": "https://…/v1", "key": "…", "models": ["…"]}}]') from None


def _check_upstreams(upstreams: tuple[Upstream, ...]) -> None:
    models = [model for upstream in upstreams for model in upstream.models]
    twice = sorted({model for model in models if models.count(model) > 1})
    if twice:
        raise SettingsRefused(f"PALIMPSEST_UPSTREAMS names {', '.join(twice)} twice; nobody could tell whom a request means")
    for place, upstream in enumerate(upstreams):
        try:
            parts = urlsplit(upstream.url)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole or "@" in parts.netloc or parts.query or parts.fragment:
            raise SettingsRefused(f"PALIMPSEST_UPSTREAMS[{place}].url must be of the form https://host/v1, without user and query")

"""What the processes of the service are made of: the encoder, the engine, the first tenant and its key.

As in every composition root, imports that load torch are inside functions: the api never needs them.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from service import keys
from service.cluster.engine import Actor, Engine
from service.errors import Conflict
from service.ids import new_id
from service.settings import Settings, SettingsRefused
from service.store import audit, tenants
from service.store.blobs import open_blobs
from service.store.db import Database
from service.store.schema import current_revision, newest_revision, unsafe_settings
from service.store.watched_blobs import WatchedBlobs
from service.telemetry import Metrics

if TYPE_CHECKING:
    from model import Recall, RecallConfig
    from model.encoder import Encoder
    from model.wording import Words
    from workers.engine import LocalEngine
    from workers.housing import Room
    from workers.language import LanguageModel

AUTO = "auto"  # the start of the encoder is whichever the banks have (`service.processes.encoders`)
DEFAULT = "default"  # the first tenant and its first bank
log = structlog.get_logger()
SYSTEM = Actor(key_id="system", request_id="start")


def settle() -> None:
    """The process has started: what it has in memory now it keeps, and the garbage collector need not look through it again.

    That is a quarter of a million objects of libraries, and every full look at them would stop all requests for 50 ms and more.
    """
    gc.collect()
    gc.freeze()


def utc_now() -> datetime:
    """The service's clock."""
    return datetime.now(UTC)


def load_encoder(settings: Settings) -> "Encoder":
    """The sentence encoder that the settings name, with its start. Reads and checks 90 MB: not on the event loop."""
    from model.encoder import PINNED, Encoder, find_weights
    from model.start.weights import read_start

    directory, named = find_weights(settings.encoder or None), _start_of(settings)
    return Encoder.load(
        directory,
        expected_sha256=settings.encoder_sha256 or PINNED,
        start=read_start(*named) if named else None,
        threads=settings.encoder_threads,
    )


def load_words(settings: Settings) -> "Words":
    """The encoder's reading of texts as words, for a process that compares texts and encodes none. Not on the event loop."""
    from model.encoder import find_weights, tokenizer_in
    from model.wording import Words

    return Words(tokenizer_in(find_weights(settings.encoder or None)))


def language_model(settings: Settings) -> "LanguageModel":
    """The language model that the settings name, opened when it is first needed.

    Raises:
        SettingsRefused: there is no such folder.
    """
    import torch

    from workers.language import LanguageModel

    if settings.lm and not (Path(settings.lm) / "config.json").is_file():
        raise SettingsRefused(f"PALIMPSEST_LM is {settings.lm}, and there is no config.json: give the folder of a language model")
    return LanguageModel(Path(settings.lm) if settings.lm else None, lambda: torch.set_num_threads(settings.model_threads))


def encoder_digest(settings: Settings) -> str:
    """The digest of the encoder that the settings name, for a process that folds keys and encodes nothing."""
    from model.encoder_weights import PINNED
    from model.start.weights import digest_with

    named = _start_of(settings)
    return digest_with(_lower(settings.encoder_sha256) or PINNED, named[1] if named else "")


def _start_of(settings: Settings) -> tuple[Path, str] | None:
    """The file of the encoder's start that the settings name, and its digest; None for an encoder as it is.

    Raises:
        SettingsRefused: a file is named without its digest, or a digest without a file, or the settings leave it to the banks.
    """
    from model.start.shipped import STARTS

    if settings.encoder_start_sha256 and settings.encoder_start in ("none", AUTO, *STARTS):
        raise SettingsRefused(
            "PALIMPSEST_ENCODER_START_SHA256 is the digest of a file, and PALIMPSEST_ENCODER_START names none: leave it out"
        )
    if settings.encoder_start == AUTO:
        raise SettingsRefused("PALIMPSEST_ENCODER_START=auto asks a database for its banks, and there is none here: set none or shipped")
    if settings.encoder_start == "none":
        return None
    if settings.encoder_start in STARTS:
        return STARTS[settings.encoder_start]
    if not settings.encoder_start_sha256:
        raise SettingsRefused(
            f"PALIMPSEST_ENCODER_START is the file {settings.encoder_start}: "
            f"set PALIMPSEST_ENCODER_START_SHA256 to the digest that it must have, or take one of {', '.join(('none', AUTO, *STARTS))}"
        )
    return Path(settings.encoder_start), _lower(settings.encoder_start_sha256)


def _lower(digest: str) -> str:
    return digest.strip().lower()


def memory(settings: Settings, config: "RecallConfig") -> "Recall":
    """The memory on the device that the settings name.

    Raises:
        SettingsRefused: there is no such device.
    """
    import torch

    from model import Recall

    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsRefused(f"PALIMPSEST_DEVICE is {settings.device}, and PyTorch finds {torch.cuda.device_count()} GPUs here")
    return Recall(config, device)


def room(settings: Settings, recall: "Recall") -> "Room":
    """The room that the settings give to warm banks.

    Raises:
        SettingsRefused: it is too little for one.
    """
    from workers.housing import Room
    from workers.slotting import bytes_on_device, room_on

    device_bytes, least = settings.warm_bytes or room_on(recall.device), bytes_on_device(recall)
    if device_bytes < least:
        raise SettingsRefused(f"PALIMPSEST_WARM_BYTES is {device_bytes}: a bank takes {least}")
    return Room(device_bytes, settings.host_bytes, settings.tenant_share)


@contextlib.asynccontextmanager
async def local_engine(
    settings: Settings,
    database: Database,
    metrics: Metrics,
    *,
    ring: Callable[[str, str], None],
    encoder: "Encoder | None" = None,
    config: "RecallConfig | None" = None,
) -> AsyncIterator["LocalEngine"]:
    """The engine of a process that runs the model, closed at the end.

    Raises:
        EncoderRefused, SettingsRefused: what the settings name cannot be used.
    """
    import torch

    from model import RecallConfig
    from model.tiers import Tier
    from service.processes.encoders import settled, tell_of_other_encoders
    from workers.encoding import Encoding
    from workers.engine import LocalEngine, Policy

    looked_through = encoder is None and settings.encoder_start == AUTO  # by `settled`, which goes on only if all banks are of one encoder
    if encoder is None:
        encoder = await asyncio.to_thread(load_encoder, await settled(settings, database))
    recall = await asyncio.to_thread(memory, settings, config or RecallConfig(encoder_digest=encoder.digest))
    engine = LocalEngine(
        database,
        WatchedBlobs(open_blobs(settings.blobs_url), metrics.stage),
        recall,
        Encoding(encoder, metrics.stage, metrics.queue_wait),
        language_model(settings),
        policy=Policy(room(settings, recall), settings.snapshot_every, settings.auto_snapshots, shared=database.dialect != "sqlite"),
        stage=metrics.stage,
        waited=metrics.queue_wait,
        refused=metrics.snapshot_refused,
        hit=metrics.warm_hit,
        ring=ring,
        now=utc_now,
        start_thread=lambda: torch.set_num_threads(settings.model_threads),
    )
    metrics.watch_warm_banks(lambda: len(engine.banks))
    for tier in Tier:
        metrics.watch_warm_bytes(tier, partial(engine.banks.housing.bytes, tier))
    # one question a tenant: no start waits for it
    telling = [] if looked_through else [asyncio.ensure_future(tell_of_other_encoders(database, encoder.digest))]
    try:
        yield engine
    finally:
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await engine.close()


async def first_key(database: Database, settings: Settings) -> tuple[str, str | None]:
    """The default tenant, made if need be, and its first admin key if it was minted just now (a given bootstrap key is not told)."""
    tenant = await tenants.ensure_tenant(database, DEFAULT, utc_now())
    async with database.read(tenant) as conn:
        if await tenants.any_key(conn, tenant):
            return tenant, None
    minted = settings.bootstrap_key or keys.mint().key
    await keep_key(database, settings, tenant, minted, name="first admin key", scopes=("admin",), expires_at=None)
    return tenant, None if settings.bootstrap_key else minted


async def keep_key(
    database: Database, settings: Settings, tenant: str, secret: str, *, name: str, scopes: tuple[str, ...], expires_at: datetime | None
) -> None:
    """Make a secret a key of the whole tenant."""
    async with database.write(tenant) as conn:
        await tenants.add_key(
            conn,
            tenant,
            id=new_id("key"),
            name=name,
            prefix=keys.visible_prefix(secret),
            lookup_hash=keys.lookup_hash(keys.load_pepper(settings), secret),
            scopes=scopes,
            banks=None,
            expires_at=expires_at,
            now=utc_now(),
        )


async def first_bank(database: Database, engine: Engine, tenant: str) -> None:
    """The default bank, made once: one that was deleted since does not come back."""
    async with database.read(tenant) as conn:
        if await audit.happened(conn, tenant, "bank.create"):
            return
    with contextlib.suppress(Conflict):  # another process was quicker
        await engine.create_bank(tenant, DEFAULT, actor=SYSTEM)


def refuse_alone(settings: Settings, *names: str) -> None:
    """Refuse to be a process of a cluster without what the cluster shares.

    Raises:
        SettingsRefused: one of these settings is not given.
    """
    missing = [f"PALIMPSEST_{name.upper()}" for name in names if not getattr(settings, name)]
    if missing:
        raise SettingsRefused(f"this process is one of several and needs {', '.join(missing)}; for one process use: palimpsest serve")


async def check_schema(settings: Settings) -> None:
    """Refuse a database of another version; only `palimpsest migrate` changes it.

    Raises:
        SettingsRefused: its schema is not this version's.
    """
    found = await asyncio.to_thread(current_revision, settings.database_url)
    wanted = newest_revision()
    if found != wanted:
        raise SettingsRefused(f"the database has schema {found or 'none'}, this version needs {wanted}; run: palimpsest migrate")
    await tell_of_unsafe_settings(settings)


async def tell_of_unsafe_settings(settings: Settings) -> None:
    """Say once, at the start, that corrections which were acknowledged may be lost with the database's machine."""
    unsafe = await asyncio.to_thread(unsafe_settings, settings.database_url)
    if unsafe:
        why = f"{' and '.join(unsafe)}: what was acknowledged can be lost in a crash of the database; set it to on for this login"
        log.warning("commits do not wait for the disk", action="start", why=why)

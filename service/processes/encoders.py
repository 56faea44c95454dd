"""Which encoder a process has: that of its settings, or, where they say `auto`, that which the banks of the database were taught with.

A bank is read only by the encoder that taught it. So who sets `auto` gets the newest start in a new database, keeps the plain encoder or a
former start (`model.start.shipped`) in one of before, and is told where a database has banks of several: no process could answer for all of
them. Every process of a cluster asks the same database the same question, and none needs to hear of the others.
"""

from collections import Counter
from collections.abc import Mapping

import structlog
from msgspec import structs

from service.errors import PalimpsestError
from service.processes.parts import AUTO, encoder_digest
from service.settings import Settings, SettingsRefused
from service.store import banks, tenants
from service.store.db import Database

log = structlog.get_logger()


async def settled(settings: Settings, database: Database) -> Settings:
    """The settings, where they say `auto` with the start that the database's banks have. Asks one question a tenant.

    Raises:
        SettingsRefused: banks of several encoders, or of one that the settings do not know; it says how many of each, and what to set.
        PalimpsestError: the database cannot be asked.
    """
    if settings.encoder_start != AUTO:
        return settings
    found = await taught_with(database)
    choices = {encoder_digest(one): one for one in _choices(settings)}
    if not found:
        chosen, why = for_new_banks(settings), "there is no bank yet"
    elif len(found) == 1 and (digest := next(iter(found))) in choices:
        chosen, why = choices[digest], f"all banks were taught with it: {found[digest]}"
    else:
        raise SettingsRefused(_mixed(found, {digest: one.encoder_start for digest, one in choices.items()}))
    log.info("encoder chosen", action="start", encoder_start=chosen.encoder_start, why=why)
    return chosen


def for_new_banks(settings: Settings) -> Settings:
    """The settings, where they say `auto` as they are for a database that has no bank yet: with the newest start that their encoder has."""
    return _choices(settings)[-1] if settings.encoder_start == AUTO else settings


def _choices(settings: Settings) -> list[Settings]:
    """What `auto` chooses from, the newest last: the encoder as it is, and with every start that was ever shipped for it."""
    from model.encoder_weights import PINNED
    from model.start.shipped import STARTS

    plain = structs.replace(settings, encoder_start="none")
    if encoder_digest(plain) != PINNED:  # what is shipped is for no other encoder
        return [plain]
    return [plain, *(structs.replace(settings, encoder_start=name) for name in reversed(STARTS))]


async def taught_with(database: Database) -> Counter[str]:
    """How many banks of all tenants there are of each encoder, by its digest. Raises PalimpsestError: the database cannot be asked."""
    found: Counter[str] = Counter()
    async with database.sweep() as conn:
        ids = await tenants.all_ids(conn)
    for tenant in ids:
        async with database.read(tenant) as conn:
            found.update(await banks.by_encoder(conn, tenant))
    return found


async def tell_of_other_encoders(database: Database, digest: str) -> None:
    """Say once, at the start, how many banks this encoder cannot serve: an upgrade may have brought another one."""
    from model.start.weights import told_apart

    try:
        found = await taught_with(database)
    except PalimpsestError as error:  # each of them is refused when it is asked, all the same
        log.warning("banks not looked through", action="start", why=error.code)
        return
    for theirs, number in found.items():
        if theirs != digest:
            log.warning("banks of another encoder", action="start", banks=number, why=f"they were taught with {told_apart(theirs, digest)}")


def _mixed(found: Counter[str], choices: Mapping[str, str]) -> str:
    """`choices`: of each encoder that these settings may have, by its digest, the start that makes them have it."""
    from model.encoder_weights import PINNED
    from model.start.weights import way_to

    def way(digest: str) -> str:
        if digest in choices:
            return f"PALIMPSEST_ENCODER_START={choices[digest]} is that encoder"
        return way_to(digest, packaged=PINNED in choices)

    banks_of = "; ".join(f"{number} of {digest[:12]} ({way(digest)})" for digest, number in sorted(found.items()))
    return (
        "PALIMPSEST_ENCODER_START=auto takes the encoder that all banks were taught with, and no encoder it knows is that here: "
        f"{banks_of}. Set it to that of the banks which are to be answered for, the same in every process, and see in docs/operations.md, "
        '"Rebuild on a new base", how the others are taught again'
    )

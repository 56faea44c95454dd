"""`python -m bench load`: requests at a rate, on many banks of unequal popularity; how fast they are answered, and whether right."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bench.load.plan import Plan
    from bench.load.target import Target

POSITIVE = click.FloatRange(0, min_open=True)


class Shape(click.ParamType["tuple[int, int]"]):
    """APIS,WORKERS."""

    name = "apis,workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:  # noqa: ANN401
        """Two whole numbers from 1 on."""
        if isinstance(value, tuple):
            return value
        try:
            apis, workers = (int(part) for part in str(value).split(","))
        except ValueError:
            apis = workers = 0
        if min(apis, workers) < 1:
            self.fail(f"{value!r} is not of the form 2,2", param, ctx)
        return apis, workers


@click.command("load")
@click.option("--rate", type=POSITIVE, help="Requests a second.")
@click.option("--find-knee", is_flag=True, help="Step the rate up by 1.25 until the service does not keep up.")
@click.option("--soak", type=POSITIVE, metavar="MINUTES", help="Watch the service's memory at --rate, or at a --share of the knee.")
@click.option("--many", type=click.IntRange(2), metavar="BANKS", help="More banks than the service has room for (--warm, --host-mib).")
@click.option("--seconds", default=20.0, show_default=True, type=POSITIVE, help="Length of a step; a soak has its minutes.")
@click.option("--start", default=10.0, show_default=True, type=POSITIVE, help="First rate on the way to the knee.")
@click.option("--bound", "bound_ms", default=200.0, show_default=True, type=POSITIVE, help="Milliseconds that p99 may take at the knee.")
@click.option("--share", default=0.7, show_default=True, type=POSITIVE, help="Part of the knee at which a soak runs.")
@click.option("--warm", default=64, show_default=True, type=click.IntRange(1), help="Banks that each process has slots for, with --many.")
@click.option(
    "--host-mib", default=32, show_default=True, type=click.IntRange(0), help="Room of each for banks without a slot, with --many."
)
@click.option("--banks", default=50, show_default=True, type=click.IntRange(1), help="Number of banks, unless --many.")
@click.option("--lessons", default=20, show_default=True, type=click.IntRange(1, 400), help="Taught to each bank before.")
@click.option("--zipf", default=1.1, show_default=True, type=click.FloatRange(0), help="Exponent of the banks' popularity; 0: all alike.")
@click.option("--teach-share", default=0.1, show_default=True, type=click.FloatRange(0, 1), help="Lessons among the requests.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--senders", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that share the rate.")
@click.option("--url", "urls", multiple=True, help="A service that runs; several addresses are used in turn. Default: one of its own.")
@click.option("--key", envvar="PALIMPSEST_KEY", help="Key for --url; it must be an admin's. The banks are deleted afterwards.")
@click.option("--database", default="", help="PostgreSQL of the service at --url: a soak looks at its open transactions.")
@click.option("--cluster", "shape", type=Shape(), help="A cluster of its own on this machine, as 2,2.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write every figure to this file.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Latency over rate or time. Default: beside the --json.")
def load(json_path: Path | None, png: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Requests that come when they come: an open loop of recalls and lessons, whose latency counts from when they were due.

    Exit 1 if a request failed (a 503 or 429 with Retry-After is a refusal, not a failure), if an answer came from another bank, or if a
    lesson that was acknowledged is not in the ledger afterwards. Say one of --rate, --find-knee, --soak, --many.
    """
    from bench.cluster.servers import NotStarted
    from bench.load.around import NotPrepared
    from bench.load.plan import carry_out
    from bench.load.report import as_json, render
    from bench.load.senders import SenderGone
    from bench.running import NotServing
    from bench.table import write_json

    plan, target = planned(**options), targeted(**options)
    begin = time.perf_counter()
    try:
        found = asyncio.run(carry_out(plan, target))
    except (NotPrepared, NotServing, NotStarted, SenderGone) as error:
        raise click.ClickException(str(error)) from None
    click.echo(render(found))
    if json_path is not None:
        write_json(json_path, as_json(found, time.perf_counter() - begin))
    if png or json_path:
        from bench.load.pictures import draw

        draw(found, png or Path(str(json_path)).with_suffix(".png"))
    if found.wrongs():
        raise SystemExit(1)


def planned(
    *,
    rate: float | None,
    find_knee: bool,
    soak: float | None,
    many: int | None,
    warm: int,
    shape: tuple[int, int] | None,
    banks: int,
    lessons: int,
    zipf: float,
    teach_share: float,
    seed: int,
    senders: int,
    seconds: float,
    start: float,
    bound_ms: float,
    share: float,
    **_: object,
) -> "Plan":
    """The plan that the options say.

    Raises:
        click.UsageError: they do not say one mode.
    """
    from bench.load.plan import Plan
    from bench.load.texts import Work

    modes = {"knee": find_knee, "soak": soak is not None, "many": many is not None}
    chosen = [name for name, given in modes.items() if given] or (["rate"] if rate else [])
    if len(chosen) != 1 or (chosen == ["knee"] and rate):
        raise click.UsageError("say one of --rate, --find-knee, --soak and --many; --soak and --many may have a --rate")
    mode = chosen[0]
    work = Work(f"load-{token_hex(4)}", many or banks, lessons, zipf, teach_share, seed)
    keeps = warm * (shape[1] if shape else 1)
    used = rate or (start if mode == "many" else 0.0)
    return Plan(mode, work, senders, used, seconds, start, bound_ms, 60 * (soak or 0.0), share, keeps)  # type: ignore[arg-type]


def targeted(
    *,
    urls: tuple[str, ...],
    key: str | None,
    database: str,
    shape: tuple[int, int] | None,
    many: int | None,
    warm: int,
    host_mib: int,
    **_: object,
) -> "AbstractAsyncContextManager[Target]":
    """The service that the options say; nothing is started yet.

    Raises:
        click.UsageError: they name two, or one without its key.
    """
    from bench.load.target import clustered, running, started

    settings = room_for(warm, host_mib) if many else {}
    if urls and shape:
        raise click.UsageError("--url and --cluster are two services")
    if urls:
        if not key:
            raise click.UsageError("--url needs --key or PALIMPSEST_KEY")
        return running(urls, key, database)
    return clustered(*shape, settings) if shape else started(settings)


def room_for(warm: int, host_mib: int) -> dict[str, str]:
    """The settings of a process that has slots for so many banks, on a CPU."""
    from model import RecallConfig
    from model.slots import bytes_of_slot

    return {"WARM_BYTES": str(warm * sum(bytes_of_slot(RecallConfig(encoder_digest="")))), "HOST_BYTES": str(host_mib * 2**20)}

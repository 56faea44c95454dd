"""`palimpsest mcp`: the memory as tools of the Model Context Protocol."""

import asyncio
import re

import click

from palimpsest.cli.reaching import Place, placed
from palimpsest.client import AsyncClient


@click.command("mcp")
@click.option("--admin", is_flag=True, help="The tools of who looks after the memory, instead of the agent's.")
@click.option("--listen", metavar="HOST:PORT", help="Serve over HTTP at /mcp/BANK and /mcp/BANK/admin; each request brings its own key.")
@placed
def mcp_command(place: Place, admin: bool, listen: str | None) -> None:
    """Serve the memory as tools of the Model Context Protocol, on standard input and output.

    A desktop client starts it so: command `palimpsest`, arguments `mcp --profile NAME`. Needs `pip install palimpsest[mcp]`.
    """
    try:
        from palimpsest.mcp import serving
    except ModuleNotFoundError as missing:
        raise click.ClickException(f"{missing.name} is not installed; run: pip install 'palimpsest[mcp]'") from None
    if listen is None:
        asyncio.run(serving.serve_stdio(place.client(AsyncClient), admin=admin))
        return
    import uvicorn

    match = re.fullmatch(r"(.+):(\d{1,5})", listen)
    if match is None:
        raise click.UsageError("--listen takes HOST:PORT, for example 127.0.0.1:8100")
    host = match[1].strip("[]")
    uvicorn.run(serving.http_app(place.url, host), host=host, port=int(match[2]), log_level="warning", server_header=False)

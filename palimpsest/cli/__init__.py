"""The command `palimpsest`: ask and look after a memory, or run the service itself.

Commands are loaded when they are called. Those of a client need the client alone; those that run the service are the service's own, and
this is the one place that knows where they are.
"""

import importlib

import click

ASKING = {
    "teach": "memory",
    "ask": "memory",
    "probe": "memory",
    "corrections": "memory",
    "snapshots": "versions",
    "diff": "versions",
    "rollback": "versions",
    "forget": "versions",
    "jobs": "jobs",
    "import": "moving",
    "export": "moving",
    "profile": "profile",
    "mcp": "mcp",
}
"""The commands of a client, in the order of a reader, and the modules of this package that they are in."""


class _Commands(click.Group):
    """Both kinds of commands under one name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The client's first."""
        return [*ASKING, *(name for name in _service().commands if name not in ASKING)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, loaded now."""
        if cmd_name not in ASKING:
            return _service().get_command(ctx, cmd_name)
        own: click.Command = getattr(importlib.import_module(f"palimpsest.cli.{ASKING[cmd_name]}"), f"{cmd_name}_command")
        return _joined(own, _service().commands[cmd_name]) if cmd_name == "jobs" else own

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """In two lists."""
        names = self.list_commands(ctx)
        for title, listed in (
            ("Ask and look after a memory", [name for name in names if name in ASKING]),
            ("Run the service", [name for name in names if name not in ASKING]),
        ):
            rows = [(name, command.get_short_help_str(90)) for name in listed if (command := self.get_command(ctx, name)) is not None]
            with formatter.section(title):
                formatter.write_dl(rows)


def _joined(own: click.Command, service: click.Command) -> click.Command:
    """`palimpsest jobs` runs the jobs of a cluster, as it always did; with a further word it asks a service about its jobs."""
    assert isinstance(own, click.Group)

    def run(**options: object) -> None:
        if click.get_current_context().invoked_subcommand is None and service.callback is not None:
            service.callback(**options)

    return click.Group(
        own.name, own.commands, callback=run, params=service.params, help=f"{service.help} {own.help}", invoke_without_command=True
    )


def _service() -> click.Group:
    from service.cli import main as service

    return service


@click.command(cls=_Commands)
@click.version_option(package_name="palimpsest")
def main() -> None:
    """Ask and look after a memory that learns from corrections, or run the service that keeps it."""

"""The command `python -m bench`: one subcommand a scoreboard, each loaded only when it is called."""

import importlib
import os

import click

from bench.ending import end_in_order_on_sigterm

COMMANDS = {
    "corrections": "bench.corrections:corrections",
    **{
        name: f"bench.scoreboard.{name}:command"
        for name in ("incremental", "facts", "supersession", "abstention", "capacity", "cost", "ablation", "calibration", "results")
    },
    "lm": "bench.lm:lm",
    "latency": "bench.latency:latency",
    "crash": "bench.crash:crash",
    "cluster": "bench.cluster.command:command",
    "cluster-failover": "bench.cluster.failover:command",
    "cluster-crash": "bench.cluster.crash:command",
    "cluster-contention": "bench.cluster.contention:command",
    "cluster-scaling": "bench.cluster.scaling:command",
    "demo": "bench.demo:demo",
    "first-minutes": "bench.first_minutes:command",
    "inspect": "bench.inspecting:command",
    "load": "bench.load.command:load",
    "synthetic": "bench.synthetic.command:synthetic",
}


class Scoreboards(click.Group):
    """A group that imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand, or none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name]} is not a command")
        return command


@click.command(cls=Scoreboards)
def main() -> None:
    """Scoreboards of Palimpsest: what it learns, what it costs, what it survives."""


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy loads: its threads would fight with those of the service
    end_in_order_on_sigterm()
    main(prog_name="python -m bench")

"""The group of commands. Its help is written from this table, so that it comes without importing any of them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module

import click


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: the function ``command`` of a module, and its line in the group's help."""

    module: str
    summary: str


COMMANDS = {
    "run": Entry("daemon.cli.run", "Inspect frames until SIGTERM: the service."),
    "check": Entry("daemon.cli.check", "Check configuration, engines, device, broker and topics."),
    "build-engines": Entry("daemon.cli.build_engines", "Build the engines of a cascade."),
    "replay": Entry("daemon.cli.replay", "Put images or recordings on the camera topic."),
    "record": Entry("daemon.cli.record", "Write the camera topic to a recording."),
    "redrive": Entry("daemon.cli.redrive", "Put dead letters back on the camera topic."),
    "watch": Entry("daemon.cli.watch", "Show defect events as they come."),
    "inspect": Entry("daemon.cli.inspect", "Inspect image files, without a broker."),
    "bench": Entry("daemon.cli.bench", "Measure the cascade alone and end to end."),
    "verify-gpu": Entry("daemon.cli.verify_gpu", "Check on this machine that the GPU path works."),
    "schema": Entry("daemon.cli.schema", "Print the schema of events, or of the topics."),
    "broker": Entry("daemon.cli.broker", "Run the embedded broker, for development."),
    "demo": Entry("daemon.cli.demo", "Show all of it on a shipped recording."),
}


class CommandGroup(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        """The commands in the order of the table, which is the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - click's form
        """The command of this name."""
        entry = COMMANDS.get(name)
        if entry is None:
            return None
        command: click.Command = import_module(entry.module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names, and the arguments left for it."""
        name = args[0]
        # What looks like an option is click's to complain of; a shell that completes wants no complaint.
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"No such command {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

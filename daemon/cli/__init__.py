"""The command line: ``millwatch COMMAND``. One module per command, imported when it is used."""

from daemon.cli.entry import main

__all__ = ["main"]

"""What every command takes: ``--config``, ``--set`` and ``--debug``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(slots=True)
class Invocation:
    """One call of the command line; :func:`daemon.cli.entry.main` reads ``debug`` when something went wrong."""

    debug: bool = False


def _debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    invocation = context.ensure_object(Invocation)
    invocation.debug = invocation.debug or value


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_debug, help="Show tracebacks of errors."
)


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options; it is called with the settings as its first argument, logs configured."""

    @click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file [./config.yaml]."
    )
    @click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one key, as in --set batch.max_frames=8."
    )
    @debug_option
    @functools.wraps(function)
    def command(config: Path | None, overrides: tuple[str, ...], **arguments: Any) -> None:
        # Imported here, so that help comes at once.
        from daemon.logs import configure_logs
        from daemon.settings import load_settings

        settings = load_settings(config, overrides)
        configure_logs(settings.log)
        function(settings, **arguments)

    return command

"""The entry point: it runs a command and turns what went wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

import daemon
from daemon.cli.group import CommandGroup
from daemon.cli.options import Invocation, debug_option
from engines.errors import MillwatchError, UsageError

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as shells count it."""


def _show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"millwatch {version('millwatch')}")
        except PackageNotFoundError:
            click.echo("millwatch, not installed: run from its source")
        context.exit()


@click.group(cls=CommandGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
@debug_option
@click.pass_context
def cli(context: click.Context) -> None:
    """Inspect flat steel on a running line: camera frames in from Kafka, defect events out.

    Example: millwatch run --config config.yaml --set kafka.bootstrap=broker:9092
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``millwatch`` with these arguments (the process's own by default) and end with its exit code."""
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    invocation = Invocation()
    try:
        refuse_foreign_package(Path(daemon.__file__).parent)
        code = cli.main(args=arguments, prog_name="millwatch", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        # What a command gave to context.exit; None where it just returned.
        return code if isinstance(code, int) else 0
    except MillwatchError as error:
        return _fail(invocation, str(error), error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return _fail(invocation, error.format_message() + hint, UsageError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough, as in `millwatch watch | head`. Python would complain again when it
        # flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last door: a defect of ours ends with 1 and a line, too
        kind = type(error).__name__
        hint = "" if invocation.debug else "; --debug shows where"
        return _fail(invocation, f"internal error, please report it: {kind}: {error}{hint}", MillwatchError.exit_code)


def refuse_foreign_package(package: Path) -> None:
    """Raise :class:`UsageError` where python-daemon, whose package has the same name, shares our folder."""
    if (package / "pidfile.py").exists():
        raise UsageError(
            f"python-daemon is installed in the same place ({package}) and one overwrites the other: "
            "install Millwatch in an environment of its own"
        )


def _fail(invocation: Invocation, message: str, code: int) -> int:
    if invocation.debug:
        traceback.print_exc()
    for line in message.splitlines() or [""]:
        print(f"millwatch: {line}", file=sys.stderr)  # noqa: T201 - the line for the user, whatever the log format
    return code

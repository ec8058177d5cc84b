"""The entry point: it runs a command and turns what went wrong into one line and an exit code."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

import daemon
from daemon.cli.group import CommandGroup
from daemon.cli.options import Invocation, debug_option
from daemon.stopping import unwind_on_sigint, unwinding_by
from engines.errors import MillwatchError, UsageError

SIGNALLED = 128
"""Exit code of a command that a signal ended, less the signal's number, as shells count it."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


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
        unwind_on_sigint()
        # Not click's own main: it has codes and words of its own for errors, interrupts and closed pipes.
        words = sys.argv[1:] if arguments is None else list(arguments)
        with cli.make_context("millwatch", words, obj=invocation) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except KeyboardInterrupt:
        return SIGNALLED + (unwinding_by() or signal.SIGINT)
    except Exception as error:  # noqa: BLE001 - the last door: a defect of ours ends with a line, too
        # What an interrupt broke is no error: whoever sent the signal knows why the command ends.
        came = unwinding_by()
        return _failed(error, invocation) if came is None else SIGNALLED + came
    return 0


def _failed(error: Exception, invocation: Invocation) -> int:
    """Say what went wrong, in a line; returns the exit code for it."""
    if isinstance(error, MillwatchError):
        return _fail(invocation, str(error), error.exit_code)
    if isinstance(error, click.ClickException):
        place: click.Context | None = getattr(error, "ctx", None)
        hint = f" (see {place.command_path} --help)" if place else ""
        return _fail(invocation, error.format_message() + hint, UsageError.exit_code)
    if isinstance(error, BrokenPipeError) and _reader_has_gone():
        return 0
    if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK_FULL):
        # Somebody's disk or rights; what knows its file better has made a UsageError of it.
        where = "" if error.filename is None else f"{error.filename}: "
        return _fail(invocation, f"{where}{error.strerror}", UsageError.exit_code)
    kind = type(error).__name__
    hint = "" if invocation.debug else "; --debug shows where"
    return _fail(invocation, f"internal error, please report it: {kind}: {error}{hint}", MillwatchError.exit_code)


def _reader_has_gone() -> bool:
    """Whether whoever read our output has had enough, as in ``millwatch watch | head``: that is no error."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0)):
        return False
    # Python flushes once more when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


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

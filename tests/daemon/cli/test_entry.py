from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel, field_serializer
from pydantic_core import PydanticSerializationError

from daemon import stopping
from daemon.cli import entry
from daemon.cli.group import COMMANDS
from daemon.errors import BrokerError, FencedError, UncommittedError
from daemon.stopping import unwind_on_sigterm
from engines.errors import DeviceError, EngineError, UsageError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handlers, and what they remember, are the test's own."""
    monkeypatch.setattr(stopping, "_unwinding_by", None)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import daemon.logs

    # The process's own logs are the test runner's.
    monkeypatch.setattr(daemon.logs, "configure_logs", lambda _: None)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        entry.main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_checks(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("daemon.checks.run_checks", run_checks)


def test_help_comes_at_once_and_lists_every_command() -> None:
    # Nothing that takes long is imported for it: that is what keeps it under half a second.
    program = (
        "import sys; from daemon.cli.entry import _exit_code; _exit_code(['--help']); "
        "print(sorted({'kafka', 'pydantic', 'structlog', 'openvino', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "Usage: millwatch" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if find_spec(command.module)])
def test_every_command_has_an_example_and_the_common_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    shown = capsys.readouterr().out
    assert f"Example: millwatch {name}" in shown
    for option in ("--config", "--set", "--debug"):
        assert option in shown
    command = import_module(COMMANDS[name].module).command
    assert isinstance(command, click.Command)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong"), 2),
        (BrokerError("refused"), 3),
        (EngineError("missing"), 4),
        (DeviceError("gone"), 5),
        (UncommittedError("left"), 6),
        (FencedError("taken"), 7),
    ],
)
def test_an_error_for_the_user_is_one_line_and_its_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error, monkeypatch)
    assert run("check") == code
    assert capsys.readouterr() == ("", f"millwatch: {error}\n")


def test_a_defect_of_ours_ends_with_1_and_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ZeroDivisionError("division by zero"), monkeypatch)
    assert run("check") == 1
    told = capsys.readouterr().err
    assert told == (
        "millwatch: internal error, please report it: ZeroDivisionError: division by zero; --debug shows where\n"
    )


@pytest.mark.parametrize("arguments", [("--debug", "check"), ("check", "--debug")])
def test_debug_shows_the_traceback(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(BrokerError("refused"), monkeypatch)
    assert run(*arguments) == 3
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert told.endswith("millwatch: refused\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("check", "--nothing"), "No such option '--nothing'"),
        (("nothing",), "No such command 'nothing' (see millwatch --help)"),
        (("chekc",), "No such command 'chekc'; did you mean check?"),
        (("check", "--offline", "--create"), "--create needs the broker that --offline leaves out"),
        (("check", "--set", "batch.max_frames=0"), "--set: batch.max_frames: '0' should be"),
        (("check", "--config", "gone.yaml"), "gone.yaml: no such configuration file"),
        (("run", "--until-idle", "0"), "Invalid value for '--until-idle'"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"millwatch: {line}")
    assert told.err.count("\n") == 1


def test_two_mistakes_are_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--set", "http.port=-1", "--set", "log.level=loud") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("millwatch: --set: ") for line in lines)


def test_an_interrupt_ends_with_130_and_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(KeyboardInterrupt(), monkeypatch)
    assert run("check") == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_native_code_swallows_still_ends_the_command(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(BaseModel):
        value: int = 0

        @field_serializer("value")
        def _interrupted(self, value: int) -> int:
            signal.raise_signal(number)
            return value

    def run_checks(*_: Any, **__: Any) -> None:
        unwind_on_sigterm()
        with pytest.raises(PydanticSerializationError):
            Interrupted().model_dump_json()
        Interrupted().model_dump_json()

    monkeypatch.setattr("daemon.checks.run_checks", run_checks)
    assert run("check") == 128 + number
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied"),
    ],
)
def test_a_full_disk_or_a_file_that_is_refused_is_no_defect_of_ours(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error, monkeypatch)
    assert run("check") == 2
    assert capsys.readouterr().err == f"millwatch: {line}\n"


def test_the_exit_code_of_a_command_is_the_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    from daemon.checks import Outcome

    found = [Outcome("a", "fine"), Outcome("b", "missing", 4), Outcome("c", "down", 3)]
    monkeypatch.setattr("daemon.checks.run_checks", lambda *_, **__: iter(found))
    assert run("check") == 4


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    program = "from daemon.cli import main; main(['schema'])"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), told) == (0, b"")


def test_a_broken_pipe_of_another_kind_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(BrokenPipeError("a socket's"), monkeypatch)
    assert run("check") == 1


def test_the_package_of_another_project_is_noticed(tmp_path: Path) -> None:
    entry.refuse_foreign_package(tmp_path)
    (tmp_path / "pidfile.py").touch()
    with pytest.raises(UsageError, match="python-daemon is installed in the same place"):
        entry.refuse_foreign_package(tmp_path)


def test_the_module_and_the_builder_are_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "build-engines", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    builder = subprocess.run(
        [sys.executable, "build_engines.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert builder.stdout == done.stdout

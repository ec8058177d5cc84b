"""``redrive`` as a user calls it: what it prints, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from daemon.cli import entry
from tests.support.running_service import run as run_service
from tests.support.tiny_cascade import frame_with, write_tiny_cascade
from tests.support.topics import Lane

NOBODY = "--set=kafka.bootstrap=127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import daemon.logs

    # The process's own logs are the test runner's.
    monkeypatch.setattr(daemon.logs, "configure_logs", lambda _: None)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        entry.main(["redrive", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--reason", "cheksum"), "--reason cheksum: no such reason, but bad-header, checksum, "),
        (("--from", "yesterday"), "--from yesterday: neither earliest"),
        (("--from", "latest"), "are empty ranges"),
        (("--until", "earliest"), "are empty ranges"),
        (("--until", "2999-01-01T00:00:00Z"), "--until lies in the future"),
        (("--limit", "0"), "'--limit'"),
    ],
)
def test_a_wrong_call_ends_with_2_and_one_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, NOBODY) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


def test_without_a_broker_it_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(NOBODY) == 3
    told = capsys.readouterr()
    assert "127.0.0.1:1: connection refused" in told.err
    assert told.out == ""


@pytest.mark.kafka
@pytest.mark.parametrize("missing", ["dead", "frames"])
def test_without_topics_it_ends_with_3(lane: Lane, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*(f"--set={override}" for override in lane.overrides), f"--set=kafka.topics.{missing}=no.such") == 3
    assert (
        capsys.readouterr().err
        == "millwatch: topic no.such does not exist, or this user has no right on it: see millwatch check\n"
    )


@pytest.mark.kafka
def test_frames_that_died_of_a_setting_have_their_verdicts_once_it_is_mended(
    lane: Lane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*lane.overrides, f"cascade={write_tiny_cascade(tmp_path / 'tiny')}", f"engine.directory={tmp_path}"]
    arguments = [f"--set={override}" for override in overrides]
    png = cv2.imencode(".png", frame_with({3: [(10, 20, 40, 12)]}))[1].tobytes()
    lane.send([png, png, b"no picture"], coil_id="C42")
    assert run_service(lane, 3, *overrides, "input.require_crc32c=true").dead == {"checksum": 3}
    capsys.readouterr()

    assert run("--dry-run", *arguments) == 0
    told = (
        f"3 would be put back into {lane.frames}, 0 put back before, 0 left behind\n  checksum: 3 would be put back\n"
    )
    assert capsys.readouterr().out == told
    assert run("--reason", "stale", *arguments) == 0
    assert capsys.readouterr().out == f"0 put back into {lane.frames}, 0 put back before, 0 left behind\n"
    assert run("--reason", "checksum", "--reason", "stale", *arguments) == 0
    told = f"3 put back into {lane.frames}, 0 put back before, 0 left behind\n  checksum: 3 put back\n"
    assert capsys.readouterr().out == told

    account = run_service(lane, 3, *overrides)
    capsys.readouterr()
    assert (account.taken, account.defective, account.dead) == (3, 2, {"unknown-format": 1})
    events = [json.loads(event.value) for event in lane.committed(lane.events, lambda seen: len(seen) >= 2)]
    assert {(event["coil"], event["camera"]) for event in events} == {("C42", "cam-1")}
    letters = lane.committed(lane.dead, lambda seen: len(seen) >= 4)
    assert len(letters) == 4
    # The second death of a frame says which letter it was.
    first = next(letter for letter in letters if letter.value == b"no picture")
    assert dict(letters[3].headers)["millwatch-redriven"] == f"{lane.dead}-0-{first.offset}".encode()
    assert run(*arguments) == 0
    assert capsys.readouterr().out == (
        f"0 put back into {lane.frames}, 3 put back before, 1 left behind\n  checksum: 3 put back before\n"
        "  unknown-format: 1 left behind: died again after it was put back, --died-again takes it\n"
    )
    assert run("--died-again", *arguments) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"1 put back into {lane.frames}, 3 put back before, 0 left behind"

"""``replay``, ``record``, ``watch`` and ``inspect`` as a user calls them: what they print, and what they end with."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from daemon.cli import entry
from daemon.service import run_service
from engines.recording import read_recording, write_recording
from tests.support.tiny_cascade import frame_with, write_tiny_cascade
from tests.support.topics import Lane

NOBODY = "--set=kafka.bootstrap=127.0.0.1:1"
PATCH = {3: [(10, 20, 40, 12)]}


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import daemon.logs

    # The process's own logs are the test runner's.
    monkeypatch.setattr(daemon.logs, "configure_logs", lambda _: None)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        entry.main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def on(lane: Lane, *more: str) -> list[str]:
    return [f"--set={override}" for override in (*lane.overrides, *more)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tiny")
    return [f"cascade={write_tiny_cascade(folder / 'cascade')}", f"engine.directory={folder / 'engines'}"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"strip-{number}.png"), frame_with(PATCH if number % 2 else None))
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay", "nowhere"), "nowhere: no such file or folder"),
        (("replay", "images", "--speed", "2"), "--speed needs a recording"),
        (("replay", "images", "--rate", "1", "--speed", "2"), "--rate and --speed exclude each other"),
        (("replay", "images", "--rate", "0"), "'--rate'"),
        (("replay", "empty.parquet"), "empty.parquet: no frames"),
        (("replay", "text.parquet"), "text.parquet: not a recording"),
        (("replay",), "PATH..."),
        (("record",), "--output"),
        (("record", "--output", "r.parquet", "--from", "yesterday"), "--from yesterday: neither earliest"),
        (("record", "--output", "r.parquet", "--until", "earliest"), "--until earliest is an empty range"),
        (("record", "--output", __file__), "is there already: name another file, or pass --force"),
        (("watch", "--from", "now"), "'--from'"),
        (("inspect", "images", "--truth", "t.csv"), "name their folder with --overlays"),
        (("inspect", "images", "--overlays", "o", "--truth", "t.csv"), "t.csv: no such table"),
        (("demo", "--recording", "nowhere"), "nowhere: no such file or folder"),
    ],
)
@pytest.mark.usefixtures("images")
def test_a_wrong_call_ends_with_2_and_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(tmp_path / "empty.parquet", [])
    (tmp_path / "text.parquet").write_text("text")
    assert run(*arguments, NOBODY) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.startswith("millwatch: ")
    assert (told.err.count("\n"), told.out) == (1, "")


@pytest.mark.parametrize(
    "arguments", [("replay", "images"), ("record", "--output", "r.parquet"), ("watch",), ("watch", "--json")]
)
@pytest.mark.usefixtures("images")
def test_without_a_broker_they_end_with_3(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments, NOBODY) == 3
    assert "127.0.0.1:1: connection refused" in capsys.readouterr().err
    assert not Path("r.parquet").exists()


@pytest.mark.kafka
@pytest.mark.parametrize(
    "arguments", [("replay", "images"), ("record", "--output", "r.parquet", "--from", "earliest"), ("watch",)]
)
@pytest.mark.usefixtures("images")
def test_without_topics_they_end_with_3(
    embedded_broker: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ("--set=kafka.topics.frames=no.frames", "--set=kafka.topics.events=no.events")
    assert run(*arguments, f"--set=kafka.bootstrap={embedded_broker}", *nowhere) == 3
    told = capsys.readouterr()
    assert "does not exist" in told.err
    assert told.out == ""
    assert not Path("r.parquet").exists()


@pytest.mark.kafka
def test_from_files_to_a_topic_to_a_recording_and_back(
    lane: Lane, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("replay", images, "--camera", "cam-7", "--coil", "C42", *on(lane)) == 0
    assert capsys.readouterr().out.startswith("6 frames, 0.0 MB, sent to ")
    recording = tmp_path / "shift.parquet"
    assert run("record", "--output", recording, "--from", "earliest", "--until", "latest", *on(lane)) == 0
    assert capsys.readouterr().out == f"6 frames from {lane.frames} in {recording}\n"
    frames = list(read_recording(recording))
    assert [frame.header("frame-id") for frame in frames] == [f"strip-{number}" for number in range(6)]
    assert [frame.value for frame in frames] == [path.read_bytes() for path in sorted(images.iterdir())]
    assert {(frame.key, frame.header("coil-id")) for frame in frames} == {(b"cam-7", "C42")}

    assert run("replay", recording, "--speed", "1000", *on(lane)) == 0
    assert run("record", "--output", "again.parquet", "--from", "earliest", "--limit", "12", *on(lane)) == 0
    first, second = (list(read_recording(Path("again.parquet")))[part] for part in (slice(0, 6), slice(6, 12)))
    assert [frame.value for frame in first] == [frame.value for frame in second]
    assert all(frame.header("captured-at") for frame in second)
    assert min(frame.timestamp for frame in second) >= max(frame.timestamp for frame in first)


@pytest.mark.kafka
def test_files_that_are_no_images_are_sent_with_a_warning_that_counts_them(
    lane: Lane, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("replay", images, *on(lane)) == 0
    assert "signature" not in capsys.readouterr().err
    Path("notes.md").write_text("# no image")
    assert run("replay", images, "notes.md", *on(lane)) == 0
    told = capsys.readouterr()
    assert "millwatch: 1 file without the signature of a JPEG, PNG, BMP or TIFF (notes.md): " in told.err
    assert told.out.startswith("7 frames, ")


@pytest.mark.kafka
def test_events_are_watched_as_lines_json_and_pictures(
    lane: Lane, images: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("replay", images, *on(lane)) == 0
    run_service(lane.settings(*tiny), until_idle_s=3.0)
    capsys.readouterr()
    watch = ("watch", "--from", "earliest", "--limit", "3")
    assert run(*watch, *on(lane)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("3 scratches 1.00 480 px") for line in lines] == [0, 1, 1, 1]

    assert run(*watch, "--json", "--overlays", "pictures", *on(lane)) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["frame"] for event in events] == ["strip-1", "strip-3", "strip-5"]
    assert sorted(path.stem for path in (tmp_path / "pictures").iterdir()) == sorted(event["id"] for event in events)

    assert run("watch", "--until-idle", "0.5", *on(lane)) == 0
    assert capsys.readouterr().out == ""


def test_images_are_inspected_without_a_broker(
    images: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"--set={value}" for value in tiny]
    assert run("inspect", "images", "--overlays", "pictures", *settings) == 0
    told = capsys.readouterr()
    events = [json.loads(line) for line in told.out.splitlines()]
    assert [event["id"] for event in events] == [f"images/strip-{number}.png" for number in range(6)]
    assert [len(event["defects"]) for event in events] == [0, 1, 0, 1, 0, 1]
    assert len(list((tmp_path / "pictures").iterdir())) == 6

    (images / "strip-2.png").write_text("text")
    assert run("inspect", "images", "absent.png", *settings) == 2
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 5
    assert told.err.splitlines() == [
        "millwatch: images/strip-2.png: unknown-format: neither JPEG, PNG, BMP nor TIFF; it starts with 74 65 78 74",
        "millwatch: absent.png: no such file or folder",
        "millwatch: 2 images could not be inspected",
    ]

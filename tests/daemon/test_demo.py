"""The demo, from end to end on a small cascade, and what it says when something is missing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from daemon.daemon_process import DaemonProcess
from daemon.deadletters import DeadFrame
from daemon.demo import check_account, demo_input, demo_settings, prepare_output, run_demo, write_result
from daemon.embedded_broker import free_port
from daemon.errors import UncommittedError
from daemon.settings import HttpSettings, Settings, load_settings
from daemon.verdicts import Verdicts
from engines import rle
from engines.errors import UsageError
from engines.recording import RecordedFrame, write_recording
from tests.support.defect_events import defect, event
from tests.support.tiny_cascade import frame_with, mask_of, write_tiny_cascade


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cascade(tmp_path_factory.mktemp("tiny") / "cascade")


@pytest.fixture(scope="module")
def settings(tiny: Path) -> Settings:
    return load_settings(None, [f"cascade={tiny}", f"engine.directory={tiny.parent / 'engines'}"])


def told(clean: int, defective: int, dead: int) -> Verdicts:
    verdicts = Verdicts()
    for number in range(clean + defective):
        one = event([defect(3, None)] if number < defective else [], id=f"e-{number}")
        verdicts.events[one.id] = one
    for number in range(dead):
        verdicts.dead[f"d-{number}"] = DeadFrame(f"d-{number}", None, "cam-1", "empty", "", 0)
    return verdicts


def test_an_account_that_adds_up_passes():
    check_account(told(3, 2, 1), taken=6, committed=6)
    check_account(told(0, 0, 0), taken=0, committed=0)


@pytest.mark.parametrize(
    ("verdicts", "taken", "committed", "said"),
    [
        (told(3, 2, 1), 7, 7, "7 frames in, but 3 clean [+] 2 defective [+] 1 dead: 1 without a verdict"),
        (told(3, 2, 1), 6, 5, "6 frames in = .* but 5 offsets committed"),
        (told(0, 1, 0), 1, 0, "1 frame in = .* but 0 offsets committed"),
        (Verdicts(repeated=["camera.frames-0-7"]), 0, 0, "1 frame with two verdicts, the first is camera.frames-0-7"),
    ],
)
def test_an_account_that_does_not_add_up_ends_with_6(verdicts: Verdicts, taken: int, committed: int, said: str):
    with pytest.raises(UncommittedError, match=said) as raised:
        check_account(verdicts, taken, committed)
    assert raised.value.exit_code == 6


def test_the_cascade_brings_its_recording(settings: Settings):
    shown = demo_input(settings, (), None)
    assert (shown.frames, shown.source, shown.truth) == (16, "recording of cascade tiny", None)


def test_a_cascade_without_a_recording_asks_for_one(tmp_path: Path):
    cascade = write_tiny_cascade(tmp_path / "bare", recording=False)
    with pytest.raises(UsageError, match="brings no recording: name frames with --recording"):
        demo_input(load_settings(None, [f"cascade={cascade}"]), (), None)


def test_own_frames_have_no_truth_unless_it_is_named(settings: Settings, tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), frame_with())
    (tmp_path / "truth.csv").write_text("ImageId,ClassId,EncodedPixels\n")
    assert demo_input(settings, (tmp_path,), None).truth is None
    assert demo_input(settings, (tmp_path,), tmp_path / "truth.csv").truth is not None


def test_an_empty_recording_is_refused(settings: Settings, tmp_path: Path):
    write_recording(tmp_path / "empty.parquet", [])
    with pytest.raises(UsageError, match=r"empty\.parquet: no frames"):
        demo_input(settings, (tmp_path / "empty.parquet",), None)


def test_the_demos_daemon_speaks_to_the_demos_broker_only(settings: Settings):
    real = load_settings(
        None,
        ["kafka.bootstrap=line.example:9093", "kafka.security.protocol=ssl", "http.host=0.0.0.0", "gate.threshold=0.7"],
    )
    changed = demo_settings(real, "127.0.0.1:4711")
    assert changed.kafka.bootstrap == "127.0.0.1:4711"
    assert not changed.kafka.security.tls
    assert changed.http.host == "127.0.0.1"
    assert (changed.events.publish, changed.events.regions) == ("all", "region")
    assert changed.gate.threshold == 0.7


def test_an_earlier_demo_makes_room_for_the_next(tmp_path: Path):
    pictures = prepare_output(tmp_path / "out")
    (pictures / "f-1.jpg").touch()
    (tmp_path / "out" / "notes.txt").touch()
    assert prepare_output(tmp_path / "out") == pictures
    assert list(pictures.iterdir()) == []
    assert (tmp_path / "out" / "notes.txt").exists()


@pytest.mark.parametrize("name", ["pictures/mine.jpg", "config.yaml"])
def test_what_is_somebody_elses_is_left_alone(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="name another folder with --output"):
        prepare_output(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/out: cannot be the folder of the demo: Not a directory"):
        prepare_output(tmp_path / "file" / "out")


def test_a_full_disk_is_told_with_the_file(tmp_path: Path):
    path = tmp_path / "report.html"
    path.symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"report\.html: cannot be written: No space left on device"):
        write_result(path, [b"<!doctype html>"])


@pytest.mark.kafka
@pytest.mark.slow
def test_every_frame_of_a_mixed_recording_is_accounted_for(settings: Settings, tiny: Path, tmp_path: Path):
    patch = {3: [(10, 20, 40, 12)]}
    frames = [frame_with(patch if number % 3 == 0 else None) for number in range(12)]
    values: list[bytes | None] = [cv2.imencode(".png", frame)[1].tobytes() for frame in frames]
    values[4], values[7] = b"not an image", None
    write_recording(
        tmp_path / "mixed.parquet",
        (
            RecordedFrame(b"cam-1", value, (("frame-id", f"f-{number}".encode()),), 1_795_000_000_000, 0, number)
            for number, value in enumerate(values)
        ),
    )
    # One true defect where one is found, and one on a frame that is called clean.
    true, missed = mask_of(frames[0], 3), np.zeros((64, 160), np.uint8)
    missed[40:50, 100:120] = 1
    rows = [f"f-0,3,{rle.encode(true)}", f"f-1,4,{rle.encode(missed)}"]
    (tmp_path / "truth.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *rows]))
    text = io.StringIO()
    shown = demo_input(settings, (tmp_path / "mixed.parquet",), tmp_path / "truth.csv")
    report = run_demo(settings, shown, tmp_path / "out", Console(file=text, width=200, highlight=False))
    assert (report.taken, report.clean, report.defective, len(report.dead)) == (12, 6, 4, 2)
    assert sorted(dead.reason for dead in report.dead) == ["empty", "unknown-format"]
    counts = {row.class_id: row.counts for row in report.classes if row.counts}
    assert (counts[3].found, counts[3].invented, counts[4].missed) == (1, 3, 1)
    output = text.getvalue()
    assert "12 frames in = 6 clean + 4 defective + 2 dead: every frame accounted for" in output
    assert "1 of 2 true regions found (50.0 %), 1 missed, 3 invented (300.0 per 100 found)" in output
    assert output.count("■ 3 scratches 1.00 480 px") == 4
    assert "unknown-format" in output
    names = sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir())
    assert names == ["f-0.jpg", "f-1.jpg", "f-3.jpg", "f-6.jpg", "f-9.jpg"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "every frame accounted for" in page
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert len(events) == 10
    assert {one["frame"] for one in events if one["defects"]} == {"f-0", "f-3", "f-6", "f-9"}


def test_a_daemon_that_cannot_start_is_told_with_its_last_words(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The daemon's configuration file holds what counts: the environment must not reach past it.
    monkeypatch.setenv("MILLWATCH_NO_SUCH__KEY", "1")
    # Nor is a package of the folder it is started in taken for ours.
    (tmp_path / "daemon").mkdir()
    (tmp_path / "daemon" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    wrong = settings.model_copy(update={"cascade": tmp_path / "nowhere", "http": HttpSettings(port=free_port())})
    with (
        DaemonProcess(wrong, tmp_path) as daemon,
        pytest.raises(UncommittedError, match=r"ended with code 2: see .*daemon\.log: .*nowhere"),
    ):
        daemon.wait_ready()

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.bench.workload import as_read, read_workload
from engines.errors import UsageError
from tests.support.tiny_cascade import write_tiny_cascade


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Sixteen recorded frames of which every other one, from the second on, is defective."""
    write_tiny_cascade(tmp_path)
    rows = [f"f-{number:06d},1,1 5\n" for number in range(1, 16, 2)]
    (tmp_path / "truth.csv").write_text("ImageId,ClassId,EncodedPixels\n" + "".join(rows))
    return tmp_path / "recording.parquet"


def defective(name: str | None) -> bool:
    return int((name or "").removeprefix("f-")) % 2 == 1


def test_the_share_of_defective_frames_is_the_wanted_one(recording: Path) -> None:
    frames = read_workload(recording, recording.with_name("truth.csv"), 0.05).frames(200)
    assert sum(defective(frame.header("frame-id")) for frame in frames) == 10
    assert len(frames) == 200


def test_defective_frames_are_spread_and_every_run_has_the_same(recording: Path) -> None:
    workload = read_workload(recording, recording.with_name("truth.csv"), 0.2)
    places = [place for place, frame in enumerate(workload.frames(100)) if defective(frame.header("frame-id"))]
    assert places[0] < 30
    assert places[-1] > 70
    assert workload.frames(100) == workload.frames(100)


def test_a_rate_that_the_recording_cannot_give_is_an_error(recording: Path) -> None:
    truth = recording.with_name("truth.csv")
    truth.write_text("ImageId,ClassId,EncodedPixels\n")
    with pytest.raises(UsageError, match="none of its frames is defective"):
        read_workload(recording, truth, 0.05)
    assert len(read_workload(recording, truth, 0.0).frames(20)) == 20


def test_a_recording_that_is_not_there_is_named_and_not_its_truth(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.parquet"):
        read_workload(tmp_path / "gone.parquet", tmp_path / "truth.csv", 0.05)


def test_frames_are_as_the_daemon_reads_them(recording: Path) -> None:
    recorded = read_workload(recording, recording.with_name("truth.csv"), 0.5).frames(4)
    for frame, source in zip(as_read(recorded), recorded, strict=True):
        assert frame.value == source.value
        assert frame.meta.camera == "cam-1"
        assert frame.meta.frame_id == source.header("frame-id")
        assert not frame.meta.malformed

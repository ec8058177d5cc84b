"""Recordings keep records byte for byte and leave nothing half-written."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import recording
from engines.errors import UsageError
from engines.recording import (
    BYTES_PER_GROUP,
    ROWS_PER_GROUP,
    RecordedFrame,
    RecordingWriter,
    count_frames,
    read_recording,
    write_recording,
)

HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3).map(tuple)
FRAMES = st.builds(
    RecordedFrame,
    st.none() | st.binary(max_size=8),
    st.none() | st.binary(max_size=50),
    HEADERS,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**62),
)


@given(frames=st.lists(FRAMES, max_size=5))
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, frames: list[RecordedFrame]
) -> None:
    path = tmp_path_factory.mktemp("recording") / "r.parquet"
    assert write_recording(path, frames) == len(frames)
    assert list(read_recording(path)) == frames
    assert count_frames(path) == len(frames)


def test_many_frames_come_in_groups_and_in_order(tmp_path: Path) -> None:
    frames = [RecordedFrame(b"k", b"v" * 9, (), number, 0, number) for number in range(3 * ROWS_PER_GROUP + 1)]
    path = tmp_path / "folder" / "r.parquet"
    write_recording(path, frames)
    assert pq.ParquetFile(path).metadata.num_row_groups == 4
    assert list(read_recording(path)) == frames


@pytest.mark.parametrize("large", ["key", "value", "header"])
def test_a_group_of_large_frames_ends_by_its_bytes(tmp_path: Path, large: str) -> None:
    filling = bytes(BYTES_PER_GROUP // 4)
    parts = {part: filling if part == large else b"" for part in ("key", "value", "header")}
    frame = RecordedFrame(parts["key"], parts["value"], (("camera", parts["header"]),), 0, 0, 0)
    path = tmp_path / "r.parquet"
    write_recording(path, [frame] * 9)
    found = pq.ParquetFile(path).metadata
    assert [found.row_group(number).num_rows for number in range(found.num_row_groups)] == [4, 4, 1]


def test_no_more_than_a_group_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "BYTES_PER_GROUP", 4_000)
    frames = [RecordedFrame(None, bytes(1_000), (), number, 0, number) for number in range(10)]
    path = tmp_path / "r.parquet"
    write_recording(path, frames)
    with pq.ParquetFile(path) as file:
        assert [batch.num_rows for batch in recording._batches(file)] == [4, 4, 2]
    assert list(read_recording(path)) == frames


def test_a_broken_run_leaves_no_recording_behind(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with pytest.raises(RuntimeError, match="camera"), RecordingWriter(path) as writer:  # noqa: PT012
        writer.write(RecordedFrame(None, b"v", (), 0, 0, 0))
        raise RuntimeError("the camera is gone")
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_cannot_be_completed_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_recording(tmp_path / "r.parquet", [RecordedFrame(None, b"v", (), 0, 0, 0)])
    assert list(tmp_path.iterdir()) == []


def test_times_that_another_tool_wrote_in_microseconds_are_the_same(tmp_path: Path) -> None:
    frames = [RecordedFrame(b"k", b"v", (), 1_795_000_000_000 + number, 0, number) for number in range(3)]
    path = tmp_path / "r.parquet"
    write_recording(path, frames)
    table = pq.read_table(path)
    finer = table["timestamp"].cast(pa.timestamp("us", tz="UTC"))
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", finer), path)
    assert list(read_recording(path)) == frames


def test_files_that_are_no_recording(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such recording"):
        count_frames(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(UsageError, match="not a recording"):
        list(read_recording(tmp_path / "text.parquet"))
    pq.write_table(pa.table({"key": [b"k"]}), tmp_path / "other.parquet")
    with pytest.raises(UsageError, match="column 'headers' is missing"):
        list(read_recording(tmp_path / "other.parquet"))


def test_the_last_header_of_a_name_counts() -> None:
    frame = RecordedFrame(None, None, (("a", b"1"), ("a", b"2"), ("b", b"\xff"), ("c", None)), 0, 0, 0)
    assert (frame.header("a"), frame.header("b"), frame.header("c"), frame.header("d")) == ("2", None, None, None)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.core_bound import measure_parts
from benchmarks.notebook import Notebook
from daemon.bench.stream import Options
from daemon.bench.workload import as_read, read_workload
from daemon.decoding import frame_decoder
from daemon.inspector import image_limits, open_inspector
from engines.openvino.runtime import OpenVINOSlot
from engines.recording import RecordedFrame
from tests.support.tiny_cascade import write_tiny_cascade


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    folder = write_tiny_cascade(tmp_path_factory.mktemp("tiny"))
    rows = [f"f-{number:06d},1,1 5\n" for number in range(1, 16, 2)]
    (folder / "truth.csv").write_text("ImageId,ClassId,EncodedPixels\n" + "".join(rows))
    return Options(None, (f"cascade={folder}", f"engine.directory={folder / 'engines'}"))


@pytest.fixture(scope="module")
def recorded(options: Options) -> list[RecordedFrame]:
    folder: Path = options.settings().cascade
    return read_workload(folder / "recording.parquet", folder / "truth.csv", 0.5).frames(20)


@pytest.mark.parametrize("conditional", [True, False])
def test_the_peers_find_what_millwatch_finds(
    options: Options, recorded: list[RecordedFrame], conditional: bool
) -> None:
    settings = options.settings()
    with open_inspector(settings) as cascade:
        decode = frame_decoder(image_limits(settings), require_crc32c=False)
        ours = [len(cascade.inspect([decode(frame)])[0].defects) for frame in as_read(recorded)]
        notebook = Notebook(cascade.definition, cascade.settings, 1, conditional=conditional)
    assert [notebook.defects(frame.value or b"") for frame in recorded] == ours
    assert sum(ours) == 10


def test_the_bound_times_each_part_at_the_share_of_frames_that_need_it(
    options: Options, recorded: list[RecordedFrame]
) -> None:
    settings = options.settings()
    open_inspector(settings).close()
    times = measure_parts(settings, as_read(recorded))
    assert (times.runs["decode"], times.runs["gate"], times.runs["classifier"]) == (20, 20, 10)
    assert sum(times.runs[f"segmenter-{number}"] for number in range(1, 5)) == 10
    assert np.isclose(times.total_s, sum(times.seconds[part] for part in times.runs))


def test_every_stage_is_warm_before_the_clock_starts(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = options.settings()
    open_inspector(settings).close()
    segmented = []
    segment = OpenVINOSlot.segment

    def counted(slot: OpenVINOSlot, number: int, *arguments: Any) -> Any:
        segmented.append(number)
        return segment(slot, number, *arguments)

    monkeypatch.setattr(OpenVINOSlot, "segment", counted)
    folder = settings.cascade
    clean = as_read(read_workload(folder / "recording.parquet", folder / "truth.csv", 0).frames(10))
    assert set(measure_parts(settings, clean).runs) == {"decode", "gate"}
    assert set(segmented) == {0, 1, 2, 3}

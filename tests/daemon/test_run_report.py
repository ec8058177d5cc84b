"""A report from frames and verdicts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from daemon import run_report
from daemon.deadletters import DeadFrame
from daemon.frames import Frame, FrameMeta
from daemon.pictures.report import Report, render
from daemon.run_report import ReportBuilder, RunFacts
from daemon.scoring import Counts
from daemon.truth import read_truth
from daemon.verdicts import Verdicts
from engines import rle
from tests.support.defect_events import defect, event

HEIGHT, WIDTH = 20, 30


def mask(*windows: tuple[int, int, int, int]) -> np.ndarray:
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x, y, width, height in windows:
        picture[y : y + height, x : x + width] = 1
    return picture


FOUND, ELSEWHERE = mask((2, 2, 6, 6)), mask((20, 10, 5, 5))


def frame(number: int, name: str | None = None) -> Frame:
    return Frame(
        FrameMeta(
            topic="camera.frames",
            partition=0,
            offset=number,
            timestamp_ms=0,
            captured_at_ms=0,
            key=b"cam-1",
            camera="cam-1",
            frame_id=name or f"f-{number}",
            coil="C42",
            position_mm=100.0 * number,
            headers=(),
        ),
        b"",
    )


def verdicts(*found: tuple[int, np.ndarray] | None, dead: int | None = None) -> Verdicts:
    """Frame after frame: its one defect, None for a clean one."""
    told = Verdicts()
    for number, one in enumerate(found):
        frame_id = f"camera.frames-0-{number}"
        defects = [] if one is None else [defect(one[0], one[1], name=f"name {one[0]}")]
        told.events[frame_id] = event(defects, height=HEIGHT, width=WIDTH, id=frame_id, frame=f"f-{number}")
    if dead is not None:
        frame_id = f"camera.frames-0-{dead}"
        told.dead[frame_id] = DeadFrame(frame_id, f"f-{dead}", "cam-1", "truncated", "the end is missing", 17)
    return told


def build(tmp_path: Path, told: Verdicts, count: int, truth: dict[int, tuple[int, np.ndarray]] | None = None) -> Report:
    facts = RunFacts("title", "source", datetime(2026, 11, 22, tzinfo=UTC), count, 2.0, {3: "scratches"}, {}, {})
    table = None
    if truth is not None:
        rows = [f"f-{number},{class_id},{rle.encode(pixels)}" for number, (class_id, pixels) in truth.items()]
        (tmp_path / "truth.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *rows]))
        table = read_truth(tmp_path / "truth.csv")
    builder = ReportBuilder(facts, told, table, lambda _: np.full((HEIGHT, WIDTH), 90, np.uint8), tmp_path / "pictures")
    return builder.build(frame(number) for number in range(count))


def outcomes(report: Report) -> list[list[str]]:
    return [[region.outcome for region in one.regions] for one in report.strip]


def test_frames_are_counted_shown_and_drawn(tmp_path: Path):
    report = build(tmp_path, verdicts((3, FOUND), None, None, dead=3), 4)
    assert (report.taken, report.clean, report.defective, len(report.dead)) == (4, 2, 1, 1)
    assert report.adds_up
    assert [one.verdict for one in report.strip] == ["defective", "clean", "clean", "dead"]
    assert [entry.frame for entry in report.gallery] == ["f-0"]
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["f-0.jpg"]
    assert [(row.class_id, row.name, row.frames, row.area_px) for row in report.classes] == [(3, "scratches", 1, 36)]
    assert report.dead[0].reason == "truncated"
    assert "f-0" in render(report)


def test_without_truth_nothing_is_rated(tmp_path: Path):
    report = build(tmp_path, verdicts((3, FOUND)), 1)
    assert not report.has_truth
    assert outcomes(report) == [["unrated"]]
    assert report.gallery[0].counts is None
    assert report.gallery[0].true_picture is None


def test_each_region_is_found_missed_or_invented(tmp_path: Path):
    told = verdicts((3, FOUND), (3, FOUND | ELSEWHERE), None, (3, ELSEWHERE))
    truth = {0: (3, FOUND), 1: (3, FOUND), 2: (3, FOUND)}
    report = build(tmp_path, told, 4, truth)
    assert outcomes(report) == [["found"], ["found", "invented"], ["missed"], ["invented"]]
    assert [entry.counts for entry in report.gallery] == [
        Counts(found=1),
        Counts(found=1, invented=1),
        Counts(missed=1),
        Counts(invented=1),
    ]
    assert report.classes[0].counts == Counts(found=2, missed=1, invented=2)


def test_a_clean_verdict_on_a_defective_frame_is_shown(tmp_path: Path):
    (entry,) = build(tmp_path, verdicts(None), 1, {0: (3, FOUND)}).gallery
    assert (entry.verdict, list(entry.classes)) == ("clean", [3])
    assert entry.true_picture is not None


def test_where_nothing_is_true_there_is_no_picture_of_it(tmp_path: Path):
    (entry,) = build(tmp_path, verdicts((3, FOUND)), 1, {}).gallery
    assert entry.true_picture is None
    assert entry.counts == Counts(invented=1)


def test_the_page_stays_small_and_the_folder_has_all_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_report, "MAX_GALLERY", 2)
    report = build(tmp_path, verdicts(*[(3, FOUND)] * 5), 5)
    assert (len(report.gallery), report.left_out, len(report.strip)) == (2, 3, 5)
    assert len(list((tmp_path / "pictures").iterdir())) == 5
    assert report.classes[0].frames == 5


def test_frames_of_one_name_each_have_their_picture(tmp_path: Path):
    told = verdicts((3, FOUND), (3, FOUND))
    told.events = {frame_id: one.model_copy(update={"frame": "same/../name"}) for frame_id, one in told.events.items()}
    build(tmp_path, told, 2)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["same_.._name-2.jpg", "same_.._name.jpg"]

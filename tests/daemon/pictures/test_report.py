"""The report page, as text: what it says, and that nothing from outside gets into its markup."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from daemon.deadletters import DeadFrame
from daemon.events import EventDefect
from daemon.pictures.palette import class_colour
from daemon.pictures.report import (
    PICTURE_WIDTH,
    ClassRow,
    FrameEntry,
    Report,
    class_rows,
    encode_picture,
    render,
)
from daemon.pictures.strip_map import Region, StripFrame
from daemon.scoring import Counts
from engines.results import Box

HOSTILE = '<script>alert("1")</script>\'"&'


def defect(class_id: int, area_px: int = 300) -> EventDefect:
    return EventDefect(
        class_id=class_id, name=f"name {class_id}", score=0.93, area_px=area_px, box=(1, 2, 3, 4), rle="1 1"
    )


def entry(name: str | None = "f-1", counts: Counts | None = None) -> FrameEntry:
    picture = encode_picture(np.full((64, 400, 3), 90, np.uint8))
    return FrameEntry(
        id="camera.frames-0-1",
        frame=name,
        camera="cam-1",
        coil="C42",
        position_mm=1234.5,
        captured_at="2026-11-22T10:00:00.000Z",
        verdict="defective",
        defects=[defect(3)],
        classes=[3],
        picture=picture,
        true_picture=picture if counts else None,
        counts=counts,
    )


@pytest.fixture
def report() -> Report:
    return Report(
        title="Inspection report",
        source="recording of cascade reference",
        made_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
        taken=1200,
        clean=1196,
        defective=3,
        dead=[DeadFrame("camera.frames-0-9", "f-9", "cam-1", "truncated", "the end is missing", 4711)],
        duration_s=60,
        classes=[ClassRow(1, "pits", 0, 0, None), ClassRow(3, "scratches", 3, 123_456, None)],
        has_truth=False,
        strip=[
            StripFrame("cam-1", "C42", 0, "defective", "f-1", 400, 64, (Region(3, Box(0, 0, 9, 9), "unrated", "r"),))
        ],
        gallery=[entry()],
        engine={"cascade": "reference 1"},
        settings={"gate threshold": "0.5"},
    )


def with_truth(report: Report, counts: Counts) -> Report:
    return dataclasses.replace(
        report, has_truth=True, classes=[ClassRow(3, "scratches", 3, 9, counts)], gallery=[entry(counts=counts)]
    )


class Page(HTMLParser):
    """Collects tags, and complains of any that is left open."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def words(page: str) -> str:
    body = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body).replace("\N{THIN SPACE}", ""))


def test_the_account_is_told_and_adds_up(report: Report):
    assert report.adds_up
    text = words(render(report))
    assert "1200 frames in = 1196 clean + 3 defective + 1 dead" in text
    assert "every frame accounted for" in text
    assert "20.0 frames per second, 60.0 s, with engines, broker and replay on the same cores" in text


def test_an_account_that_does_not_add_up_is_not_hidden(report: Report):
    text = words(render(dataclasses.replace(report, clean=1000)))
    assert "the account does not add up" in text
    assert "every frame accounted for" not in text
    assert "1200 frames in ≠" in text


def test_the_page_needs_nothing_from_outside(report: Report):
    page = Page(render(with_truth(report, Counts(found=1, missed=1, invented=1))))
    assert page.open == []
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    for _, attributes in page.tags:
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\((?!#)|@import", render(report))


@pytest.mark.parametrize("field", ["frame", "id", "camera", "coil", "captured_at"])
def test_what_comes_with_a_frame_is_escaped_in_the_gallery(report: Report, field: str):
    hostile = dataclasses.replace(entry(), **{field: HOSTILE})  # type: ignore[arg-type]
    page = render(dataclasses.replace(report, gallery=[hostile]))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in page
    Page(page)


def test_everything_else_from_outside_is_escaped(report: Report):
    region = Region(3, Box(0, 0, 9, 9), "unrated", HOSTILE)
    page = render(
        dataclasses.replace(
            report,
            source=HOSTILE,
            dead=[DeadFrame(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 0)],
            classes=[ClassRow(3, HOSTILE, 1, 1, None)],
            strip=[
                StripFrame(HOSTILE, HOSTILE, 0, "defective", HOSTILE, 400, 64, (region,)),
                StripFrame(HOSTILE, HOSTILE, 9, "dead", HOSTILE),
            ],
            engine={"cascade": HOSTILE},
            settings={HOSTILE: HOSTILE},
        )
    )
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") > 15
    Page(page)


def test_with_truth_every_verdict_has_its_badge_and_its_picture(report: Report):
    page = render(with_truth(report, Counts(found=19, missed=1, invented=2)))
    text = words(page)
    assert "95 % of 20 true regions found" in text
    assert "2 invented, 10.5 per 100 found" in text
    assert "✓ 19 found" in text
    assert "✗ 1 missed" in text
    assert "+ 2 invented" in text
    assert page.count("<img loading") == 2
    assert 'data-tags="class-3 missed invented"' in page


def test_without_truth_nothing_is_said_of_it(report: Report):
    text = words(render(report)).lower()
    assert not re.search(r"true|missed|invented", text)


def test_nothing_found_where_nothing_is_true(report: Report):
    text = words(render(with_truth(report, Counts())))
    assert "\N{EN DASH} of 0 true regions found" in text


def test_a_run_without_frames_is_a_page_too(report: Report):
    empty = dataclasses.replace(
        report, taken=0, clean=0, defective=0, dead=[], duration_s=0, strip=[], gallery=[], classes=[]
    )
    page = render(empty)
    Page(page)
    assert "0 frames in = 0 clean + 0 defective + 0 dead" in words(page)
    assert "frames per second" not in page


def test_a_run_of_one_frame_is_told_in_the_singular(report: Report):
    text = words(render(dataclasses.replace(report, taken=1, clean=1, defective=0, dead=[], left_out=1)))
    assert "1 frame in = 1 clean" in text
    assert "1 more frame with defects" in text


def test_dead_letters_are_listed_with_their_reason(report: Report):
    text = words(render(report))
    assert "truncated: 1" in text
    assert "f-9 camera.frames-0-9 cam-1 truncated the end is missing 4711" in text


def test_frames_that_had_no_room_are_counted(report: Report):
    assert "17 more frames with defects" in words(render(dataclasses.replace(report, left_out=17)))


def test_a_class_has_the_same_colour_in_table_map_and_gallery(report: Report):
    page = render(report)
    colour = class_colour(3).css
    assert f'fill="{colour}"' in page
    assert page.count(f"background:{colour}") >= 3


def test_frames_without_a_name_go_by_their_id(report: Report):
    page = render(dataclasses.replace(report, gallery=[entry(name=None)]))
    assert "<h3>camera.frames-0-1</h3>" in page


def test_rows_count_frames_and_pixels_by_class():
    rows = class_rows({1: "pits", 3: "scratches"}, [[defect(3, 100), defect(3, 50)], [defect(3, 7)], []], None)
    assert rows == [ClassRow(1, "pits", 0, 0, None), ClassRow(3, "scratches", 2, 157, None)]


def test_a_class_that_is_only_true_has_its_row():
    assert class_rows({}, [], {2: Counts(missed=1)}) == [ClassRow(2, "", 0, 0, Counts(missed=1))]


def test_pictures_are_made_small_enough_for_a_page():
    picture = encode_picture(np.full((256, 1600, 3), 90, np.uint8))
    assert (picture.width, picture.height) == (PICTURE_WIDTH, 205)
    decoded = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (205, PICTURE_WIDTH, 3)
    assert encode_picture(np.zeros((20, 50, 3), np.uint8)).width == 50
    assert picture.uri.startswith("data:image/webp;base64,")

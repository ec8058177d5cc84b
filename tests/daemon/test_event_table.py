"""Events as lines for people."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from daemon.deadletters import DeadFrame
from daemon.event_table import EventTable
from tests.support.defect_events import defect, event


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_heading_and_a_line_per_event(console: Console):
    table = EventTable(console)
    table.show(event([defect(3, None, "scratches"), defect(1, None)]))
    table.show(event())
    heading, first, second = lines(console)
    assert heading.split() == ["captured", "camera", "coil", "position", "frame", "defects"]
    assert first.split(maxsplit=6) == [
        "10:00:00.000",
        "cam-1",
        "C42",
        "1.234",
        "m",
        "f-1",
        "■ 3 scratches 0.93 1 px  ■ 1 pits 0.93 1 px",
    ]
    assert second.endswith("clean")


def test_what_is_not_known_is_left_blank_and_the_id_stands_for_the_name(console: Console):
    EventTable(console).show(event(frame=None, coil=None, position_mm=None))
    assert lines(console)[1].split() == ["10:00:00.000", "cam-1", "camera.frames-0-1", "clean"]


def test_columns_stay_in_line_whatever_the_names(console: Console):
    table = EventTable(console)
    table.show(event(camera="c" * 99, frame="f" * 99))
    table.show(event())
    positions = {line.index("clean") for line in lines(console)[1:]}
    assert len(positions) == 1


def test_nothing_from_a_header_steers_the_terminal(console: Console):
    table = EventTable(console)
    table.show(event([defect(3, None, "\x1b]0;owned\x07\nx")], camera="\x1b[31m", coil="[red]a[/red]"))
    table.show_dead(DeadFrame("id", "f\r1", "cam-1", "trunc\x1bated", "a\nb", 7))
    text = "\n".join(lines(console))
    assert "\x1b" not in text
    assert "[red]a[/red]" in text
    assert len(lines(console)) == 3


def test_a_dead_frame_has_its_reason(console: Console):
    EventTable(console).show_dead(DeadFrame("camera.frames-0-7", None, "cam-1", "empty", "the record has no value", 0))
    line = lines(console)[1]
    assert line.split() == ["cam-1", "camera.frames-0-7", "✗", "empty:", "the", "record", "has", "no", "value"]

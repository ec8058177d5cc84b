"""The report page: one HTML file that needs nothing else, with pictures inside.

Everything that came from outside (header values, names, reasons) is escaped by the template engine, and the page
forbids itself every network access, so a report can be passed on and opened without a second thought.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import cv2
import jinja2
import numpy as np

from daemon.deadletters import DeadFrame
from daemon.events import EventDefect
from daemon.pictures.overlay import Picture
from daemon.pictures.palette import class_colour
from daemon.pictures.strip_map import StripFrame, lay_out
from daemon.scoring import Counts, total
from daemon.wording import named
from engines.results import Verdict

PICTURE_WIDTH = 1280
"""Widest picture in the page, in pixels: two stand side by side, and one is still sharp when it is enlarged."""

PICTURE_TEXT_SHARE = 0.0175
"""Height of letters in these pictures as a share of their width: legible where two stand side by side."""

WEBP_QUALITY = 75
"""Of pictures in the page: 20 to 50 KB each, with the texture of the steel still recognisable."""


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """An encoded image; ``width`` and ``height`` in pixels keep the page from jumping while it loads."""

    data: bytes
    media_type: Literal["image/webp", "image/jpeg", "image/png"]
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """A frame of the gallery.

    ``true_picture`` shows the true masks; it and ``counts`` are None where the truth is not known or, for the picture,
    has nothing to show. ``classes`` are those found and those truly there.
    """

    id: str
    frame: str | None
    camera: str
    coil: str | None
    position_mm: float | None
    captured_at: str
    verdict: Verdict
    defects: Sequence[EventDefect]
    classes: Sequence[int]
    picture: EncodedPicture
    true_picture: EncodedPicture | None = None
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A line of the table of classes. ``frames`` have at least one defect of it; ``counts`` is None without truth."""

    class_id: int
    name: str
    frames: int
    area_px: int
    counts: Counts | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows.

    ``strip`` holds all frames in the order in which they came, ``gallery`` those worth looking at; ``left_out`` more
    had no room. ``duration_s`` is from the first frame's arrival to the last verdict. ``engine`` and ``settings`` are
    shown as they are.
    """

    title: str
    source: str
    made_at: datetime
    taken: int
    clean: int
    defective: int
    dead: Sequence[DeadFrame]
    duration_s: float
    classes: Sequence[ClassRow]
    has_truth: bool
    strip: Sequence[StripFrame]
    gallery: Sequence[FrameEntry]
    engine: Mapping[str, str]
    settings: Mapping[str, str]
    left_out: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether every frame taken in has exactly one fate."""
        return self.taken == self.clean + self.defective + len(self.dead)

    @property
    def frames_per_second(self) -> float | None:
        """Throughput; None where the run took no time that could be measured."""
        return self.taken / self.duration_s if self.duration_s > 0 else None


def encode_picture(picture: Picture) -> EncodedPicture:
    """A picture, BGR uint8 ``[height, width, 3]``, small enough to stand in the page."""
    height, width = picture.shape[:2]
    if width > PICTURE_WIDTH:
        height, width = max(1, round(height * PICTURE_WIDTH / width)), PICTURE_WIDTH
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    _, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    return EncodedPicture(data.tobytes(), "image/webp", width, height)


def class_rows(
    names: Mapping[int, str], inspected: Iterable[Sequence[EventDefect]], counts: Mapping[int, Counts] | None
) -> list[ClassRow]:
    """One row per class that has a name, was found or is true. ``inspected`` holds the defects of each frame."""
    frames: Counter[int] = Counter()
    areas: Counter[int] = Counter()
    for defects in inspected:
        frames.update({defect.class_id for defect in defects})
        for defect in defects:
            areas[defect.class_id] += defect.area_px
    return [
        ClassRow(
            class_id,
            names.get(class_id, ""),
            frames[class_id],
            areas[class_id],
            None if counts is None else counts.get(class_id, Counts()),
        )
        for class_id in sorted({*names, *frames, *(counts or ())})
    ]


def render(report: Report) -> str:
    """The page, as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, counted=_counted, named=named, percent=_percent)
    environment.globals["class_colour"] = class_colour
    return environment.get_template("report.html.j2").render(
        report=report,
        sums=total({row.class_id: row.counts for row in report.classes if row.counts}),
        strip=lay_out(report.strip),
        reasons=Counter(frame.reason for frame in report.dead).most_common(),
    )


def _number(value: float, digits: int = 0) -> str:
    """With a thin space between thousands, which no country reads as a decimal sign."""
    return f"{value:,.{digits}f}".replace(",", "\u2009")


def _counted(number: int, what: str) -> str:
    """As :func:`daemon.wording.counted`, with the spaces of :func:`_number`."""
    return f"{_number(number)} {named(number, what)}"


def _percent(share: float | None) -> str:
    return "\N{EN DASH}" if share is None else f"{100 * share:.0f} %"

"""A run's report from its frames, its verdicts and, where there is one, the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from daemon.events import DefectEvent
from daemon.frames import Frame
from daemon.pictures.files import PictureFolder
from daemon.pictures.marks import event_marks, event_masks, truth_marks
from daemon.pictures.overlay import Grey, draw
from daemon.pictures.report import (
    PICTURE_TEXT_SHARE,
    FrameEntry,
    Report,
    class_rows,
    encode_picture,
)
from daemon.pictures.strip_map import Outcome, Region, StripFrame
from daemon.scoring import FrameScore, count_by_class, score_frame, total
from daemon.truth import TruthTable
from daemon.verdicts import Verdicts
from engines import rle
from engines.results import Box
from engines.rle import Mask

MAX_GALLERY = 150
"""Frames shown in the page: with two pictures each it stays near 10 MB, which every browser opens at once."""

Masks = Mapping[int, Mask]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a report tells beside the frames. ``names`` are those of the classes."""

    title: str
    source: str
    made_at: datetime
    taken: int
    duration_s: float
    names: Mapping[int, str]
    engine: Mapping[str, str]
    settings: Mapping[str, str]


@dataclass(slots=True)
class _Collected:
    strip: list[StripFrame] = field(default_factory=list)
    gallery: list[FrameEntry] = field(default_factory=list)
    scores: list[FrameScore] = field(default_factory=list)
    left_out: int = 0


class ReportBuilder:
    """Collects a run frame by frame: pictures into a folder, the rest for the page."""

    def __init__(
        self,
        facts: RunFacts,
        verdicts: Verdicts,
        truth: TruthTable | None,
        decode: Callable[[Frame], Grey],
        pictures: Path,
    ) -> None:
        """``decode`` makes the pixels of a frame that was inspected; ``pictures`` is the folder to write to."""
        self._facts = facts
        self._verdicts = verdicts
        self._truth = truth
        self._decode = decode
        self._pictures = PictureFolder(pictures)

    def build(self, frames: Iterable[Frame]) -> Report:
        """The report of the frames, which come in the order of their arrival.

        Raises :class:`engines.errors.UsageError` where a picture cannot be written or a true mask does not fit.
        """
        collected = _Collected()
        for frame in frames:
            event = self._verdicts.events.get(frame.meta.id)
            if event is not None:
                self._inspected(frame, event, collected)
            elif frame.meta.id in self._verdicts.dead:
                collected.strip.append(self._dead(frame))
        facts = self._facts
        counts = None if self._truth is None else count_by_class(collected.scores)
        inspected = (event.defects for event in self._verdicts.events.values())
        return Report(
            title=facts.title,
            source=facts.source,
            made_at=facts.made_at,
            taken=facts.taken,
            clean=self._verdicts.clean,
            defective=self._verdicts.defective,
            dead=list(self._verdicts.dead.values()),
            duration_s=facts.duration_s,
            classes=class_rows(facts.names, inspected, counts),
            has_truth=self._truth is not None,
            strip=collected.strip,
            gallery=collected.gallery,
            engine=facts.engine,
            settings=facts.settings,
            left_out=collected.left_out,
        )

    def _inspected(self, frame: Frame, event: DefectEvent, collected: _Collected) -> None:
        found = event_masks(event)
        truth: Masks = {}
        score = None
        if self._truth is not None:
            truth = self._truth.masks(event.frame, event.height, event.width)
            score = score_frame(found, truth)
            collected.scores.append(score)
        collected.strip.append(
            StripFrame(
                camera=event.camera,
                coil=event.coil,
                position_mm=event.position_mm,
                verdict=event.verdict,
                title=_title(event.frame, event.id),
                width=event.width,
                height=event.height,
                regions=tuple(self._regions(event, found, score)),
            )
        )
        if event.defects or truth:
            self._picture(frame, event, truth, score, collected)

    def _dead(self, frame: Frame) -> StripFrame:
        meta = frame.meta
        reason = self._verdicts.dead[meta.id].reason
        title = f"{_title(meta.frame_id, meta.id)}: {reason}"
        return StripFrame(meta.camera, meta.coil, meta.position_mm, "dead", title)

    def _regions(self, event: DefectEvent, found: Masks, score: FrameScore | None) -> Iterator[Region]:
        """What was found, in connected regions, and what was missed."""
        invented = set() if score is None else {(region.class_id, region.box) for region in score.invented}
        for class_id, mask in found.items():
            for region in rle.regions(np.ascontiguousarray(mask.T)):
                outcome: Outcome = "unrated"
                if score is not None:
                    outcome = "invented" if (class_id, region.box) in invented else "found"
                yield self._region(event, class_id, region.box, region.area_px, outcome)
        for true in score.true_regions if score is not None else ():
            if not true.found:
                yield self._region(event, true.class_id, true.box, true.area_px, "missed")

    def _region(self, event: DefectEvent, class_id: int, box: Box, area_px: int, outcome: Outcome) -> Region:
        what = f"{class_id} {self._facts.names.get(class_id, '')}".rstrip()
        rating = "" if outcome == "unrated" else f", {outcome}"
        return Region(class_id, box, outcome, f"{_title(event.frame, event.id)}: {what}, {area_px} px{rating}")

    def _picture(
        self, frame: Frame, event: DefectEvent, truth: Masks, score: FrameScore | None, collected: _Collected
    ) -> None:
        pixels = self._decode(frame)
        marks, true_marks = event_marks(event), truth_marks(truth, self._facts.names)
        self._pictures.save(_title(event.frame, event.id), draw(pixels, marks, true_marks))
        if len(collected.gallery) >= MAX_GALLERY:
            collected.left_out += 1
            return
        true_picture = draw(pixels, (), true_marks, text_share=PICTURE_TEXT_SHARE) if true_marks else None
        collected.gallery.append(
            FrameEntry(
                id=event.id,
                frame=event.frame,
                camera=event.camera,
                coil=event.coil,
                position_mm=event.position_mm,
                captured_at=event.captured_at,
                verdict=event.verdict,
                defects=event.defects,
                classes=sorted({*truth, *(defect.class_id for defect in event.defects)}),
                picture=encode_picture(draw(pixels, marks, text_share=PICTURE_TEXT_SHARE)),
                true_picture=None if true_picture is None else encode_picture(true_picture),
                counts=None if score is None else total(count_by_class([score])),
            )
        )


def _title(frame: str | None, frame_id: str) -> str:
    return frame or frame_id

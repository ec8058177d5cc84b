"""The frames of a bench run: recorded ones, clean and defective in the wanted proportion."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from daemon.frames import Frame, Headers, frame_of
from daemon.truth import read_truth
from engines.errors import UsageError
from engines.recording import RecordedFrame, read_recording

SEED = 1


@dataclass(frozen=True, slots=True)
class Workload:
    """Recorded frames to be sent or inspected again and again, in an order that is the same for every run."""

    clean: Sequence[RecordedFrame]
    defective: Sequence[RecordedFrame]
    defect_rate: float

    def frames(self, count: int) -> list[RecordedFrame]:
        """``count`` frames, of which ``defect_rate`` are defective, at random places among the clean ones."""
        defective = round(count * self.defect_rate)
        places = [True] * defective + [False] * (count - defective)
        random.Random(SEED).shuffle(places)
        sources: dict[bool, Iterator[RecordedFrame]] = {True: cycle(self.defective), False: cycle(self.clean)}
        return [next(sources[place]) for place in places]


def read_workload(recording: Path, truth: Path, defect_rate: float) -> Workload:
    """The frames of a recording, told apart by the table of their true masks.

    Raises :class:`UsageError` where a file cannot be read, or the recording has none of the frames that are asked for.
    """
    recorded = list(read_recording(recording))
    table = read_truth(truth)
    clean: list[RecordedFrame] = []
    defective: list[RecordedFrame] = []
    for frame in recorded:
        (defective if table.classes(frame.header("frame-id")) else clean).append(frame)
    for kind, frames, wanted in (("defective", defective, defect_rate > 0), ("clean", clean, defect_rate < 1)):
        if wanted and not frames:
            raise UsageError(f"{recording}: none of its frames is {kind} by {truth}: choose another --defect-rate")
    return Workload(clean, defective, defect_rate)


@dataclass(slots=True)
class _Record:
    """A recorded frame as a consumer would hand it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def as_read(recorded: Sequence[RecordedFrame]) -> list[Frame]:
    """The frames as the daemon's source would make them of records."""
    return [
        frame_of(_Record("bench", 0, number, frame.timestamp, frame.key, frame.value, list(resent_headers(frame))))
        for number, frame in enumerate(recorded)
    ]


def resent_headers(frame: RecordedFrame) -> Headers:
    """The headers with which a recorded frame is sent again."""
    return tuple((name, value or b"") for name, value in frame.headers)

"""Write a demonstration recording of generated strips, with the truth beside it.

``python -m training.recording --seed N --frames 80 --defective 40 --output DIR`` writes ``DIR/recording.parquet``
(camera records as the daemon reads them) and ``DIR/truth.csv`` (``ImageId,ClassId,EncodedPixels``, one row for each
frame and class that is present).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
from crc32c import crc32c

from engines.errors import UsageError
from engines.recording import RecordedFrame, write_recording
from engines.rle import encode
from training.strips import Strip, StripGenerator

# A made-up morning at a made-up mill: the recording must not change with the day on which it is written.
START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
INTERVAL = timedelta(milliseconds=25)

CAMERAS = 2
FRAMES_PER_COIL = 40

# 256 rows at 1.25 mm each: the strip moves on by one frame's length between two pictures of a camera.
FRAME_LENGTH_MM = 320

JPEG_QUALITY = 85

# The classes of successive defective frames. Each class takes part in at least a fifth of them, far more evenly than
# in nature: a demonstration has to show all four.
CLASS_CYCLE: tuple[tuple[int, ...], ...] = ((3,), (1,), (4,), (2,), (3,), (1,), (4,), (2,), (3, 4), (1, 2))


@dataclass(frozen=True)
class LabelledFrame:
    """One record and the strip that it shows."""

    frame_id: str
    record: RecordedFrame
    strip: Strip


def schedule(frames: int, defective: int, seed: int) -> list[tuple[int, ...]]:
    """Return the classes of each frame in order, () for a clean one; the defective ones are spread at random."""
    plan: list[tuple[int, ...]] = [CLASS_CYCLE[number % len(CLASS_CYCLE)] for number in range(defective)]
    plan += [()] * (frames - defective)
    order = np.random.default_rng(seed).permutation(frames)
    return [plan[index] for index in order]


def labelled_frames(seed: int, frames: int, defective: int) -> Iterator[LabelledFrame]:
    """Yield the frames of a recording; equal arguments give equal bytes."""
    generator = StripGenerator(seed)
    for index, classes in enumerate(schedule(frames, defective, seed)):
        strip = generator.frame(classes=classes) if classes else generator.frame(defective=False)
        encoded = cv2.imencode(".jpg", strip.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        camera = index % CAMERAS
        captured = START + index * INTERVAL
        coil, place = divmod(index, FRAMES_PER_COIL)
        frame_id = f"strip-{index + 1:04d}"
        headers = {
            "frame-id": frame_id,
            "coil-id": f"coil-{coil + 1:03d}",
            "position-mm": str(place // CAMERAS * FRAME_LENGTH_MM),
            "captured-at": captured.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "content-type": "image/jpeg",
            "crc32c": f"{crc32c(encoded):08x}",
        }
        record = RecordedFrame(
            key=f"cam-{camera + 1}".encode(),
            value=encoded,
            headers=tuple((name, value.encode()) for name, value in headers.items()),
            timestamp=int(captured.timestamp() * 1000),
            partition=camera,
            offset=index // CAMERAS,
        )
        yield LabelledFrame(frame_id, record, strip)


def write(output: Path, seed: int, frames: int, defective: int) -> None:
    """Write ``recording.parquet`` and ``truth.csv`` into the folder `output`, which is made if it is missing.

    Raises UsageError if there are to be more defective frames than frames.
    """
    if not 0 <= defective <= frames:
        raise UsageError(f"--defective {defective}: choose a number from 0 to --frames {frames}")
    output.mkdir(parents=True, exist_ok=True)
    with (output / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        truth = csv.writer(file, lineterminator="\n")
        truth.writerow(("ImageId", "ClassId", "EncodedPixels"))

        def records() -> Iterator[RecordedFrame]:
            for labelled in labelled_frames(seed, frames, defective):
                for class_id in labelled.strip.classes:
                    truth.writerow((labelled.frame_id, class_id, encode(labelled.strip.masks[class_id - 1])))
                yield labelled.record

        write_recording(output / "recording.parquet", records())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write a recording of generated strips and its truth")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--defective", type=int, default=40)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        write(options.output, options.seed, options.frames, options.defective)
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""True masks of frames, from a table as Kaggle's Severstal task has it: ``ImageId,ClassId,EncodedPixels``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engines import rle
from engines.errors import UsageError

_COLUMNS = ("ImageId", "ClassId", "EncodedPixels")


@dataclass(frozen=True, slots=True)
class TruthTable:
    """Run lengths of the true masks: by frame, then by class. Frames are known by name and by name without suffix."""

    path: Path
    _runs: Mapping[str, Mapping[int, str]]

    def __len__(self) -> int:
        """How many frames the table names."""
        return len(self._runs)

    def classes(self, name: str | None) -> frozenset[int]:
        """The classes that a frame or file of this name truly carries; none where the table does not name it."""
        return frozenset(self._runs.get(_stem(name), ()) if name else ())

    def masks(self, name: str | None, height: int, width: int) -> dict[int, rle.Mask]:
        """The true masks, uint8 0/1 ``[height, width]`` by class, of a frame or file of this name.

        A frame that the table does not name has no defect, as in Kaggle's own table. Raises :class:`UsageError` where a
        mask does not fit into the frame.
        """
        runs = self._runs.get(_stem(name), {}) if name else {}
        masks = {}
        for class_id, text in sorted(runs.items()):
            try:
                masks[class_id] = rle.decode(text, height, width)
            except UsageError as error:
                raise UsageError(f"{self.path}: {name}, class {class_id}: {error}") from None
        return masks


def read_truth(path: Path) -> TruthTable:
    """The table of a CSV file. Raises :class:`UsageError` where it is missing or malformed.

    A row without pixels says that the frame has no defect of that class.
    """
    frames: dict[str, dict[int, str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
            if missing:
                raise UsageError(f"{path}: not a table of true masks: column {missing[0]!r} is missing")
            for row in rows:
                masks = frames.setdefault(_stem(row["ImageId"] or ""), {})
                if row["EncodedPixels"]:
                    where = f"{path}:{rows.line_num}"
                    class_id = _class_id(row["ClassId"], where)
                    if class_id in masks:
                        # The later one would silently win, and true defects be gone.
                        raise UsageError(
                            f"{where}: {row['ImageId']} has class {class_id} twice: write one mask per class"
                        )
                    masks[class_id] = row["EncodedPixels"]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such table of true masks") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not a table of true masks ({error})") from None
    return TruthTable(path, frames)


def _class_id(text: str | None, where: str) -> int:
    if text is None or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{where}: class {text!r} is not a number from 1")
    return int(text)


def _stem(name: str) -> str:
    # Only the last part and only one suffix: "C42/0123.png" and "0123.jpg" are the same frame, "f.1" and "f.2" are not.
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in _IMAGE_SUFFIXES else path.name


_IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"})

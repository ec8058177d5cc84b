"""Compare generated strips with real ones by what can be measured without a label.

``python -m training.strips.statistics [--frames N] [--seed N] [--real DIR]`` prints the 10th, 50th and 90th
percentile over frames of each figure, for the generated frames and for the PNG or JPEG frames of a folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from engines.errors import UsageError
from training.strips.generator import StripGenerator

Image = npt.NDArray[np.float32]

# A column of the frame belongs to the strip if its mean exceeds this grey level; the gap beside a coil is darker.
GAP_LEVEL = 20.0


def strip_part(image: npt.NDArray[np.uint8]) -> Image:
    """Return the columns of a frame that show steel, float32 [256, n]; n may be 0."""
    return image[:, image.mean(axis=0) > GAP_LEVEL].astype(np.float32)


def lighting_ratio(strip: Image) -> float:
    """Mean of the lowest 32 rows over the mean of the highest 32."""
    return float(strip[-32:].mean() / strip[:32].mean())


def column_ratio(strip: Image) -> float:
    """Brightest over darkest column after averaging over 61 columns."""
    columns = cv2.blur(strip.mean(axis=0)[None], (61, 1))[0]
    return float(columns.max() / columns.min())


def column_deviation(strip: Image) -> float:
    """Spread of the columns about their mean over 61 columns, in percent."""
    columns = strip.mean(axis=0)
    return float(100 * (columns / cv2.blur(columns[None], (61, 1))[0] - 1).std())


def grain(strip: Image) -> float:
    """Median over 32x32 tiles of a pixel's spread about its 5x5 surroundings, in percent of the tile's brightness."""
    residue = (strip / np.maximum(cv2.blur(strip, (5, 5)), 1.0) - 1)[:, : strip.shape[1] // 32 * 32]
    tiles = residue.reshape(strip.shape[0] // 32, 32, -1, 32)
    return float(100 * np.median(tiles.std(axis=(1, 3))))


def spectrum_slope(strip: Image, axis: int) -> float:
    """Slope of log power over log frequency along `axis`, fitted from 0.02 to 0.4 cycles per pixel."""
    detail = strip - cv2.blur(strip, (101, 101))
    count = strip.shape[axis]
    window = np.hanning(count).reshape((-1, 1) if axis == 0 else (1, -1))
    power = (np.abs(np.fft.rfft(detail * window, axis=axis)) ** 2).mean(axis=1 - axis)
    frequency = np.fft.rfftfreq(count)
    used = (frequency > 0.02) & (frequency < 0.4)
    return float(np.polyfit(np.log(frequency[used]), np.log(power[used] + 1e-9), 1)[0])


def neighbour_correlation(strip: Image, axis: int) -> float:
    """Correlation of fine detail (about a mean over 31x31) with itself one pixel further along `axis`."""
    detail = strip - cv2.blur(strip, (31, 31))
    first, second = (detail[:-1], detail[1:]) if axis == 0 else (detail[:, :-1], detail[:, 1:])
    return float((first * second).mean() / (detail**2).mean())


FIGURES: dict[str, Callable[[Image], float]] = {
    "mean, grey levels": lambda strip: float(strip.mean()),
    "standard deviation, grey levels": lambda strip: float(strip.std()),
    "lighting, bottom over top": lighting_ratio,
    "columns, brightest over darkest": column_ratio,
    "column deviation, %": column_deviation,
    "grain, %": grain,
    "spectrum slope across the strip": lambda strip: spectrum_slope(strip, 1),
    "spectrum slope down the strip": lambda strip: spectrum_slope(strip, 0),
    "neighbour correlation across": lambda strip: neighbour_correlation(strip, 1),
    "neighbour correlation down": lambda strip: neighbour_correlation(strip, 0),
    "saturated pixels, %": lambda strip: float(100 * (strip >= 254).mean()),
}


def percentiles(images: Iterable[npt.NDArray[np.uint8]]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the 10th, 50th and 90th percentile of every figure; frames with less than 200 columns are left out."""
    strips = [strip for strip in map(strip_part, images) if strip.shape[1] >= 200]
    return {name: np.percentile([figure(strip) for strip in strips], (10, 50, 90)) for name, figure in FIGURES.items()}


def read_frames(folder: Path) -> list[npt.NDArray[np.uint8]]:
    """Return all PNG and JPEG frames of `folder` as grey images. Raises UsageError if there are none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".png", ".jpg"))
    if not paths:
        raise UsageError(f"{folder}: no PNG or JPEG frame in this folder")
    return [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8) for path in paths]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Statistics of generated strips, beside real ones")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, help="folder of real frames")
    options = parser.parse_args()
    generator = StripGenerator(options.seed)
    columns = {"generated": percentiles(generator.frame().image for _ in range(options.frames))}
    if options.real is not None:
        columns["real"] = percentiles(read_frames(options.real))
    print(f"{'10 / 50 / 90 %':34}" + "".join(f"{name:>24}" for name in columns))
    for figure in FIGURES:
        cells = (" / ".join(f"{value:.2f}" for value in column[figure]) for column in columns.values())
        print(f"{figure:34}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()

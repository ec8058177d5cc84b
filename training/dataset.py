"""Frames with masks to learn from: one small interface, generated shards behind it, and what is cut from them.

Training reads nothing but :class:`FrameSet`. A generated set is built once, by several processes, into shards on disk;
each shard has a seed of its own, so a set is the same whatever the number of processes. Frames are kept as JPEG of
varying quality, because that is how frames reach the line: the networks learn to live with its artefacts.
"""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from training.strips import Strip, StripGenerator

HEIGHT, WIDTH, CLASSES = 256, 1600, 4
CELL = 16
BLOCK = 4
"""Side of the block of pixels that one position of a segmenter's last map decides."""

Image = NDArray[np.uint8]
Masks = NDArray[np.uint8]
Purpose = Literal["training", "validation"]

SHARD_FRAMES = 200
_PURPOSES: tuple[Purpose, ...] = ("training", "validation")

_NOISE = np.random.default_rng(0).standard_normal((256, 4096), np.float32)
"""Sensor noise, of which :func:`degrade` cuts pieces: drawn anew for every frame it would cost more than the rest."""

# What a training shard is made of: None a clean frame, () a defective one of the natural mix, else exactly these
# classes. Natural frequencies alone would show class 2 in 2 of 100 frames.
_RECIPE: tuple[tuple[tuple[int, ...] | None, float], ...] = (
    (None, 0.45),
    ((), 0.21),
    ((1,), 0.10),
    ((2,), 0.10),
    ((3,), 0.05),
    ((4,), 0.09),
)


class FrameSet(Protocol):
    """Frames of 256 x 1600 pixels with the masks of four classes."""

    @property
    def cover(self) -> NDArray[np.uint8]:
        """How much of each cell each class covers, uint8 ``[frames, 4, 16, 100]``, 0 nothing to 255 all."""

    def __len__(self) -> int: ...

    def image(self, number: int) -> Image:
        """The frame, uint8 ``[256, 1600]``."""

    def masks(self, number: int) -> Masks:
        """Its masks, uint8 0/1 ``[4, 256, 1600]``; class k in plane k - 1."""


def labels(frames: FrameSet) -> NDArray[np.bool_]:
    """Which classes each frame carries, bool ``[frames, 4]``."""
    return np.asarray(frames.cover.any(axis=(2, 3)))


@dataclass(frozen=True)
class GeneratedFrames:
    """A generated set, held in memory as compressed frames and masks."""

    pictures: tuple[bytes, ...]
    outlines: tuple[bytes, ...]
    cover: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, number: int) -> Image:
        """The frame, uint8 ``[256, 1600]``."""
        picture = cv2.imdecode(np.frombuffer(self.pictures[number], np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        return np.asarray(picture, np.uint8)

    def masks(self, number: int) -> Masks:
        """Its masks, uint8 0/1 ``[4, 256, 1600]``."""
        packed = np.frombuffer(zlib.decompress(self.outlines[number]), np.uint8)
        return np.unpackbits(packed).reshape(CLASSES, HEIGHT, WIDTH)


def shard_seed(seed: int, purpose: Purpose, shard: int) -> int:
    """The generator's seed for one shard; sets of different purposes never share one."""
    sequence = np.random.SeedSequence([seed, _PURPOSES.index(purpose), shard])
    return int(sequence.generate_state(1, np.uint64)[0])


def generate(
    folder: Path,
    purpose: Purpose,
    frames: int,
    seed: int,
    processes: int,
    report: Callable[[int, int], None],
) -> GeneratedFrames:
    """Build the shards that ``folder`` does not yet hold and load the set.

    ``frames`` is rounded up to whole shards of 200. ``report`` is called with the shards done and their total after
    each that had to be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-frames // SHARD_FRAMES)
    paths = [folder / f"{purpose}-{seed}-{shard:03}.npz" for shard in range(shards)]
    missing = [shard for shard, path in enumerate(paths) if not path.exists()]
    done = shards - len(missing)
    # Not forked: the parent may already run threads of torch.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_write_shard, paths[shard], shard_seed(seed, purpose, shard)) for shard in missing]
        for job in as_completed(jobs):
            job.result()
            done += 1
            report(done, shards)
    return _load(paths)


def vary(image: Image, rng: np.random.Generator) -> Image:
    """The frame under another exposure: gain, contrast and gamma at random, through one table of 256 grey levels."""
    grey = np.arange(256, dtype=np.float64) / 255
    middle = float(image.mean()) / 255 + 1e-3
    grey = middle * (grey / middle) ** np.exp(rng.normal(0.0, 0.12))
    grey = (grey - middle) * np.exp(rng.normal(0.0, 0.15)) + middle
    table = np.clip(grey * np.exp(rng.normal(0.0, 0.22)) * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """The frame through another camera: unevenly lit, perhaps out of focus, perhaps noisy, and exposed anew.

    For the gate, which must rank frames of cameras that the generator knows nothing of: what it cannot count on in
    these, it does not learn to count on.
    """
    height, width = image.shape
    if rng.random() < 0.5:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2)), np.uint8)
    patches = rng.normal(1.0, 0.07, (3, 9)).astype(np.float32)
    grey = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    grey *= image
    if rng.random() < 0.5:
        left = int(rng.integers(_NOISE.shape[1] - width))
        grey += np.float32(rng.uniform(1.0, 6.0)) * _NOISE[:height, left : left + width]
    return vary(np.clip(grey, 0, 255).astype(np.uint8), rng)


@dataclass(frozen=True, slots=True)
class StripBatch:
    """Whole frames: ``images`` uint8 ``[b, 256, 1600]`` and the ``cover`` of their cells, uint8 ``[b, 4, 16, 100]``."""

    images: Image
    cover: NDArray[np.uint8]


def strip_batches(
    frames: FrameSet,
    chances: NDArray[np.float64],
    size: int,
    rng: np.random.Generator,
    alter: Callable[[Image, np.random.Generator], Image],
) -> Iterator[StripBatch]:
    """Endless batches of frames that ``alter`` changed, drawn with the ``chances`` of each, half of them mirrored."""
    chances = chances / chances.sum()
    while True:
        numbers = rng.choice(len(frames), size, p=chances)
        images = np.stack([alter(frames.image(int(number)), rng) for number in numbers])
        cover = frames.cover[numbers]
        for row in np.flatnonzero(rng.random(size) < 0.5):
            images[row] = images[row, :, ::-1]
            cover[row] = cover[row, :, :, ::-1]
        yield StripBatch(images, cover)


@dataclass(frozen=True, slots=True)
class CropBatch:
    """Pieces of frames and their masks, in the order of a segmenter's last map.

    ``images`` uint8 ``[b, 256, width]``; ``blocks`` uint8 0/1 ``[b, maps * 16, 64, width / 4]``: channel
    ``16 k + 4 y + x`` holds pixel (y, x) of each 4 x 4 block of class k + 1.
    """

    images: Image
    blocks: NDArray[np.uint8]


def to_blocks(masks: Masks) -> NDArray[np.uint8]:
    """The inverse of sub-pixel enlargement: ``[k, h, w]`` to ``[16 k, h / 4, w / 4]``."""
    maps, height, width = masks.shape
    blocks = masks.reshape(maps, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(0, 2, 4, 1, 3)
    return blocks.reshape(maps * BLOCK * BLOCK, height // BLOCK, width // BLOCK)


def crop_batches(
    frames: FrameSet,
    chosen: tuple[int, ...],
    centres: tuple[int, ...],
    size: int,
    width: int,
    elsewhere: float,
    rng: np.random.Generator,
) -> Iterator[CropBatch]:
    """Endless crops of full height with the masks of the ``chosen`` classes (0 to 3).

    Crops are cut around defects of the classes in ``centres``, drawn evenly: one that stands there twice is drawn twice
    as often. A share ``elsewhere`` is cut from anywhere in any frame. Both show a network what it must leave alone.
    """
    present = labels(frames)
    carriers = {index: np.flatnonzero(present[:, index]) for index in set(centres)}
    planes = list(chosen)
    while True:
        images = np.empty((size, HEIGHT, width), np.uint8)
        blocks = np.empty((size, len(planes) * BLOCK * BLOCK, HEIGHT // BLOCK, width // BLOCK), np.uint8)
        for row in range(size):
            if rng.random() < elsewhere:
                number = int(rng.integers(len(frames)))
                left = int(rng.integers(WIDTH - width + 1))
            else:
                index = centres[int(rng.integers(len(centres)))]
                number = int(rng.choice(carriers[index]))
                columns = np.flatnonzero(frames.cover[number, index].any(axis=0))
                middle = CELL * int(rng.choice(columns))
                left = int(np.clip(middle - rng.integers(width), 0, WIDTH - width))
            image = vary(frames.image(number), rng)[:, left : left + width]
            masks = frames.masks(number)[planes, :, left : left + width]
            if rng.random() < 0.5:
                image, masks = image[:, ::-1], masks[:, :, ::-1]
            images[row] = image
            blocks[row] = to_blocks(masks)
        yield CropBatch(images, blocks)


def _write_shard(path: Path, seed: int) -> None:
    cv2.setNumThreads(1)
    generator = StripGenerator(seed)
    rng = np.random.default_rng(seed)
    pictures, outlines, cover = [], [], []
    for _ in range(SHARD_FRAMES):
        strip = _draw(generator, rng)
        quality = int(rng.integers(70, 99))
        written, picture = cv2.imencode(".jpg", strip.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert written
        pictures.append(picture.tobytes())
        outlines.append(zlib.compress(np.packbits(strip.masks).tobytes(), 1))
        cells = strip.masks.reshape(CLASSES, HEIGHT // CELL, CELL, WIDTH // CELL, CELL)
        # At least 1 wherever there is a pixel, so that presence survives the rounding.
        cover.append(np.ceil(cells.mean(axis=(2, 4)) * 255).astype(np.uint8))
    part = path.with_suffix(".part.npz")
    arrays: dict[str, Any] = {**_joined("pictures", pictures), **_joined("outlines", outlines)}
    np.savez(part, cover=np.stack(cover), **arrays)
    part.replace(path)


def _draw(generator: StripGenerator, rng: np.random.Generator) -> Strip:
    kinds, weights = zip(*_RECIPE, strict=True)
    kind = kinds[int(rng.choice(len(kinds), p=weights))]
    if kind is None:
        return generator.frame(defective=False)
    return generator.frame(defective=True, classes=kind or None)


def _joined(name: str, items: list[bytes]) -> dict[str, NDArray[np.generic]]:
    ends = np.cumsum([len(item) for item in items])
    return {name: np.frombuffer(b"".join(items), np.uint8), f"{name}_ends": ends}


def _load(paths: list[Path]) -> GeneratedFrames:
    pictures: list[bytes] = []
    outlines: list[bytes] = []
    cover = []
    for path in paths:
        with np.load(path) as shard:
            cover.append(shard["cover"])
            for name, items in (("pictures", pictures), ("outlines", outlines)):
                joined, start = shard[name].tobytes(), 0
                for end in shard[f"{name}_ends"].tolist():
                    items.append(joined[start:end])
                    start = end
    return GeneratedFrames(tuple(pictures), tuple(outlines), np.concatenate(cover))

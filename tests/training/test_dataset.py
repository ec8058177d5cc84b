from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from training import dataset
from training.dataset import (
    GeneratedFrames,
    crop_batches,
    degrade,
    generate,
    labels,
    shard_seed,
    strip_batches,
    to_blocks,
    vary,
)
from training.strips import Strip


def frames_with_squares() -> GeneratedFrames:
    """Frame k - 1 carries a bright square of class k at column 300 k; frame 4 is clean."""
    pictures, outlines, cover = [], [], []
    for number in range(5):
        image = np.full((256, 1600), 90, np.uint8)
        masks = np.zeros((4, 256, 1600), np.uint8)
        if number < 4:
            left = 300 * (number + 1)
            image[96:128, left : left + 32] = 200
            masks[number, 96:128, left : left + 32] = 1
        pictures.append(cv2.imencode(".png", image)[1].tobytes())
        outlines.append(zlib.compress(np.packbits(masks).tobytes()))
        cells = masks.reshape(4, 16, 16, 100, 16).mean(axis=(2, 4))
        cover.append(np.ceil(cells * 255).astype(np.uint8))
    return GeneratedFrames(tuple(pictures), tuple(outlines), np.stack(cover))


def test_seeds_differ_between_shards_purposes_and_runs() -> None:
    seeds = {
        shard_seed(seed, purpose, shard)
        for seed in (1, 2)
        for purpose in ("training", "validation")
        for shard in range(50)
    }
    assert len(seeds) == 200


@dataclass
class Squares:
    """Stands in for the generator: frames cheap enough for a test."""

    seed: int

    def frame(self, defective: bool | None = None, classes: tuple[int, ...] | None = None) -> Strip:
        image = np.full((256, 1600), self.seed % 200, np.uint8)
        masks = np.zeros((4, 256, 1600), np.uint8)
        for number in classes or ((3,) if defective else ()):
            masks[number - 1, 10:20, 10:20] = 1
        return Strip(image, masks, "plain")


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "StripGenerator", Squares)
    monkeypatch.setattr(dataset, "SHARD_FRAMES", 12)


def test_a_shard_keeps_frames_masks_and_cover(tmp_path: Path, cheap: None) -> None:
    path = tmp_path / "training-1-000.npz"
    dataset._write_shard(path, shard_seed(1, "training", 0))
    reports: list[tuple[int, int]] = []
    frames = generate(tmp_path, "training", 12, 1, 1, lambda done, total: reports.append((done, total)))
    assert reports == []
    assert len(frames) == 12
    assert abs(int(frames.image(3)[0, 0]) - shard_seed(1, "training", 0) % 200) <= 2
    for number in range(12):
        masks = frames.masks(number)
        assert masks.shape == (4, 256, 1600)
        np.testing.assert_array_equal(masks.any(axis=(1, 2)), labels(frames)[number])
    assert labels(frames).any()
    assert not labels(frames).all(axis=0).any()


def test_crops_show_the_chosen_class_and_its_mask() -> None:
    batch = next(crop_batches(frames_with_squares(), (1,), (1,), 6, 384, 0.0, np.random.default_rng(0)))
    assert batch.images.shape == (6, 256, 384)
    assert batch.blocks.shape == (6, 16, 64, 96)
    for image, blocks in zip(batch.images, batch.blocks, strict=True):
        mask = blocks.reshape(4, 4, 64, 96).transpose(2, 0, 3, 1).reshape(256, 384)
        assert 0 < mask.sum() <= 32 * 32
        assert image[mask > 0].min() > image[mask == 0].max()


def test_crops_around_other_classes_show_them_without_a_mask() -> None:
    frames = frames_with_squares()
    others = tuple(index for index in range(4) if index != 1 and labels(frames)[:, index].any())
    batch = next(crop_batches(frames, (1,), others, 6, 384, 0.0, np.random.default_rng(0)))
    assert not batch.blocks.any()
    assert all(image.max() > image.min() for image in batch.images)


def test_blocks_hold_the_pixels_of_four_by_four() -> None:
    masks = np.random.default_rng(1).integers(0, 2, (2, 8, 12)).astype(np.uint8)
    blocks = to_blocks(masks)
    assert blocks.shape == (32, 2, 3)
    assert blocks[16 + 4 * 3 + 1, 1, 2] == masks[1, 4 + 3, 8 + 1]


def test_mirrored_strips_keep_their_cover_in_place() -> None:
    chances = np.array([1.0, 0, 0, 0, 0])
    batch = next(strip_batches(frames_with_squares(), chances, 16, np.random.default_rng(0), vary))
    columns = batch.cover[:, 0].any(axis=1).argmax(axis=1)
    assert set(columns.tolist()) == {18, 79}
    for image, column in zip(batch.images, columns, strict=True):
        assert image[100, 16 * column + 14] > image[100, 800]


def test_variation_keeps_the_order_of_grey_levels() -> None:
    image = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    for seed in range(20):
        varied = vary(image, np.random.default_rng(seed))
        assert (np.diff(varied[0].astype(int)) >= 0).all()
        assert np.ptp(varied) > 60


def test_degraded_frames_keep_their_size_and_show_the_same_strip() -> None:
    image = np.tile(np.linspace(40, 160, 1600).astype(np.uint8), (256, 1))
    for seed in range(20):
        degraded = degrade(image, np.random.default_rng(seed))
        assert degraded.shape == image.shape
        assert degraded.dtype == np.uint8
        assert np.corrcoef(image.ravel(), degraded.ravel())[0, 1] > 0.5
        assert not np.array_equal(image, degraded)

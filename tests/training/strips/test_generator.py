from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.strips import Strip, StripGenerator
from training.strips.generator import NATURAL_MIX
from training.strips.labels import SMALLEST_REGION_PX


@pytest.fixture(scope="module")
def generator() -> StripGenerator:
    return StripGenerator(17)


@pytest.fixture(scope="module")
def strips(generator: StripGenerator) -> list[Strip]:
    forced = [generator.frame(classes=(number,)) for number in (1, 2, 3, 4) for _ in range(4)]
    return forced + [generator.frame() for _ in range(8)]


def test_equal_seeds_give_equal_bytes() -> None:
    first, second = StripGenerator(5), StripGenerator(5)
    for classes in (None, (1,), (2, 3), None):
        one, other = first.frame(classes=classes), second.frame(classes=classes)
        assert one.image.tobytes() == other.image.tobytes()
        assert one.masks.tobytes() == other.masks.tobytes()
        assert one.kind == other.kind


def test_other_seeds_give_other_frames() -> None:
    assert not np.array_equal(StripGenerator(1).frame().image, StripGenerator(2).frame().image)


def test_a_generator_does_not_repeat_itself(generator: StripGenerator) -> None:
    assert not np.array_equal(generator.frame().image, generator.frame().image)


def test_shapes_and_types(strips: list[Strip]) -> None:
    for strip in strips:
        assert strip.image.shape == (256, 1600)
        assert strip.image.dtype == np.uint8
        assert strip.masks.shape == (4, 256, 1600)
        assert strip.masks.dtype == np.uint8
        assert strip.masks.max() <= 1


@pytest.mark.parametrize("classes", [(1,), (2,), (3,), (4,), (3, 4), (2, 1)])
def test_forced_classes_are_exactly_the_ones_present(generator: StripGenerator, classes: tuple[int, ...]) -> None:
    strip = generator.frame(classes=classes)
    assert strip.classes == tuple(sorted(classes))
    assert all(strip.masks[number - 1].any() for number in classes)


def test_clean_frames_have_empty_masks(generator: StripGenerator) -> None:
    for _ in range(5):
        strip = generator.frame(defective=False)
        assert strip.classes == ()
        assert not strip.masks.any()


def test_defective_frames_have_a_natural_mix(generator: StripGenerator) -> None:
    for _ in range(5):
        assert generator.frame(defective=True).classes in NATURAL_MIX


@pytest.mark.parametrize("classes", [(), (0,), (5,), (1, 7)])
def test_unknown_classes_are_refused(generator: StripGenerator, classes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="classes must be"):
        generator.frame(classes=classes)


def test_a_clean_frame_of_some_class_is_refused(generator: StripGenerator) -> None:
    with pytest.raises(ValueError, match="a clean frame has no classes"):
        generator.frame(defective=False, classes=(1,))


def test_no_region_is_a_crumb(strips: list[Strip]) -> None:
    for strip in strips:
        for number in strip.classes:
            _, _, stats, _ = cv2.connectedComponentsWithStats(strip.masks[number - 1], connectivity=8)
            # Enlarging from half the resolution rounds corners off, hence the tenth.
            assert stats[1:, cv2.CC_STAT_AREA].min() >= 0.9 * SMALLEST_REGION_PX[number]


def test_masks_of_different_classes_do_not_overlap(generator: StripGenerator) -> None:
    for classes in ((1, 2), (1, 3), (3, 4)):
        assert generator.frame(classes=classes).masks.sum(axis=0).max() == 1


def test_the_strip_outside_the_mask_looks_calmer_than_inside(generator: StripGenerator) -> None:
    """Fine detail inside a region exceeds that of the ring about it: somebody without the mask could find it too."""
    ratios = []
    for number in (1, 2, 3, 4):
        for _ in range(6):
            strip = generator.frame(classes=(number,))
            mask = strip.masks[number - 1]
            image = strip.image.astype(np.float32)
            detail = np.abs(cv2.blur(image, (3, 3)) - cv2.blur(image, (31, 31)))
            ring = cv2.dilate(mask, np.ones((41, 41), np.uint8)) & ~cv2.dilate(mask, np.ones((9, 9), np.uint8)) & 1
            ratios.append(float(detail[mask > 0].mean() / detail[ring > 0].mean()))
    assert np.median(ratios) > 1.5
    assert np.mean(np.array(ratios) > 1.1) > 0.9

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import UsageError
from training.strips import statistics


def white_noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 5, (256, 1600)).astype(np.float32)


def test_the_gap_beside_a_coil_is_left_out() -> None:
    frame = np.full((256, 1600), 90, np.uint8)
    frame[:, :400] = 3
    assert statistics.strip_part(frame).shape == (256, 1200)


def test_white_noise_has_a_flat_spectrum_and_no_memory() -> None:
    noise = white_noise()
    for axis in (0, 1):
        assert abs(statistics.spectrum_slope(noise, axis)) < 0.1
        assert abs(statistics.neighbour_correlation(noise, axis)) < 0.02
    assert statistics.grain(noise) == pytest.approx(4.9, abs=0.2)


def test_light_and_columns_are_measured() -> None:
    frame = white_noise() * np.linspace(0.8, 1.2, 256, dtype=np.float32)[:, None]
    assert statistics.lighting_ratio(frame) == pytest.approx(1.175 / 0.825, rel=0.02)
    frame = white_noise() * np.where(np.arange(1600) < 800, 1.0, 1.5).astype(np.float32)
    assert statistics.column_ratio(frame) == pytest.approx(1.5, rel=0.02)


def test_a_folder_without_frames_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no PNG or JPEG frame"):
        statistics.read_frames(tmp_path)

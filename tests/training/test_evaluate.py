from __future__ import annotations

import numpy as np
import pytest

from training.evaluate import auroc, auroc_interval


def test_auroc_counts_pairs_and_halves_ties() -> None:
    scores = np.array([0.9, 0.4, 0.4, 0.1])
    assert auroc(scores, np.array([True, True, False, False])) == pytest.approx(3.5 / 4)
    assert auroc(scores, np.array([False, False, True, True])) == pytest.approx(0.5 / 4)


def test_the_interval_holds_the_value_and_narrows_with_frames() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (10, 200):
        scores = np.concatenate((rng.normal(1.5, 1, count), rng.normal(0, 1, count)))
        defective = np.repeat([True, False], count)
        lower, upper = auroc_interval(scores, defective)
        assert lower <= auroc(scores, defective) <= upper
        widths.append(upper - lower)
    assert widths[1] < widths[0]

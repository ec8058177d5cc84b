from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training import networks, train  # noqa: E402
from training.losses import cell_loss, mask_loss  # noqa: E402
from training.train import Course  # noqa: E402


def test_cells_that_a_defect_only_touches_count_for_nothing() -> None:
    cover = torch.zeros(1, 1, 4, 4)
    cover[0, 0, 0, 0], cover[0, 0, 1, 1] = 0.9, 0.1
    logits = torch.zeros(1, 1, 4, 4)
    touched = logits.clone()
    touched[0, 0, 1, 1] = 5.0
    wrong = logits.clone()
    wrong[0, 0, 2, 2] = 5.0
    assert cell_loss(touched, cover) <= cell_loss(logits, cover)
    assert cell_loss(wrong, cover) > cell_loss(logits, cover)


def test_a_right_mask_costs_next_to_nothing() -> None:
    target = torch.zeros(2, 32, 8, 8)
    target[:, :16, 2:5, 2:5] = 1
    right = (target * 2 - 1) * 20
    assert mask_loss(right, target, 2).item() < 0.01
    assert mask_loss(-right, target, 2).item() > 1


def test_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    network = networks.Segmenter()
    images = np.random.default_rng(0).integers(60, 90, (2, 64, 64)).astype(np.uint8)
    images[:, 16:48, 16:48] += 100
    target = torch.zeros(2, 16, 16, 16)
    target[:, :, 4:12, 4:12] = 1
    lines: list[str] = []
    losses: list[float] = []

    def loss_of(batch: np.ndarray) -> torch.Tensor:
        loss = mask_loss(network.blocks(train.as_input(batch)), target, 1)
        losses.append(loss.item())
        return loss

    train.fit(network, iter([images] * 12), loss_of, Course(12, 2, 1e-2), lines.append)
    assert losses[-1] < 0.7 * losses[0]
    assert lines[0].startswith("step 12/12")
    assert not network.training

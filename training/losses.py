"""What the networks are punished for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SEEN = 0.2
"""Share of a cell that a defect covers from which the cell counts as defective."""


def cell_loss(logits: Tensor, cover: Tensor) -> Tensor:
    """Focal loss of cells (Lin et al., 2017, gamma 2), a scalar: most cells are clean and soon easy.

    ``logits`` and ``cover`` are float ``[batch, labels, h, w]``, cover in [0, 1]. Outlines have a margin, so a cell
    that a defect merely touches may show nothing of it: cells covered by less than 20 % count for neither side. The
    sum is divided by the number of defective cells.
    """
    target = (cover >= SEEN).float()
    counts = ((cover == 0) | (cover >= SEEN)).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    surprise = 1 - torch.exp(-entropy)
    return (counts * surprise.square() * entropy).sum() / target.sum().clamp(min=1)


def frame_loss(cells: Tensor, frames: Tensor, cover: Tensor, weight: float) -> Tensor:
    """Loss of a gate or classifier, a scalar: cells, and the frame's own score ``weight`` times.

    ``cells`` float ``[batch, labels, h, w]`` and ``frames`` float ``[batch, labels]`` are logits.
    """
    present = cover.amax(dim=(2, 3)).gt(0).float()
    return cell_loss(cells, cover) + weight * functional.binary_cross_entropy_with_logits(frames, present)


def mask_loss(logits: Tensor, target: Tensor, maps: int) -> Tensor:
    """Cross entropy plus one minus Dice of each class over the batch, a scalar.

    ``logits`` and ``target`` are float ``[batch, maps * 16, h, w]``, the layout of a segmenter's last map.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, target)
    batch, _, height, width = logits.shape
    shape = (batch, maps, -1, height, width)
    scores, target = torch.sigmoid(logits).reshape(shape), target.reshape(shape)
    shared = (scores * target).sum(dim=(0, 2, 3, 4))
    total = scores.sum(dim=(0, 2, 3, 4)) + target.sum(dim=(0, 2, 3, 4))
    loss: Tensor = entropy + (1 - (2 * shared + 1) / (total + 1)).mean()
    return loss

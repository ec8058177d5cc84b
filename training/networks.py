"""The networks of the reference cascade: a gate, a four-label classifier and one small U-Net a class.

All of them read strips at full resolution, ``float32 [batch, 1, height, width]`` with grey values scaled to [0, 1] and
both sides multiples of 32, and do most of their work at an eighth and a sixteenth of it: on a processor without matrix
units every operation counts, and the gate sees every frame of the line. For the same reason the bodies are depthwise
separable (Howard et al., "MobileNets", 2017): at these sizes a dense 3 x 3 convolution costs six times as much.

Defects are small against a frame, so gate and classifier do not average over it. They score every cell of 16 x 16
pixels, are supervised cell by cell, and pool the cells with a smooth maximum.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 4
CELL = 16
"""Side of a cell of the gate's and the classifier's score map, pixels."""

SIXTEENTH_CHANNELS = 96
"""Channels of the segmenters' map at a sixteenth of the size, from which the classifier reads its cells."""


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, ReLU; the size shrinks by ``stride``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None, groups: int = 1
    ) -> None:
        padding = kernel // 2 if padding is None else padding
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Shrink(nn.Sequential):
    """Half the size: a depthwise convolution of stride 2, then a mix of the channels to ``outputs``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(ConvBlock(inputs, inputs, 3, 2, groups=inputs), ConvBlock(inputs, outputs, 1))


class Mix(nn.Module):
    """Residual separable block: depthwise convolution, mix of the channels, the input added back."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.spread = ConvBlock(channels, channels, kernel, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, channels, h, w]`` to the same shape."""
        mixed: Tensor = functional.relu(x + self.norm(self.mix(self.spread(x))))
        return mixed


class Merge(nn.Module):
    """Brings a map of half the size and other channels back onto ``fine``, ``[batch, channels, h, w]``."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(coarse, fine, 1, bias=False)
        self.norm = nn.BatchNorm2d(fine)
        self.mix = Mix(fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """The merged map, of the shape of ``fine``."""
        raised = functional.interpolate(self.norm(self.project(coarse)), scale_factor=2.0, mode="nearest")
        return self.mix(functional.relu(fine + raised))


def mixes(count: int, channels: int, kernel: int = 3) -> list[nn.Module]:
    """``count`` residual blocks in a row."""
    return [Mix(channels, kernel) for _ in range(count)]


def smooth_max(cells: Tensor) -> Tensor:
    """Mean of the cells weighted by their own exponential, ``[batch, k, h, w]`` to ``[batch, k]``.

    Close to the maximum when one cell stands out, while gradients still reach the runners-up. The exponents are never
    positive, so half precision is safe.
    """
    weights = torch.exp(cells - torch.amax(cells, dim=(2, 3), keepdim=True))
    pooled: Tensor = (weights * cells).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))
    return pooled


class CellScorer(nn.Module):
    """Scores cells of 16 x 16 pixels for ``labels`` labels; the gate is one.

    A strided ``stem`` (to a quarter of the size) takes the strip at full resolution, so that pits of a few pixels leave
    a trace; a branch at stride 32 gives each cell its surroundings, because paint marks and tread plate are told from
    defects by what lies around them.
    """

    def __init__(
        self,
        labels: int,
        stem: nn.Module,
        widths: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
    ) -> None:
        super().__init__()
        quarter, eighth, sixteenth, context = widths
        self.stem = stem
        self.local = nn.Sequential(
            *mixes(depths[0], quarter),
            Shrink(quarter, eighth),
            *mixes(depths[1], eighth),
            Shrink(eighth, sixteenth),
            *mixes(depths[2], sixteenth),
        )
        self.context = nn.Sequential(Shrink(sixteenth, context), *mixes(depths[3], context, 5))
        self.merge = Merge(context, sixteenth)
        self.head = nn.Conv2d(sixteenth, labels, 1)
        # Nearly all cells are clean: start from there instead of spending the first steps on it.
        _start_at(self.head, -4.0)

    def cells(self, x: Tensor) -> Tensor:
        """Logits of the cells, ``[batch, labels, height / 16, width / 16]``."""
        local = self.local(self.stem(x))
        cells: Tensor = self.head(self.merge(self.context(local), local))
        return cells

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the frames, ``[batch, labels]``."""
        return smooth_max(self.cells(x))


class Segmenter(nn.Module):
    """A small U-Net; ``maps`` is 4 while all classes are learnt together and 1 in the segmenter of one class.

    It decides at a quarter of the size, where each position says 4 x 4 pixels at once (sub-pixel convolution, Shi et
    al., 2016). A bilinear enlargement of the logits instead costs as much as the rest of the network on the CPU.
    """

    def __init__(self, maps: int = 1) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth, deepest = 8, 24, 48, SIXTEENTH_CHANNELS, 128
        self.quarter = nn.Sequential(ConvBlock(1, half, 3, 2), ConvBlock(half, quarter, 3, 2), *mixes(1, quarter))
        self.eighth = nn.Sequential(Shrink(quarter, eighth), *mixes(2, eighth))
        self.sixteenth = nn.Sequential(Shrink(eighth, sixteenth), *mixes(2, sixteenth))
        self.deepest = nn.Sequential(Shrink(sixteenth, deepest), *mixes(2, deepest, 5))
        self.merge_sixteenth = Merge(deepest, sixteenth)
        self.merge_eighth = Merge(sixteenth, eighth)
        self.merge_quarter = Merge(eighth, quarter)
        self.head = nn.Conv2d(quarter, maps * 16, 1)
        _start_at(self.head, -3.0)

    def blocks(self, x: Tensor) -> Tensor:
        """Logits in blocks of 4 x 4 pixels, ``[batch, maps * 16, height / 4, width / 4]``."""
        quarter = self.quarter(x)
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        y = self.merge_sixteenth(self.deepest(sixteenth), sixteenth)
        y = self.merge_quarter(self.merge_eighth(y, eighth), quarter)
        blocks: Tensor = self.head(y)
        return blocks

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the pixels, ``[batch, maps, height, width]``."""
        return functional.pixel_shuffle(self.blocks(x), 4)

    def of_class(self, index: int) -> Segmenter:
        """A segmenter of one class that starts from what this one learnt of all; ``index`` counts from 0."""
        single = Segmenter(1)
        state = {name: value.clone() for name, value in self.state_dict().items()}
        for name in ("head.weight", "head.bias"):
            state[name] = state[name][16 * index : 16 * (index + 1)]
        single.load_state_dict(state)
        return single


class Classifier(nn.Module):
    """Scores cells of 16 x 16 pixels for the four classes, from what a segmenter of all classes learnt to see.

    It looks closer than the gate, at fewer frames. Its body is that of ``start``, copied; only the head begins anew.
    """

    def __init__(self, start: Segmenter) -> None:
        super().__init__()
        body = copy.deepcopy(start)
        self.local = nn.Sequential(body.quarter, body.eighth, body.sixteenth)
        self.context = body.deepest
        self.merge = body.merge_sixteenth
        self.head = nn.Conv2d(SIXTEENTH_CHANNELS, CLASSES, 1)
        _start_at(self.head, -4.0)

    def cells(self, x: Tensor) -> Tensor:
        """Logits of the cells, ``[batch, 4, height / 16, width / 16]``."""
        local = self.local(x)
        cells: Tensor = self.head(self.merge(self.context(local), local))
        return cells

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the frames, ``[batch, 4]``."""
        return smooth_max(self.cells(x))


def _start_at(head: nn.Conv2d, logit: float) -> None:
    assert head.bias is not None
    nn.init.constant_(head.bias, logit)


def gate() -> CellScorer:
    """The network that tells defective strips from clean ones."""
    return CellScorer(1, ConvBlock(1, 16, 6, 4, padding=1), (16, 32, 64, 96), (0, 1, 2, 2))

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from training import networks  # noqa: E402


def parameters(network: torch.nn.Module) -> int:
    return sum(item.numel() for item in network.parameters())


def test_scores_have_one_column_a_label() -> None:
    strips = torch.rand(2, 1, 256, 1600)
    assert networks.gate()(strips).shape == (2, 1)
    assert networks.Classifier(networks.Segmenter(4))(strips).shape == (2, 4)
    assert networks.Classifier(networks.Segmenter(4)).cells(strips).shape == (2, 4, 16, 100)


def test_masks_have_the_size_of_the_crop() -> None:
    assert networks.Segmenter(4)(torch.rand(2, 1, 256, 384)).shape == (2, 4, 256, 384)
    assert networks.Segmenter()(torch.rand(1, 1, 256, 1600)).shape == (1, 1, 256, 1600)


def test_all_stages_stay_below_ten_megabytes() -> None:
    total = (
        parameters(networks.gate())
        + parameters(networks.Classifier(networks.Segmenter(4)))
        + 4 * parameters(networks.Segmenter())
    )
    assert 4 * total < 9.5e6


def test_the_smooth_maximum_follows_the_highest_cell() -> None:
    cells = torch.full((1, 2, 16, 100), -8.0)
    cells[0, 1, 3, 7] = 12.0
    pooled = networks.smooth_max(cells)
    assert pooled[0, 0].item() == pytest.approx(-8.0, abs=1e-4)
    assert pooled[0, 1].item() == pytest.approx(12.0, abs=0.01)


def test_the_smooth_maximum_bears_half_precision() -> None:
    cells = torch.full((1, 1, 16, 100), -30.0).half()
    cells[0, 0, 0, 0] = 40.0
    assert networks.smooth_max(cells).item() == pytest.approx(40.0, abs=0.1)


def test_a_single_class_starts_from_what_all_learnt() -> None:
    torch.manual_seed(0)
    joint = networks.Segmenter(4).eval()
    strips = torch.rand(1, 1, 64, 96)
    for index in range(4):
        single = joint.of_class(index).eval()
        torch.testing.assert_close(single(strips)[:, 0], joint(strips)[:, index])


def test_a_classifier_starts_from_the_segmenter_and_leaves_it_alone() -> None:
    start = networks.Segmenter(4)
    classifier = networks.Classifier(start)
    strips = torch.rand(1, 1, 256, 1600)
    torch.testing.assert_close(classifier.local(strips), start.sixteenth(start.eighth(start.quarter(strips))))
    with torch.no_grad():
        classifier.local[0][0][0].weight.zero_()
    assert start.quarter[0][0].weight.any()

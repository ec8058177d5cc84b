from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from training import export, networks  # noqa: E402

SCORE_ENDS = {"gate": ["Squeeze", "Sigmoid"], "classifier": ["Div", "Sigmoid"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three kinds of stages, with weights at random and batch statistics away from their start."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("graphs")
    stages: tuple[tuple[str, torch.nn.Module, Callable[..., None]], ...] = (
        ("gate", networks.gate(), export.export_gate),
        ("classifier", networks.Classifier(networks.Segmenter(4)), export.export_classifier),
        ("segment-1", networks.Segmenter(), export.export_segmenter),
    )
    for name, network, write in stages:
        with torch.no_grad():
            for _ in range(2):
                network.train()(torch.rand(2, 1, 256, 1600))
        network.eval()
        torch.save(network, folder / f"{name}.pt")
        write(network, folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (3, 256, 1600), dtype=np.uint8)


def run(folder: Path, name: str, **inputs: NDArray[np.generic]) -> NDArray[np.generic]:
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def network_output(folder: Path, name: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    network = torch.load(folder / f"{name}.pt", weights_only=False)
    with torch.no_grad():
        scores = torch.sigmoid(network(torch.from_numpy(frames).float().unsqueeze(1) / 255))
    return np.asarray(scores.numpy())


@pytest.mark.parametrize("name", ["gate", "classifier"])
def test_scores_equal_those_of_the_network(folder: Path, frames: NDArray[np.uint8], name: str) -> None:
    scores = run(folder, name, frames=frames, index=np.array([2, 0]))
    expected = network_output(folder, name, frames[[2, 0]])
    np.testing.assert_allclose(scores, expected[:, 0] if name == "gate" else expected, atol=1e-4)


def test_masks_equal_those_of_the_network_transposed(folder: Path, frames: NDArray[np.uint8]) -> None:
    scores = network_output(folder, "segment-1", frames[[1]])[:, 0]
    threshold = float(np.median(scores))
    masks = run(folder, "segment-1", frames=frames, index=np.array([1]), threshold=np.array([threshold], np.float32))
    assert masks.shape == (1, 1600, 256)
    assert masks.dtype == np.uint8
    differ = masks.transpose(0, 2, 1) != (scores > threshold)
    assert not (differ & (np.abs(scores - threshold) > 1e-4)).any()
    assert 0.4 < masks.mean() < 0.6


@pytest.mark.parametrize("name", ["gate", "classifier", "segment-1"])
def test_operators_come_in_the_one_order_that_all_backends_take(folder: Path, name: str) -> None:
    graph = onnx.load(folder / f"{name}.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert operators[:3] == ["Cast", "Gather", "Unsqueeze"]
    assert list(graph.node[0].input) == ["frames"]
    assert list(graph.node[1].input)[1] == "index"
    if name == "segment-1":
        assert operators[-4:] == ["Sigmoid", "Transpose", "Greater", "Cast"]
    else:
        assert operators[-2:] == SCORE_ENDS[name]
    # uint8 comes in through one Cast and goes out through another; nothing else may see it.
    readers = [node.op_type for node in graph.node if "frames" in node.input]
    assert readers == ["Cast"]
    assert "BatchNormalization" not in operators


@pytest.mark.parametrize("name", ["gate", "classifier", "segment-1"])
def test_a_graph_tells_nothing_of_the_machine_that_made_it(folder: Path, name: str) -> None:
    content = (folder / f"{name}.onnx").read_bytes()
    model = onnx.load_from_string(content)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert str(Path(export.__file__).parent).encode() not in content


def test_batch_and_frames_are_free_and_the_rest_is_fixed(folder: Path) -> None:
    graph = onnx.load(folder / "segment-1.onnx").graph
    shapes = {
        item.name: [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in (*graph.input, *graph.output)
    }
    assert shapes == {
        "frames": ["frames", 256, 1600],
        "index": ["batch"],
        "threshold": [1],
        "masks": ["batch", 1600, 256],
    }

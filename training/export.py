"""ONNX graphs of the trained networks, and the cascade folder around them.

Every stage has one graph, the single definition from which each backend's engine is made. All per-pixel work happens
inside it, in the one order that ONNX Runtime, OpenVINO and TensorRT's parser all accept: Cast to float, Gather of the
frames that this stage looks at, network, Sigmoid, and for segmenters Transpose, Greater, Cast to uint8. No operator
but Cast touches uint8.

| input | type | shape |
| --- | --- | --- |
| frames | uint8 | frames, 256, 1600 |
| index | int64 | batch: which of the frames |
| threshold (segmenters) | float32 | 1 |

| output | type | shape |
| --- | --- | --- |
| scores (gate) | float32 | batch |
| scores (classifier) | float32 | batch, 4 |
| masks (segmenters) | uint8, 0 or 1 | batch, 1600, 256: width before height, the order of column-first run lengths |
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
import yaml
from torch import Tensor, nn

from training.networks import CellScorer, Classifier, Segmenter

HEIGHT, WIDTH = 256, 1600
OPSET = 18
CLASS_NAMES = ("pits and specks", "fine vertical marks", "scratches and streaks", "rough patches")
"""Names of the classes 1 to 4, after those of the Severstal steel data set."""


class GateGraph(nn.Module):
    """Scores ``[batch]`` of the chosen frames: how likely each is defective."""

    def __init__(self, network: CellScorer) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, index: Tensor) -> Tensor:
        """As the class says."""
        return torch.sigmoid(self.network(_chosen(frames, index)).squeeze(1))


class ClassifierGraph(nn.Module):
    """Scores ``[batch, 4]`` of the chosen frames: how likely each carries each class."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, index: Tensor) -> Tensor:
        """As the class says."""
        return torch.sigmoid(self.network(_chosen(frames, index)))


class SegmenterGraph(nn.Module):
    """Transposed masks ``uint8 [batch, width, height]`` of the chosen frames, 1 above the threshold."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, index: Tensor, threshold: Tensor) -> Tensor:
        """As the class says."""
        scores = torch.sigmoid(self.network(_chosen(frames, index)).squeeze(1))
        return (scores.transpose(1, 2) > threshold).to(torch.uint8)


def _chosen(frames: Tensor, index: Tensor) -> Tensor:
    return frames.to(torch.float32).index_select(0, index).unsqueeze(1) * (1 / 255)


@dataclass(frozen=True, slots=True)
class ClassSettings:
    """Defaults of one class: classifier threshold, pixel threshold, and the least area in pixels of an entry."""

    threshold: float
    mask_threshold: float
    min_area_px: int


def export_gate(network: CellScorer, path: Path) -> None:
    """Write the gate's graph to ``path``."""
    _export(GateGraph(network), path, "scores", [])


def export_classifier(network: Classifier, path: Path) -> None:
    """Write the classifier's graph to ``path``."""
    _export(ClassifierGraph(network), path, "scores", [])


def export_segmenter(network: Segmenter, path: Path) -> None:
    """Write the graph of one class's segmenter to ``path``."""
    _export(SegmenterGraph(network), path, "masks", [torch.tensor([0.5])])


def write_definition(
    folder: Path, gate_threshold: float, classes: Sequence[ClassSettings], provenance: dict[str, str | int]
) -> None:
    """Write ``cascade.yaml``.

    It expects beside it the models ``gate.onnx``, ``classifier.onnx`` and ``segment-1.onnx`` to ``segment-4.onnx``, and
    the recording and its truth that :mod:`training.recording` writes.
    """
    definition = {
        "schema": "millwatch.cascade/1",
        "name": "reference",
        "version": "1",
        "input": {"height": HEIGHT, "width": WIDTH},
        "gate": {"model": "gate.onnx", "threshold": round(gate_threshold, 4)},
        "classifier": {"model": "classifier.onnx"},
        "classes": [
            {
                "id": number,
                "name": name,
                "model": f"segment-{number}.onnx",
                "threshold": round(settings.threshold, 4),
                "mask_threshold": round(settings.mask_threshold, 4),
                "min_area_px": settings.min_area_px,
            }
            for number, (name, settings) in enumerate(zip(CLASS_NAMES, classes, strict=True), start=1)
        ],
        "recording": "recording.parquet",
        "truth": "truth.csv",
        "provenance": provenance,
    }
    text = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=120)
    (folder / "cascade.yaml").write_text(text, encoding="utf-8")


def _export(graph: nn.Module, path: Path, output: str, extra_inputs: list[Tensor]) -> None:
    frames = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    index = torch.tensor([2, 0])
    many = torch.export.Dim("frames", min=1, max=4096)
    chosen = torch.export.Dim("batch", min=1, max=4096)
    shapes: tuple[Any, ...] = ({0: many}, {0: chosen}, *([None] * len(extra_inputs)))
    with warnings.catch_warnings():
        # The exporter warns about its own use of deprecated interfaces; there is nothing to do about it here.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            (frames, index, *extra_inputs),
            input_names=["frames", "index", "threshold"][: 2 + len(extra_inputs)],
            output_names=[output],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _drop_reshape_of_index(model)
    _strip_traces(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _drop_reshape_of_index(model: onnx.ModelProto) -> None:
    """Let Gather read ``index`` itself: the exporter flattens it first, though it is flat."""
    graph = model.graph
    reshape = next(node for node in graph.node if node.op_type == "Reshape" and node.input[0] == "index")
    gather = next(node for node in graph.node if node.op_type == "Gather" and node.input[1] == reshape.output[0])
    gather.input[1] = "index"
    graph.node.remove(reshape)
    graph.initializer.remove(next(item for item in graph.initializer if item.name == reshape.input[1]))


def _strip_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter noted down about this machine: stack traces with paths, module names."""
    model.producer_name, model.producer_version, model.doc_string = "millwatch", "", ""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    graph.name, graph.doc_string = "stage", ""
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]

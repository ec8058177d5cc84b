"""Choosing convolution kernels by measurement.

OpenVINO picks them by rules made on its authors' machines. On processors with AVX2 and nothing wider it takes oneDNN's
batch-reduced kernels on channels-last data, where the older kernels on blocked data can be the faster ones: 8 % on the
stages of the reference cascade on a Zen 1 core. Which holds here is measured when a stage is compiled.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import openvino as ov

BLOCKED_KERNELS: Final = "cpu:jit_avx2_dw,cpu:jit_avx2_1x1,cpu:jit_avx2"
"""Depthwise, pointwise and other convolutions on data in blocks of eight channels, in the order of preference."""

TIMED_RUNS: Final = 8


def preferring(kernels: str, core: ov.Core, model: Any) -> Any:
    """A copy of an ``ov.Model`` whose convolutions name the kernels they prefer; where one does not apply, OpenVINO's
    own choice stands.

    The preference is an attribute of OpenVINO's file format that its Python interface cannot set.
    """
    with TemporaryDirectory(prefix="millwatch-") as folder:
        path, weights = Path(folder) / "stage.xml", Path(folder) / "stage.bin"
        ov.serialize(model, path, weights)
        graph = ElementTree.parse(path)  # noqa: S314 - a file that we have just written
        for layer in graph.iter("layer"):
            if layer.get("type") in {"Convolution", "GroupConvolution"}:
                notes = layer.find("rt_info")
                if notes is None:
                    notes = ElementTree.SubElement(layer, "rt_info")
                ElementTree.SubElement(notes, "attribute", name="primitives_priority", version="0", value=kernels)
        text = ElementTree.tostring(graph.getroot(), encoding="unicode")
        return core.read_model(text, ov.Tensor(np.fromfile(weights, np.uint8)))


def fastest(compiled: list[Any]) -> Any:
    """The one of several compiled models that costs the least processor time on a blank input.

    Processor time and its minimum, because other programs run here too.
    """
    return compiled[0] if len(compiled) == 1 else min(compiled, key=processor_time)


def processor_time(compiled: Any) -> float:
    """Seconds of processor time that one run costs on a blank input, the least of ``TIMED_RUNS``."""
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        request.set_tensor(port, ov.Tensor(np.zeros(tuple(port.get_shape()), port.get_element_type().to_dtype())))
    times = []
    for _ in range(TIMED_RUNS):
        started = time.process_time()
        request.start_async(share_inputs=True)
        request.wait()
        times.append(time.process_time() - started)
    return min(times)

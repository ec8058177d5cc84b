"""From an ONNX graph to a TensorRT plan: the one way in which this project builds.

The module of TensorRT is a parameter: ``tensorrt`` on a machine with a GPU. TensorRT for RTX has the same interface and
builds without a GPU, which is how the tests run this code; its plans are not engines for anything here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.backend import output_shape
from engines.backends import HardwareCompatibility
from engines.definition import CascadeDefinition, Stage
from engines.errors import DeviceError, EngineError
from engines.tensorrt.logger import shared_logger
from engines.tensorrt.stage_graph import OUTPUT
from engines.tensorrt.timing_cache import read_timing_cache, write_timing_cache


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What is chosen beside precision. ``timing_cache`` is its file; None builds without one."""

    hardware_compatibility: HardwareCompatibility = "none"
    timing_cache: Path | None = None


def build_plan(
    library: Any,
    graph: bytes,
    stage: Stage,
    definition: CascadeDefinition,
    batch_sizes: Sequence[int],
    options: PlanOptions,
) -> bytes:
    """The plan of one stage: ``graph`` is its serialised ONNX model in the precision that it is to have.

    Optimisation profile ``p`` is for ``batch_sizes[p]`` (ascending): that many places in ``index``, and in ``frames``
    up to as many as the largest batch has, which is what a slot hands over.

    Raises :class:`EngineError` that names the model, the stage and what TensorRT refuses first, and
    :class:`DeviceError` where TensorRT does not start.
    """
    logger = shared_logger(library)
    logger.take()
    builder = _builder(library, logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise EngineError(f"{stage.model}: {stage.key}: {_parser_problem(parser)}")
    _check_output(library, network, stage, definition)
    config = builder.create_builder_config()
    # TF32 is on by default, and has no more digits than float16: float32 is what is left when these do not suffice.
    config.clear_flag(library.BuilderFlag.TF32)
    levels = library.HardwareCompatibilityLevel
    config.hardware_compatibility_level = {
        "none": levels.NONE,
        "ampere_plus": levels.AMPERE_PLUS,
        "same_compute_capability": levels.SAME_COMPUTE_CAPABILITY,
    }[options.hardware_compatibility]
    if options.timing_cache is not None:
        _give_timing_cache(config, options.timing_cache)
    for batch_size in batch_sizes:
        profile = builder.create_optimization_profile()
        try:
            _set_shapes(profile, definition, batch_size, max(batch_sizes))
            added = config.add_optimization_profile(profile)
        except ValueError as error:
            raise EngineError(f"{stage.model}: {stage.key}: no profile for batch size {batch_size}: {error}") from None
        if added < 0:
            raise EngineError(
                f"{stage.model}: {stage.key}: no profile for batch size {batch_size}: {_first(logger.take())}"
            )
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{stage.model}: {stage.key}: cannot be built: {_first(logger.take())}")
    if options.timing_cache is not None:
        write_timing_cache(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _builder(library: Any, logger: Any) -> Any:
    try:
        return library.Builder(logger)
    except TypeError:
        # pybind11's answer to a constructor that returned nothing.
        raise DeviceError(f"TensorRT does not start on this GPU: {_first(logger.take())}") from None


def _parser_problem(parser: Any) -> str:
    """The parser's first error, with the node that it is about where it names one."""
    if parser.num_errors == 0:
        return "TensorRT's parser refuses it and does not say why"
    error = parser.get_error(0)
    reason = f"{error.code().name}: {_readable(error.desc())}"
    if not error.node_operator():
        return f"TensorRT's parser refuses it: {reason}"
    return f"TensorRT's parser refuses the {error.node_operator()} {error.node_name() or error.node()}: {reason}"


def _check_output(library: Any, network: Any, stage: Stage, definition: CascadeDefinition) -> None:
    """Whether the output is what this stage's should be. Its batch is dynamic, for which TensorRT has -1."""
    output = network.get_output(0)
    shape = output_shape(stage, definition, -1)
    name, kind = OUTPUT[stage.kind]
    found = (output.name, output.dtype, tuple(output.shape))
    if found != (name, getattr(library.DataType, kind), shape):
        raise EngineError(
            f"{stage.model}: {stage.key}: output {output.name} is {output.dtype.name.lower()} {list(output.shape)},"
            f" expected is {name} {kind.lower()} {list(shape)}"
        )


def _set_shapes(profile: Any, definition: CascadeDefinition, batch_size: int, largest: int) -> None:
    size = (definition.input.height, definition.input.width)
    profile.set_shape("frames", (1, *size), (largest, *size), (largest, *size))
    profile.set_shape("index", (batch_size,), (batch_size,), (batch_size,))


def _give_timing_cache(config: Any, path: Path) -> None:
    cache = config.create_timing_cache(read_timing_cache(path))
    # One that TensorRT does not take is from another driver or GPU: an empty one then replaces it.
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _first(errors: Sequence[str]) -> str:
    return _readable(errors[0]) if errors else "TensorRT does not say why"


def _readable(text: str) -> str:
    """The first line that says something, without the condition in TensorRT's source that was not met."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Invalid Node")]
    line = (told or lines or ["no reason is given"])[0]
    if line.startswith("Assertion failed: "):
        line = line.partition("Assertion failed: ")[2]
        _, found, reason = line.rpartition("): ")
        line = reason if found else line.rpartition(": ")[2]
    return line

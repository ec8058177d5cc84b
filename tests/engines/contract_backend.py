"""What every engine backend must do, on the tiny cascade. A backend's test class inherits it and names its compiler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

from engines.backend import Compiler, EngineFile, Runtime
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.errors import EngineError
from engines.images import Frame
from tests.support.tiny_cascade import (
    GREY,
    HEIGHT,
    WIDTH,
    class_score,
    frame_with,
    gate_graph,
    gate_score,
    mask_of,
    write_tiny_cascade,
)

FRAMES = [
    frame_with(),
    frame_with({1: [(3, 4, 9, 6)]}),
    frame_with({3: [(100, 20, 50, 40)], 4: [(0, 0, 1, 64)]}),
    frame_with({2: [(159, 63, 1, 1)]}),
    frame_with({1: [(20, 20, 30, 30)], 2: [(60, 0, 20, 20)], 3: [(90, 1, 2, 2)], 4: [(120, 40, 39, 23)]}),
]
EVERY = np.arange(len(FRAMES), dtype=np.int64)

Engines = Callable[[tuple[int, ...]], list[EngineFile]]
OpenRuntime = Callable[..., Runtime]


def indexed(index: list[int]) -> np.ndarray:
    return np.array(index, np.int64)


class BackendContract:
    """The contract. ``batch_sizes`` makes whole batches of ``FRAMES``, padded ones, and both.

    A backend whose engines must hold every frame of a slot names larger ones.
    """

    batch_sizes: ClassVar[Mapping[str, tuple[int, ...]]] = {"single": (1,), "padded": (3,), "mixed": (1, 3)}

    @pytest.fixture(scope="class")
    @classmethod
    def compiler(cls) -> Compiler:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def definition(cls, tmp_path_factory: pytest.TempPathFactory) -> CascadeDefinition:
        return load_definition(write_tiny_cascade(tmp_path_factory.mktemp("tiny")))

    @pytest.fixture(scope="class")
    @classmethod
    def engines(
        cls, compiler: Compiler, definition: CascadeDefinition, tmp_path_factory: pytest.TempPathFactory
    ) -> Engines:
        """Engines of all stages for some batch sizes, built once."""

        @cache
        def build(sizes: tuple[int, ...]) -> list[EngineFile]:
            folder = tmp_path_factory.mktemp("engines")
            precision = compiler.precisions[-1]
            return [
                engine
                for stage in definition.stages
                for engine in compiler.build(stage, definition, sizes, precision, folder)
            ]

        return build

    @pytest.fixture(scope="class")
    @classmethod
    def open_runtime(cls, compiler: Compiler, definition: CascadeDefinition, engines: Engines) -> Iterator[OpenRuntime]:
        with contextlib.ExitStack() as opened:

            def open_with(sizes: tuple[int, ...], slots: int = 1, max_frames: int = 8) -> Runtime:
                runtime = compiler.open(definition, engines(sizes), slots=slots, max_frames=max_frames)
                return opened.enter_context(contextlib.closing(runtime))

            yield open_with

    @pytest.fixture(scope="class", params=["single", "padded", "mixed"])
    @classmethod
    def runtime(cls, request: pytest.FixtureRequest, open_runtime: OpenRuntime) -> Runtime:
        return open_runtime(cls.batch_sizes[request.param])

    def test_scores_follow_the_index(self, runtime: Runtime) -> None:
        with runtime.slots[0] as slot:
            slot.load(FRAMES)
            for index in ([0, 1, 2, 3, 4], [3], [4, 0], [2, 2, 1, 4, 4, 0, 3], []):
                expected = [gate_score(FRAMES[number]) for number in index]
                np.testing.assert_allclose(slot.gate(indexed(index)), expected, atol=5e-3)
                scores = slot.classify(indexed(index))
                assert scores.shape == (len(index), len(GREY))
                assert scores.dtype == np.float32
                by_class = [[class_score(FRAMES[number], class_id) for class_id in GREY] for number in index]
                np.testing.assert_allclose(scores, np.array(by_class).reshape(-1, len(GREY)), atol=5e-3)

    def test_masks_are_transposed_and_follow_the_index(self, runtime: Runtime) -> None:
        with runtime.slots[0] as slot:
            slot.load(FRAMES)
            for class_number, class_id in enumerate(GREY):
                for index in ([0, 1, 2, 3, 4], [4, 1], []):
                    count = 0
                    for number, mask in zip(index, slot.segment(class_number, indexed(index), 0.5), strict=True):
                        assert mask.dtype == np.uint8
                        np.testing.assert_array_equal(mask, mask_of(FRAMES[number], class_id).T)
                        count += 1
                    assert count == len(index)

    def test_the_threshold_is_an_input(self, runtime: Runtime) -> None:
        slanted = np.tile(np.arange(160, dtype=np.uint8), (64, 1))
        with runtime.slots[0] as slot:
            slot.load([slanted])
            areas = []
            for threshold in (0.01, 0.5, 0.99):
                (mask,) = (found.copy() for found in slot.segment(0, indexed([0]), threshold))
                np.testing.assert_array_equal(mask, mask_of(slanted, 1, threshold).T)
                areas.append(int(mask.sum()))
        assert areas[0] > areas[1] > areas[2] > 0

    def test_a_new_batch_replaces_the_one_before(self, runtime: Runtime) -> None:
        with runtime.slots[0] as slot:
            slot.load(FRAMES)
            slot.gate(EVERY)
        with runtime.slots[0] as slot:
            slot.load([FRAMES[0], FRAMES[0]])
            np.testing.assert_allclose(slot.gate(indexed([0, 1])), [gate_score(FRAMES[0])] * 2, atol=5e-3)

    def test_an_abandoned_run_of_masks_leaves_the_slot_usable(self, runtime: Runtime) -> None:
        with runtime.slots[0] as slot:
            slot.load(FRAMES)
            next(slot.segment(0, EVERY, 0.5))
            np.testing.assert_allclose(slot.gate(indexed([2])), [gate_score(FRAMES[2])], atol=5e-3)

    def test_frames_belong_to_their_caller_again_after_the_hand_over(self, runtime: Runtime) -> None:
        frame = FRAMES[1].copy()
        with runtime.slots[0] as slot:
            slot.load([frame])
            frame[:] = 255
            np.testing.assert_allclose(slot.gate(indexed([0])), [gate_score(FRAMES[1])], atol=5e-3)

    def test_slots_side_by_side_never_mix(self, open_runtime: OpenRuntime) -> None:
        runtime = open_runtime(self.batch_sizes["mixed"], slots=2)
        assert len(runtime.slots) == 2

        def inspect(number: int) -> None:
            own: Frame = frame_with({number + 1: [(10, 10, 40, 30)]})
            others = frame_with({number + 3: [(80, 10, 40, 30)]})
            with runtime.slots[number] as slot:
                for _ in range(50):
                    slot.load([own, others, own])
                    masks = [mask.copy() for mask in slot.segment(number, indexed([2, 1, 0]), 0.5)]
                    for mask, frame in zip(masks, (own, others, own), strict=True):
                        np.testing.assert_array_equal(mask, mask_of(frame, number + 1).T)

        with ThreadPoolExecutor(2) as pool:
            for finished in [pool.submit(inspect, number) for number in range(2)]:
                finished.result()

    def test_the_device_answers(self, runtime: Runtime) -> None:
        runtime.probe()

    def test_engines_of_some_stages_will_do(
        self, compiler: Compiler, definition: CascadeDefinition, engines: Engines
    ) -> None:
        only = [engine for engine in engines(self.batch_sizes["mixed"]) if engine.stage == "segmenter-3"]
        with contextlib.closing(compiler.open(definition, only, slots=1, max_frames=2)) as runtime:
            runtime.probe()
            with runtime.slots[0] as slot:
                slot.load(FRAMES[2:3])
                (mask,) = (found.copy() for found in slot.segment(2, indexed([0]), 0.5))
        np.testing.assert_array_equal(mask, mask_of(FRAMES[2], 3).T)

    def test_a_file_that_is_no_engine_is_an_engine_error(
        self, compiler: Compiler, definition: CascadeDefinition, tmp_path: Path
    ) -> None:
        path = tmp_path / f"gate{compiler.suffix}"
        path.write_bytes(b"not an engine" * 100)
        with pytest.raises(EngineError, match=path.name):
            compiler.open(definition, [EngineFile("gate", (1,), "f32", path)], slots=1, max_frames=1)
        with pytest.raises(EngineError, match="missing"):
            compiler.open(definition, [EngineFile("gate", (1,), "f32", tmp_path / "missing")], slots=1, max_frames=1)

    def test_a_model_that_is_no_stage_is_an_engine_error(
        self, compiler: Compiler, definition: CascadeDefinition, tmp_path: Path
    ) -> None:
        stages = {stage.key: stage for stage in definition.stages}
        swapped = Stage("gate", "gate", stages["segmenter-1"].model)
        with pytest.raises(EngineError, match="threshold"):
            compiler.build(swapped, definition, (1,), compiler.precisions[-1], tmp_path)
        (tmp_path / "broken.onnx").write_bytes(b"no model")
        broken = Stage("gate", "gate", tmp_path / "broken.onnx")
        with pytest.raises(EngineError, match=r"broken\.onnx"):
            compiler.build(broken, definition, (1,), compiler.precisions[-1], tmp_path)

    @pytest.mark.parametrize(("port", "wrong"), [("frames", "FLOAT"), ("index", "INT32"), ("scores", "DOUBLE")])
    def test_a_model_of_other_types_is_an_engine_error(
        self, compiler: Compiler, definition: CascadeDefinition, tmp_path: Path, port: str, wrong: str
    ) -> None:
        graph = gate_graph(HEIGHT, WIDTH)
        kind = onnx.TensorProto.DataType.Value(wrong)
        for item in (*graph.graph.input, *graph.graph.output):
            if item.name == port:
                item.type.tensor_type.elem_type = kind
        if port == "scores":
            graph.graph.node[-1].output[0] = "narrow"
            graph.graph.node.append(onnx.helper.make_node("Cast", ["narrow"], ["scores"], to=kind))
        onnx.checker.check_model(graph)
        path = tmp_path / "typed.onnx"
        path.write_bytes(graph.SerializeToString())
        with pytest.raises(EngineError, match=rf"typed\.onnx: gate: .*{port}"):
            compiler.build(Stage("gate", "gate", path), definition, (1,), compiler.precisions[-1], tmp_path)

"""The cascade on the tiny models, whose answers are known."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines import manifest, rle
from engines.build import build_cascade
from engines.cascade import Cascade, open_cascade
from engines.errors import DeviceError, EngineError, UsageError
from engines.images import Frame
from engines.settings import CascadeOverrides, ClassOverrides
from tests.support.tiny_cascade import class_score, frame_with, gate_score, mask_of, write_tiny_cascade


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def cascade(folder: Path, directory: Path) -> Iterator[Cascade]:
    with open_cascade(folder, directory=directory, max_frames=8, slots=2) as opened:
        yield opened


def test_a_batch_keeps_its_order_and_every_frame_its_own_answer(cascade: Cascade) -> None:
    frames = [
        frame_with(),
        frame_with({3: [(10, 5, 20, 10)]}),
        frame_with({1: [(0, 0, 8, 8)], 4: [(100, 20, 30, 30)]}),
        frame_with(),
        frame_with({3: [(120, 50, 40, 14)]}),
    ]
    results = cascade.inspect(frames)
    assert [result.verdict for result in results] == ["clean", "defective", "defective", "clean", "defective"]
    assert [[defect.class_id for defect in result.defects] for result in results] == [[], [3], [1, 4], [], [3]]
    for frame, result in zip(frames, results, strict=True):
        assert (result.width, result.height) == (160, 64)
        assert result.gate_score == pytest.approx(gate_score(frame), abs=1e-5)
        for defect in result.defects:
            assert defect.rle == rle.encode(mask_of(frame, defect.class_id))
            assert defect.score == pytest.approx(class_score(frame, defect.class_id), abs=1e-5)
    only = results[1].defects[0]
    assert (only.box.x, only.box.y, only.box.width, only.box.height, only.area_px) == (10, 5, 20, 10, 200)
    assert only.name == "scratches"
    assert results[0].class_scores is None
    assert results[1].class_scores is not None
    assert len(results[1].class_scores) == 4


def test_an_empty_batch_has_no_results_and_a_too_large_one_is_refused(cascade: Cascade) -> None:
    assert cascade.inspect([]) == []
    with pytest.raises(ValueError, match="9 frames"):
        cascade.inspect([frame_with()] * 9)


@pytest.mark.parametrize(("height", "width"), [(128, 320), (32, 80), (96, 200), (64, 320)])
def test_a_frame_of_another_size_has_its_masks_at_its_own(cascade: Cascade, height: int, width: int) -> None:
    patch = (width // 4, height // 4, width // 2, height // 2)
    (result,) = cascade.inspect([frame_with({4: [patch]}, height, width)])
    # Where a frame grows, the greys between steel and patch pass through another class's band.
    defect = next(defect for defect in result.defects if defect.class_id == 4)
    assert (result.width, result.height) == (width, height)
    mask = rle.decode(defect.rle, height, width)
    assert int(mask.sum()) == defect.area_px
    # Resizing there and back moves a border by at most one pixel of the smaller picture.
    expected = np.zeros((height, width), bool)
    x, y, w, h = patch
    expected[y : y + h, x : x + w] = True
    border = int(np.ceil(max(width / 160, height / 64, 1)))
    differing = np.argwhere(mask.astype(bool) != expected)
    for row, column in differing:
        near_column = min(abs(column - x), abs(column - (x + w - 1))) <= border
        near_row = min(abs(row - y), abs(row - (y + h - 1))) <= border
        assert near_column or near_row
    assert abs(defect.area_px - w * h) <= 2 * (w + h) * border


def test_the_least_area_counts_frame_pixels_of_each_entry(folder: Path, directory: Path) -> None:
    # 30 + 12 pixels on the frame; the whole class passes 40, but neither region does alone.
    frame = frame_with({2: [(10, 10, 6, 5), (60, 10, 4, 3)]})

    def areas(least: int, regions: str) -> list[int]:
        overrides = CascadeOverrides(classes={2: ClassOverrides(min_area_px=least)}, regions=regions)  # type: ignore[arg-type]
        with open_cascade(folder, directory=directory, slots=1, overrides=overrides) as opened:
            return [defect.area_px for defect in opened.inspect([frame])[0].defects]

    assert areas(40, "class") == [42]
    assert areas(42, "class") == [42]
    assert areas(43, "class") == []
    assert areas(12, "region") == [30, 12]
    assert areas(13, "region") == [30]
    assert areas(40, "region") == []


def test_a_frame_whose_masks_are_all_too_small_is_clean(cascade: Cascade) -> None:
    (result,) = cascade.inspect([frame_with({1: [(10, 10, 3, 3)]})])
    assert result.gate_score > 0.5
    assert result.class_scores is not None
    assert max(result.class_scores) > 0.5
    assert result.verdict == "clean"


def test_a_classifier_that_sees_nothing_ends_the_inspection(cascade: Cascade) -> None:
    frame = frame_with()
    frame[10:20, 10:20] = 85  # between the bands of the classes 2 and 3
    (result,) = cascade.inspect([frame])
    assert result.gate_score > 0.5
    assert result.class_scores is not None
    assert max(result.class_scores) < 0.5
    assert result.defects == ()


def test_thresholds_and_names_are_the_user_s(folder: Path, directory: Path) -> None:
    frame = frame_with({1: [(10, 10, 10, 10)]})
    cases = [
        (CascadeOverrides(gate_threshold=0.9999999), 0),
        (CascadeOverrides(classes={1: ClassOverrides(threshold=1.0)}), 0),
        (CascadeOverrides(classes={1: ClassOverrides(mask_threshold=0.9999)}), 0),
        (CascadeOverrides(classes={1: ClassOverrides(name="Poren")}), 1),
    ]
    digests = set()
    for overrides, count in cases:
        with open_cascade(folder, directory=directory, slots=1, overrides=overrides) as opened:
            defects = opened.inspect([frame])[0].defects
            assert len(defects) == count
            digests.add(opened.identity.settings)
    assert defects[0].name == "Poren"
    assert len(digests) == len(cases)


def test_identity_names_models_and_settings_apart(folder: Path, directory: Path, tmp_path: Path) -> None:
    with open_cascade(folder, directory=directory, slots=1) as first:
        pass
    with open_cascade(folder, directory=directory, slots=1, bit_depth=12) as deeper:
        pass
    with open_cascade(write_tiny_cascade(tmp_path / "c", width=192), directory=tmp_path, slots=1) as wider:
        pass
    assert (first.identity.cascade, first.identity.backend) == ("tiny", "openvino")
    assert deeper.identity.hash == first.identity.hash
    assert deeper.identity.settings != first.identity.settings
    assert wider.identity.hash != first.identity.hash
    assert wider.identity.settings == first.identity.settings


def test_more_callers_than_slots_all_get_their_own_results(cascade: Cascade) -> None:
    def inspect(number: int) -> list[int]:
        frames = [frame_with({number % 4 + 1: [(number, 5, 20, 20)]}), frame_with()]
        return [defect.class_id for _ in range(10) for result in cascade.inspect(frames) for defect in result.defects]

    with ThreadPoolExecutor(6) as pool:
        for number, classes in enumerate(pool.map(inspect, range(6))):
            assert classes == [number % 4 + 1] * 10


def test_a_slot_returns_after_an_error(cascade: Cascade) -> None:
    for _ in range(cascade.slots + 1):
        with pytest.raises(ValueError, match="not enough values"):
            cascade.inspect([np.zeros(7, np.uint8)])
    assert len(cascade.inspect([frame_with()])) == 1


def test_closing_waits_for_the_batch_in_flight(folder: Path, directory: Path) -> None:
    opened = open_cascade(folder, directory=directory, slots=2)
    inside, closed = threading.Event(), threading.Event()
    runtime = opened._runtime
    slot = next(iter(runtime.slots))
    load_before, close_before = slot.load, runtime.close

    def load(frames: Sequence[Frame]) -> None:
        inside.set()
        # Only a close that does not wait gets through in that time.
        assert not closed.wait(0.3)
        load_before(frames)

    def close() -> None:
        closed.set()
        close_before()

    slot.load, runtime.close = load, close  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        inspection = pool.submit(opened.inspect, [frame_with()])
        assert inside.wait(10)
        closing = pool.submit(opened.close)
        assert len(inspection.result(10)) == 1
        closing.result(10)
    assert closed.is_set()


def test_a_closed_cascade_refuses_every_caller_and_may_be_closed_again(folder: Path, directory: Path) -> None:
    with open_cascade(folder, directory=directory, slots=2) as opened:
        opened.close()
        with ThreadPoolExecutor(3) as pool:
            for refused in [pool.submit(opened.inspect, [frame_with()]) for _ in range(3)]:
                with pytest.raises(RuntimeError, match="the cascade is closed"):
                    refused.result(10)


def test_the_device_answers(cascade: Cascade) -> None:
    cascade.probe()


def test_engines_that_are_missing_end_with_4_unless_they_may_be_built(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engines of cascade tiny") as caught:
        open_cascade(folder, directory=tmp_path, rebuild=False)
    assert caught.value.exit_code == 4
    steps = []
    with open_cascade(folder, directory=tmp_path, slots=1, progress=steps.append):
        pass
    assert [(step.stage, step.number, step.total) for step in steps][:2] == [("gate", 1, 6), ("classifier", 2, 6)]
    with open_cascade(folder, directory=tmp_path, slots=1, rebuild=False, progress=steps.append):
        pass
    assert len(steps) == 6


def test_engines_that_were_built_otherwise_are_as_good_as_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service takes no engines that the builder would build again."""
    build_cascade(folder, directory=tmp_path, batch_sizes=(2,))
    with pytest.raises(EngineError, match="built for batches of 2, wanted are 1"):
        open_cascade(folder, directory=tmp_path, rebuild=False)
    build_cascade(folder, directory=tmp_path, batch_sizes=(1, 2))
    open_cascade(folder, directory=tmp_path, slots=1, rebuild=False).close()
    with pytest.raises(EngineError, match="bit depth"):
        open_cascade(folder, directory=tmp_path, rebuild=False, bit_depth=12)
    open_cascade(folder, directory=tmp_path, slots=1, bit_depth=12).close()
    open_cascade(folder, directory=tmp_path, slots=1, rebuild=False, bit_depth=12).close()
    monkeypatch.setattr(manifest, "MAX_SCORE_DIFFERENCE", 0.01)
    with pytest.raises(EngineError, match="other precisions, options or limits"):
        open_cascade(folder, directory=tmp_path, rebuild=False, bit_depth=12)


def test_a_backend_that_is_not_here_ends_with_5(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No driver, also where there is one: the loader takes this file, and it is no library.
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="no NVIDIA driver here") as caught:
        open_cascade(folder, directory=tmp_path, backend="tensorrt")
    assert caught.value.exit_code == 5
    with pytest.raises(UsageError, match="device 'gpu'"):
        open_cascade(folder, directory=tmp_path, backend="openvino", device="gpu")

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from daemon.frames import Frame, FrameMeta
from daemon.pipeline import Finished, Image, Pipeline, Rejection
from engines.errors import DeviceError, FrameRejectedError, InferenceError
from engines.results import Inspection

CLEAN = Inspection(8, 4, 0.1, None, ())


def frame(number: int, value: bytes = b"good", appended_ms: int = 0) -> Frame:
    return Frame(FrameMeta("frames", 0, number, appended_ms, 0, None, "cam", None, None, None, ()), value)


def decode(frame: Frame) -> Image:
    if frame.value == b"bad":
        raise FrameRejectedError("undecodable", "no picture in it")
    if frame.value == b"evil":
        raise ZeroDivisionError("a case that nobody thought of")
    return np.full((4, 8), frame.meta.offset % 256, np.uint8)


class Inspector:
    """Inspects nothing; notes the batches, and does to a batch what the test wants."""

    def __init__(self, slots: int = 2, max_frames: int = 4) -> None:
        self.slots = slots
        self.max_frames = max_frames
        self.batches: list[list[int]] = []
        self.before = lambda numbers: None
        self._lock = threading.Lock()

    def inspect(self, frames: Sequence[Image]) -> list[Inspection]:
        numbers = [int(image[0, 0]) for image in frames]
        with self._lock:
            self.batches.append(numbers)
        self.before(numbers)
        return [CLEAN] * len(frames)


def run(pipeline: Pipeline, frames: list[Frame]) -> list[Finished]:
    for item in frames:
        pipeline.put(item)
    done: list[Finished] = []
    while len(done) < len(frames):
        taken = pipeline.take(5.0)
        assert taken, "nothing finished within five seconds"
        done += taken
    return done


def pipeline_of(inspector: Inspector, **changes: float) -> Pipeline:
    values = {"decode_threads": 2, "max_frames": 4, "max_wait_s": 0.005, "capacity": 64, "max_bytes": 10_000} | changes
    return Pipeline(inspector, decode, lambda frame: 32, **values)  # type: ignore[arg-type]


def test_frames_come_out_in_the_order_in_which_they_went_in() -> None:
    inspector = Inspector(slots=3)
    release = threading.Event()
    # The first frame's batch is held back until a later one has gone through.
    inspector.before = lambda numbers: release.wait(5) and None if 0 in numbers else release.set()
    with pipeline_of(inspector, max_frames=2) as pipeline:
        done = run(pipeline, [frame(number) for number in range(12)])
    assert [item.frame.meta.offset for item in done] == list(range(12))


def test_batches_never_pass_the_limit_of_the_policy_or_of_the_cascade() -> None:
    inspector = Inspector(max_frames=3)
    with pipeline_of(inspector, max_frames=8) as pipeline:
        run(pipeline, [frame(number) for number in range(40)])
    assert max(map(len, inspector.batches)) <= 3
    assert sorted(number for batch in inspector.batches for number in batch) == list(range(40))


def test_frames_that_wait_for_a_slot_share_a_batch() -> None:
    inspector = Inspector(slots=1)
    decoded = threading.Event()
    inspector.before = lambda numbers: decoded.wait(5) and None
    with pipeline_of(inspector) as pipeline:
        for number in range(9):
            pipeline.put(frame(number))
        decoded.set()
        done: list[Finished] = []
        while len(done) < 9:
            done += pipeline.take(5.0)
    assert max(map(len, inspector.batches)) > 1


def test_a_frame_that_cannot_be_decoded_keeps_its_place_and_its_reason() -> None:
    with pipeline_of(Inspector()) as pipeline:
        done = run(pipeline, [frame(0), frame(1, b"bad"), frame(2)])
    assert done[1].outcome == Rejection("undecodable", "no picture in it")
    assert done[0].outcome == done[2].outcome == CLEAN


def test_a_frame_that_breaks_the_decoder_does_not_end_the_line() -> None:
    with pipeline_of(Inspector()) as pipeline:
        done = run(pipeline, [frame(0), frame(1, b"evil"), frame(2)])
    assert done[1].outcome == Rejection("undecodable", "ZeroDivisionError: a case that nobody thought of")
    assert done[2].outcome == CLEAN


def test_a_frame_that_breaks_its_measuring_does_not_end_the_line() -> None:
    def measure(frame: Frame) -> int:
        return 32 // (1 - frame.meta.offset)

    values = {"decode_threads": 2, "max_frames": 4, "max_wait_s": 0.005, "capacity": 64, "max_bytes": 10_000}
    with Pipeline(Inspector(), decode, measure, **values) as pipeline:  # type: ignore[arg-type]
        done = run(pipeline, [frame(0), frame(1), frame(2)])
        assert pipeline.bytes_held == 0
    assert [isinstance(each.outcome, Rejection) for each in done] == [False, True, False]


def test_the_oldest_frame_is_the_one_that_was_appended_first_of_those_that_have_a_time() -> None:
    inspector = Inspector()
    go = threading.Event()
    inspector.before = lambda numbers: go.wait(5) and None
    with pipeline_of(inspector) as pipeline:
        for number, appended_ms in ((3, 700), (4, 500), (5, 600), (6, -1)):
            pipeline.put(frame(number, appended_ms=appended_ms))
        oldest_ms = pipeline.oldest_ms
        go.set()
        assert oldest_ms == 500


def test_a_failing_batch_is_split_until_only_the_frame_that_causes_it_is_rejected() -> None:
    inspector = Inspector(slots=1, max_frames=8)

    def fail_on_five(numbers: list[int]) -> None:
        if 5 in numbers:
            raise InferenceError("a number that the network does not like")

    inspector.before = fail_on_five
    with pipeline_of(inspector, max_frames=8) as pipeline:
        done = run(pipeline, [frame(number) for number in range(8)])
    rejected = [item.frame.meta.offset for item in done if isinstance(item.outcome, Rejection)]
    assert rejected == [5]
    assert done[5].outcome == Rejection("inference", "a number that the network does not like")


def test_a_device_that_fails_reaches_the_owner() -> None:
    inspector = Inspector()

    def fail(numbers: list[int]) -> None:
        raise DeviceError("the device does not answer")

    inspector.before = fail
    with pipeline_of(inspector) as pipeline:
        pipeline.put(frame(0))
        with pytest.raises(DeviceError, match="does not answer"):
            pipeline.take(5.0)


def test_room_shrinks_with_each_frame_and_returns_when_it_is_taken() -> None:
    with pipeline_of(Inspector(), capacity=3) as pipeline:
        assert pipeline.room == 3
        run(pipeline, [frame(0), frame(1)])
        assert (pipeline.room, pipeline.in_flight, pipeline.oldest_ms) == (3, 0, None)


def test_closing_ends_every_thread_even_with_frames_in_flight() -> None:
    before = set(threading.enumerate())
    pipeline = pipeline_of(Inspector())
    for number in range(30):
        pipeline.put(frame(number))
    pipeline.close()
    assert set(threading.enumerate()) == before


def test_frames_as_they_were_sent_take_half_of_the_bytes_and_a_larger_one_goes_alone() -> None:
    inspector = Inspector()
    go = threading.Event()
    inspector.before = lambda numbers: go.wait(5) and None
    with pipeline_of(inspector, max_bytes=400) as pipeline:
        assert not pipeline.half_full
        pipeline.put(frame(0, b"x" * 150))
        assert (pipeline.room, pipeline.half_full) == (63, True)
        pipeline.put(frame(1, b"x" * 150))
        assert pipeline.room == 0
        go.set()
        while pipeline.in_flight:
            pipeline.take(5.0)
        assert (pipeline.room, pipeline.bytes_held) == (64, 0)
        pipeline.put(frame(2, b"x" * 10_000))
        assert pipeline.room == 0
        assert [item.outcome for item in pipeline.take(5.0)] == [CLEAN]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_decoded_frames_take_half_of_the_bytes() -> None:
    """Two of 32 bytes fit into 80; a third is decoded once one of them has been inspected."""
    inspector = Inspector(slots=1, max_frames=1)
    steps = threading.Semaphore(0)
    inspector.before = lambda numbers: steps.acquire(timeout=5) and None
    decoding: list[int] = []

    def noted(frame: Frame) -> Image:
        decoding.append(frame.meta.offset)
        return decode(frame)

    values = {"decode_threads": 3, "max_frames": 1, "max_wait_s": 0.005, "capacity": 64, "max_bytes": 160}
    with Pipeline(inspector, noted, lambda frame: 32, **values) as pipeline:  # type: ignore[arg-type]
        for number in range(6):
            pipeline.put(frame(number))
        for done in range(5):
            wait_until(lambda done=done: len(decoding) == min(6, done + 2))  # type: ignore[misc]
            assert pipeline.bytes_held <= 80 + 6 * 4
            steps.release()
            wait_until(lambda done=done: len(inspector.batches) >= done + 2)  # type: ignore[misc]
            assert len(decoding) <= done + 3
        steps.release()
        finished: list[Finished] = []
        while len(finished) < 6:
            finished += pipeline.take(5.0)
    assert [item.frame.meta.offset for item in finished] == list(range(6))


def test_a_frame_that_is_larger_than_all_the_room_is_decoded_alone() -> None:
    decoded = threading.Event()
    inspector = Inspector(slots=1, max_frames=1)
    inspector.before = lambda numbers: decoded.wait(5) and None
    sizes = {0: 10, 1: 1_000, 2: 10, 3: 1_000, 4: 1_000}
    values = {"decode_threads": 2, "max_frames": 1, "max_wait_s": 0.005, "capacity": 64, "max_bytes": 100}
    with Pipeline(inspector, decode, lambda frame: sizes[frame.meta.offset], **values) as pipeline:  # type: ignore[arg-type]
        for number in sizes:
            pipeline.put(frame(number))
        decoded.set()
        finished: list[Finished] = []
        while len(finished) < len(sizes):
            finished += pipeline.take(5.0)
            assert pipeline.bytes_held <= 1_000 + 5 * 4


def test_a_refused_frame_gives_its_room_back() -> None:
    with pipeline_of(Inspector(), max_bytes=64) as pipeline:
        run(pipeline, [frame(number, b"evil" if number % 2 else b"bad") for number in range(20)])
        assert pipeline.bytes_held == 0


def test_closing_ends_a_decode_thread_that_waits_for_room() -> None:
    before = set(threading.enumerate())
    inspector = Inspector(slots=1, max_frames=1)
    go, begun = threading.Event(), threading.Event()

    def hold(numbers: list[int]) -> None:
        begun.set()
        go.wait(5)

    inspector.before = hold
    pipeline = pipeline_of(inspector, max_bytes=64, max_frames=1)
    for number in range(8):
        pipeline.put(frame(number))
    assert begun.wait(5)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    go.set()
    closing.join(5)
    assert set(threading.enumerate()) == before

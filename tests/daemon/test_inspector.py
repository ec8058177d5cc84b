"""The pipeline as the configuration wants it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from daemon.inspector import open_pipeline
from daemon.settings import load_settings
from engines import gpu_jpeg
from engines.cascade import Cascade
from engines.errors import DeviceError

NO_CASCADE = cast(Cascade, SimpleNamespace(slots=1, max_frames=1))


def test_a_decoder_on_a_gpu_that_is_not_here_is_said_before_anything_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def refuses(decoders: int, *, device: int) -> None:
        asked.append((decoders, device))
        raise DeviceError("nvImageCodec does not start on this GPU: mend its driver, or set input.jpeg_decoder: cpu")

    monkeypatch.setattr(gpu_jpeg, "open_jpeg_decoder", refuses)
    settings = load_settings(None, ("input.jpeg_decoder=gpu", "engine.device=cuda:1", "pipeline.decode_threads=3"))
    with pytest.raises(DeviceError, match=r"or set input\.jpeg_decoder: cpu"), open_pipeline(settings, NO_CASCADE):
        pass
    assert asked == [(3, 1)]


def test_engines_on_the_processor_take_frames_from_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuses(decoders: int, *, device: int) -> None:
        asked.append(device)
        raise DeviceError("no")

    monkeypatch.setattr(gpu_jpeg, "open_jpeg_decoder", refuses)
    settings = load_settings(None, ("input.jpeg_decoder=gpu", "engine.device=cpu"))
    with pytest.raises(DeviceError), open_pipeline(settings, NO_CASCADE):
        pass
    assert asked == [0]

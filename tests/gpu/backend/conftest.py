"""The fake driver for every test of this folder. It is loaded into the process, which no other tests should share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from engines.tensorrt import device
from tests.gpu.backend import stub_tensorrt
from tests.gpu.backend.fake_driver import FakeDriver, load_fake_driver


@pytest.fixture(scope="session", autouse=True)
def _fake_device_allowed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_fake_allowed", True)
        yield


@pytest.fixture
def driver() -> Iterator[FakeDriver]:
    """A driver with nothing in it, whose context is nobody's; at the end nothing of it may be held any more."""
    loaded = load_fake_driver()
    loaded.reset()
    stub_tensorrt.violations.clear()
    yield loaded
    gc.collect()
    loaded.reset()

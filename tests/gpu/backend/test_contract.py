"""The contract of all backends, on the GPU runtime over the fake driver."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

pytest.importorskip("pycuda", reason="no PyCUDA here: make test-gpu has it")

from engines.backend import Compiler
from tests.engines.contract_backend import BackendContract
from tests.gpu.backend import stub_tensorrt
from tests.gpu.backend.fake_driver import load_fake_driver
from tests.gpu.backend.stub_compiler import StubCompiler


class TestTensorRTRuntime(BackendContract):
    # A slot's memory holds every frame of a batch, so that the largest engine must be for as many.
    batch_sizes: ClassVar[Mapping[str, tuple[int, ...]]] = {"single": (8,), "padded": (16,), "mixed": (1, 2, 8)}

    @pytest.fixture(scope="class")
    @classmethod
    def compiler(cls) -> Iterator[Compiler]:
        driver = load_fake_driver()
        driver.reset()
        stub_tensorrt.violations.clear()
        yield StubCompiler()
        gc.collect()
        assert stub_tensorrt.violations == []
        assert not any(driver.counts().held)

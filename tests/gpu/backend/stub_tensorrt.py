"""A stand-in for the module ``tensorrt``: its engines compute through ONNX Runtime, in streams of the fake driver.

It has what the backend uses of TensorRT's interface, and is as strict as the documentation is: a profile that was
switched to counts once the stream has got there, memory for activations belongs to one run at a time, an address must
be one of the device. The names are compared with those of the real bindings elsewhere in ``tests/gpu``.
"""

from __future__ import annotations

import base64
import ctypes
import enum
import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tests.gpu.backend.fake_driver import load_fake_driver

__version__ = "11.4.0.stub"

MAGIC = "a plan of Millwatch's tests"
ACTIVATION_BYTES = 4096
HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

violations: list[str] = []
"""What the code under test did that TensorRT does not forgive. A test that finds any fails."""

settings = {"capturable": True}
"""``capturable``: whether a run can be recorded; where it cannot, it waits for its stream."""


def alone() -> None:
    """Nothing else runs on the device."""


meanwhile: Callable[[], None] = alone
"""Called when a run has its inputs and when it has its output: what other streams do then must not matter to it."""

_functions: list[Any] = []
"""Every function that C may call: also work that should not wait any more must find something to call."""


class DataType(enum.Enum):
    FLOAT = 0
    UINT8 = 1
    INT64 = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


TYPES = {"tensor(uint8)": DataType.UINT8, "tensor(int64)": DataType.INT64, "tensor(float)": DataType.FLOAT}
DTYPES: dict[DataType, Any] = {DataType.UINT8: np.uint8, DataType.INT64: np.int64, DataType.FLOAT: np.float32}


def stub_plan(onnx: bytes, batch_sizes: Sequence[int], frame: Sequence[int]) -> bytes:
    """The plan of a stage with a profile for each batch size; ``frame`` is height and width."""
    content = {
        "magic": MAGIC,
        "onnx": base64.b64encode(onnx).decode(),
        "batch_sizes": list(batch_sizes),
        "frame": list(frame),
    }
    return json.dumps(content).encode()


class _Owned:
    """Anything of TensorRT's: it must go while there is a context."""

    alive = 0

    def __init__(self) -> None:
        _Owned.alive += 1

    def __del__(self) -> None:
        _Owned.alive -= 1
        if load_fake_driver().counts().retained_contexts == 0:
            violations.append(f"{type(self).__name__} outlived the context")


def _host_function(method: weakref.WeakMethod[Callable[[], None]]) -> Any:
    """What a stream calls when it gets here, in whatever thread waits for it."""

    def call(argument: int) -> None:
        try:
            bound = method()
            if bound is None:
                raise RuntimeError("its execution context is gone")  # noqa: TRY301
            bound()
        except Exception as error:  # noqa: BLE001 - C calls this
            violations.append(f"a run failed: {error}")
            load_fake_driver().fault()

    _functions.append(HOST_FUNCTION(call))
    return _functions[-1]


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        try:
            plan = json.loads(content)
        except ValueError:
            plan = {}
        if plan.get("magic") != MAGIC:
            self._logger.log(ILogger.ERROR, "the plan has another magic number")
            return None
        return Engine(plan, self._logger)


class Engine(_Owned):
    def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
        super().__init__()
        self.logger = logger
        self.frame = tuple(plan["frame"])
        self.batch_sizes: list[int] = plan["batch_sizes"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            base64.b64decode(plan["onnx"]), options, providers=["CPUExecutionProvider"]
        )
        ports = (*self.session.get_inputs(), *self.session.get_outputs())
        self.types = {port.name: TYPES[port.type] for port in ports}
        self.output = self.session.get_outputs()[0].name
        self.num_io_tensors = len(self.types)
        self.num_optimization_profiles = len(self.batch_sizes)

    def get_tensor_name(self, number: int) -> str:
        return list(self.types)[number]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.types[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        if name == "frames":
            largest = max(self.batch_sizes)
            return [(1, *self.frame), (largest, *self.frame), (largest, *self.frame)]
        return [(self.batch_sizes[profile],)] * 3

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return ACTIVATION_BYTES * self.batch_sizes[profile]

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> ExecutionContext | None:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return ExecutionContext(self)


class ExecutionContext(_Owned):
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._driver = load_fake_driver()
        self._profile: int | None = None
        self._asked_profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._activations = (0, 0)
        self._switch = _host_function(weakref.WeakMethod(self._switched))
        self._function = _host_function(weakref.WeakMethod(self._run))

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._asked_profile = profile
        return self._enqueue(self._switch, stream)

    def set_device_memory(self, address: int, size: int) -> None:
        self._activations = (address, size)

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        if self._profile is None:
            violations.append("a shape was set before the profile was switched to")
        least, _, most = self._engine.get_tensor_profile_shape(name, self._profile or 0)
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            self._engine.logger.log(ILogger.ERROR, f"{name} does not fit the profile")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._engine.types:
            return False
        self._addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in ("frames", "index") if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        output = self._engine.session.get_outputs()[0]
        return (*self._shapes["index"], *output.shape[1:])

    def execute_async_v3(self, stream: int) -> bool:
        if set(self._addresses) != set(self._engine.types) or self.infer_shapes() or not self._activations[1]:
            self._engine.logger.log(ILogger.ERROR, "not everything is set that a run needs")
            return False
        if not settings["capturable"] and self._driver.library.cuStreamSynchronize(ctypes.c_void_p(stream)):
            self._engine.logger.log(ILogger.ERROR, "operation not permitted when stream is capturing")
            return False
        if not self._enqueue(self._function, stream):
            self._engine.logger.log(ILogger.ERROR, "the kernel was not launched")
            return False
        return True

    def _enqueue(self, function: Any, stream: int) -> bool:
        return not self._driver.library.cuLaunchHostFunc(ctypes.c_void_p(stream), function, None)

    def _switched(self) -> None:
        self._profile = self._asked_profile

    def _run(self) -> None:
        activations = self._array(self._activations[0], (self._activations[1],), np.uint8)
        if len(activations) < self._engine.get_device_memory_size_for_profile_v2(self._profile or 0):
            raise ValueError("too little memory for activations")
        token = np.frombuffer(id(self).to_bytes(8, "little"), np.uint8)
        activations[:8] = activations[-8:] = token
        inputs = {
            name: self._array(self._addresses[name], self._shapes.get(name, (1,)), DTYPES[kind])
            for name, kind in self._engine.types.items()
            if name != self._engine.output
        }
        index = inputs["index"]
        if index.min() < 0 or index.max() >= self._shapes["frames"][0]:
            raise ValueError(f"no frame at {index.tolist()}")
        meanwhile()
        (computed,) = self._engine.session.run(None, inputs)
        kind = DTYPES[self._engine.types[self._engine.output]]
        self._array(self._addresses[self._engine.output], computed.shape, kind)[...] = computed
        meanwhile()
        if not (np.array_equal(activations[:8], token) and np.array_equal(activations[-8:], token)):
            raise ValueError("another run wrote into this one's activations")

    def _array(self, address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = self._driver.memory(address, size)
        if memory is None:
            raise ValueError(f"no {size} bytes of device memory at {address:#x}")
        return np.frombuffer((ctypes.c_char * size).from_address(memory), dtype).reshape(shape)

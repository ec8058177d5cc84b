"""The CUDA context of one GPU: who has it current, and what becomes of an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pycuda.driver as cuda
from cuda.bindings import driver

from engines.errors import DeviceError, InferenceError, MillwatchError
from engines.tensorrt.device import refuse_fake


class EnqueueError(Exception):
    """TensorRT did not take a run; the message is its own."""


class DeviceContext:
    """The primary context of one GPU, which everything in the process shares that uses the CUDA runtime library.

    It knows when the device is lost: CUDA repeats an error that destroyed the context at every later call, so after a
    failure the context is asked once more, and what it repeats is final. Obtained from :func:`primary_context`.
    """

    def __init__(self, context: Any) -> None:
        self._context: Any = context
        self._handle = driver.CUcontext(context.handle)
        self._lost: str | None = None

    def push(self) -> None:
        """Make it current for the calling thread. Raises :class:`DeviceError` where the device is lost.

        Not by PyCUDA, whose own record of a thread's contexts ends the process where a pop fails, as it does on a lost
        device.
        """
        self.check()
        (code,) = driver.cuCtxPushCurrent(self._handle)
        if code:
            raise self.loses(f"cuCtxPushCurrent failed: {code.name}")

    def pop(self) -> None:
        """Undo :meth:`push`. A lost device may refuse even that, and nothing follows from it."""
        driver.cuCtxPopCurrent()

    def check(self) -> None:
        """Raise :class:`DeviceError` where the device is lost."""
        if self._lost is not None:
            raise DeviceError(self._lost)

    def judge(self, what: str, error: Exception) -> MillwatchError:
        """The error to raise after ``error`` in ``what``; waits for everything that runs in the context."""
        reason = first_line(error)
        try:
            cuda.Context.synchronize()
        except cuda.Error as repeated:
            return self.loses(f"{what}: {reason}; then {first_line(repeated)}")
        return InferenceError(f"{what} failed: {reason}")

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Calls of CUDA and TensorRT whose failure ends as :class:`InferenceError` or :class:`DeviceError`."""
        self.check()
        try:
            yield
        except (cuda.Error, EnqueueError) as error:
            raise self.judge(what, error) from None

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Calls after whose failure the device counts as lost, whatever it says then."""
        self.check()
        try:
            yield
        except cuda.Error as error:
            raise self.loses(first_line(error)) from None

    def abandon(self) -> None:
        """Make PyCUDA take everything of this context for gone. Where it is current, it is released."""
        if self._context is not None:
            self._context.detach()
            self._context = None

    def loses(self, reason: str) -> DeviceError:
        """The device counts as lost from now on; returns the error that says so."""
        self._lost = f"the GPU does not answer any more: {reason}"
        return DeviceError(self._lost)


@contextmanager
def primary_context(ordinal: int) -> Iterator[DeviceContext]:
    """Retain the primary context of a GPU, current for the calling thread until :func:`leave`; released at the end.

    At the end it must be current again by :func:`enter`, since PyCUDA frees nothing from any other context.
    Raises :class:`DeviceError` for the fake device of the tests, ``pycuda.driver.Error`` where CUDA does not start.
    """
    cuda.init()
    device = cuda.Device(ordinal)
    refuse_fake(device.name())
    context = device.retain_primary_context()
    owned = DeviceContext(context)
    try:
        context.push()
        yield owned
    finally:
        owned.abandon()
        # PyCUDA releases a primary context and leaves it current.
        code, current = driver.cuCtxGetCurrent()
        if not code and int(current) == int(owned._handle):
            driver.cuCtxPopCurrent()


def enter(owned: DeviceContext) -> None:
    """Make it PyCUDA's current context in the calling thread: what PyCUDA asks for to allocate and to free."""
    owned._context.push()


def leave(owned: DeviceContext) -> None:
    """Undo :func:`enter`, or what :func:`primary_context` did."""
    owned._context.pop()


def first_line(error: Exception) -> str:
    """The first line of what CUDA or TensorRT says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

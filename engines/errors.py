"""The root of Millwatch's errors, and those that models, engines and images raise.

Every error that a user can cause or mend is a :class:`MillwatchError`: its message is one line that says what is wrong,
where, and what to do, and its ``exit_code`` is what the command ends with. Anything else that escapes is a defect of
ours and ends with 1.
"""

from __future__ import annotations

from typing import ClassVar


class MillwatchError(Exception):
    """Base of all errors whose message is meant for the user."""

    exit_code: ClassVar[int] = 1


class UsageError(MillwatchError):
    """A wrong argument, file or configuration value."""

    exit_code: ClassVar[int] = 2


class EngineError(MillwatchError):
    """An engine that is missing, does not fit this device or version, or was refused by the builder."""

    exit_code: ClassVar[int] = 4


class DeviceError(MillwatchError):
    """No device, or one that has stopped answering. Nothing more can be inspected by this process."""

    exit_code: ClassVar[int] = 5


class InferenceError(MillwatchError):
    """One batch could not be inspected; the device still answers, so a smaller batch may."""

    exit_code: ClassVar[int] = 6


class FrameRejectedError(MillwatchError):
    """A frame that cannot be inspected whatever the models say.

    ``reason`` is one of the short words of the dead-letter topic (``empty``, ``truncated``, ...), ``detail`` a sentence
    for the person who looks into it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

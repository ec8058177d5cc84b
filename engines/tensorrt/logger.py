"""What TensorRT says while it works: kept, so that an error of ours can tell its reason."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

KEPT_LINES: Final = 20


@cache
def shared_logger(library: Any) -> Any:
    """The one logger that is handed to everything of TensorRT in this process; ``library`` is its module.

    TensorRT keeps the first one that it is given and warns of any other, and an object of it must not outlive its
    logger.
    """

    class Logger(library.ILogger):  # type: ignore[misc]
        """Keeps the last lines of errors; ``take`` hands them over."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=KEPT_LINES)

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT, from any of its threads."""
            if severity <= library.ILogger.ERROR:
                self._errors.append(message)

        def take(self) -> list[str]:
            """The errors since the last call, oldest first."""
            errors = list(self._errors)
            self._errors.clear()
            return errors

    return Logger()


def first_error(told: Sequence[str]) -> str:
    """The first line of the first of the errors that a logger heard, as part of a sentence."""
    return told[0].strip().splitlines()[0] if told and told[0].strip() else "TensorRT does not say why"

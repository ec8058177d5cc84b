"""What the Kafka client repeats in its log while a broker is away, told now and then."""

from __future__ import annotations

import logging
import re
import threading
import time

EVERY_S = 60.0
"""How often the same message is told while it goes on. The service's own log says what is wrong when it begins and when
it is over; the client says the same seven times a second."""

MOST_KEPT = 256
"""Messages that are known at once; beyond that the one that was heard least lately is forgotten."""

_VARYING = re.compile(r"(?<=<-)\d+|0x[0-9a-f]+")
"""What differs from one attempt to the next: the port on this side of a connection, and the address of an object."""


class LeaveOutRepeats(logging.Filter):
    """Lets each message of the Kafka client through once in :data:`EVERY_S`, with the number that was left out since as
    ``left_out``. Messages with another error or about another broker are others; all other loggers pass."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._told: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be told."""
        if record.name.partition(".")[0] != "kafka":
            return True
        try:
            text = record.getMessage()
            if record.exc_info:
                # What the text does not tell: whatever ends a task of the client is logged in the same words.
                text += repr(record.exc_info[1])
        except Exception:  # noqa: BLE001 - the handler tells of a message that cannot be made
            return True
        key = (record.name, record.levelno, _VARYING.sub("", text))
        now = time.monotonic()
        with self._lock:
            told_at, left_out = self._told.pop(key, (-EVERY_S, 0))
            if now - told_at < EVERY_S:
                self._told[key] = (told_at, left_out + 1)
                return False
            self._told[key] = (now, 0)
            if len(self._told) > MOST_KEPT:
                del self._told[next(iter(self._told))]
        if left_out:
            record.left_out = left_out
        return True

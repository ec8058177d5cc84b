"""Whether the line takes frames or would, and if not, why: what it waits for, and what its broker says to that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from daemon.errors import BrokerError, BrokerUnreachableError
from engines.errors import UsageError

log = structlog.get_logger(__name__)

SILENT_S = 10.0
"""How long the consumer may not be polled before it is worth a word to whoever asks."""

SLOW_COMMIT_S = 5.0
"""How long a commit may take before it is worth a word to whoever asks."""

ASK_WHY_S = 10.0
"""How often a broker that gives trouble is asked why, which takes connections of its own."""

STANDING_S = 60.0
"""How long ago a refusal may have been told to be the same that is told now: longer than the line waits at the most."""

REFUSED_S = 5.0
"""How long a refusal must stand before it ends the line: while brokers start they may not know their topics yet, and
while a token is renewed its file may be empty."""

CheckBroker = Callable[[], None]
"""Finds out why the broker gives trouble: raises BrokerUnreachableError where waiting may help, BrokerError or
UsageError where it does not."""


class Readiness:
    """What the line tells of itself. Owned by the line thread; any thread may ask :meth:`told`."""

    def __init__(self, check_broker: CheckBroker) -> None:
        self.polled_at = time.monotonic()
        self._waiting_for: str | None = "the line has not started"
        self._committing_since: float | None = None
        self._trouble: str | None = None
        self._cause = _Cause(check_broker)

    def told(self) -> tuple[bool, str]:
        """Whether frames are being taken or would be, and why not."""
        if self._waiting_for is not None:
            return False, self._waiting_for
        now = time.monotonic()
        since = self._committing_since
        if since is not None and now - since > SLOW_COMMIT_S:
            return False, f"the broker has not taken a commit for {now - since:.0f} s"
        if self._trouble is not None:
            return False, self._trouble
        if (silent := now - self.polled_at) > SILENT_S:
            return False, f"the consumer was last polled {silent:.0f} s ago"
        return True, "taking frames"

    def waits(self, reason: str) -> None:
        """No frames are taken until :meth:`goes_on`."""
        self._waiting_for = reason

    def waits_for_broker(self, reason: str) -> str:
        """As :meth:`waits`, and ask the broker why; returns what is told. Raises what waiting does not mend."""
        self._waiting_for = reason
        self._waiting_for = told = self._cause.ask() or reason
        return told

    def goes_on(self) -> None:
        """Frames are taken again."""
        self._waiting_for = None

    def polled(self) -> None:
        """The consumer was polled just now."""
        self.polled_at = time.monotonic()

    @contextmanager
    def committing(self) -> Iterator[None]:
        """A commit is under way within the context."""
        self._committing_since = time.monotonic()
        try:
            yield
        finally:
            self._committing_since = None

    def committed(self) -> None:
        """The broker took a commit: whatever it refused before, it does not any more."""
        self._cause.forget()

    def look(self, trouble: str | None) -> None:
        """Tell of what keeps frames from coming, and why; of nothing where it is over. Raises what waiting does not
        mend."""
        if trouble is None:
            if self._trouble is not None:
                log.info("the trouble with the broker is over", trouble=self._trouble)
                self._cause.forget()
            self._trouble = None
            return
        if self._trouble is None:
            log.warning("trouble with the broker", trouble=trouble)
        self._trouble = trouble
        self._trouble = self._cause.ask() or trouble


class _Cause:
    """Asks the broker now and then why it gives trouble, and tells a refusal that lasts from one that passes."""

    def __init__(self, check_broker: CheckBroker) -> None:
        self._check_broker = check_broker
        self._asked_at = 0.0
        self._answer: str | None = None
        self._refused_at: float | None = None

    def ask(self) -> str | None:
        """Why the broker gives trouble, where it tells. Raises a refusal that has stood for a while."""
        now = time.monotonic()
        if now - self._asked_at < ASK_WHY_S and self._refused_at is None:
            return self._answer
        standing = now - self._asked_at < STANDING_S
        self._answer, refused_at, self._refused_at = None, self._refused_at if standing else None, None
        try:
            self._check_broker()
        except BrokerUnreachableError as unreachable:
            self._answer = str(unreachable)
        except (BrokerError, UsageError) as refusal:
            self._answer, self._refused_at = str(refusal), now if refused_at is None else refused_at
            if now - self._refused_at > REFUSED_S:
                raise
        finally:
            self._asked_at = time.monotonic()
        return self._answer

    def forget(self) -> None:
        """The trouble is over: what was answered to it says nothing of the next."""
        self._answer = self._refused_at = None

"""What it takes to go on after something has failed: how long to wait for it, and how to begin again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from kafka import errors as kafka_errors

from daemon.delivery import DeliveryAborted, failure
from daemon.outbox import Outbox
from daemon.readiness import Readiness
from daemon.source import FrameSource

log = structlog.get_logger(__name__)

FIRST_S = 1.0
"""The wait before the second attempt in a row; it doubles with each further one. The first one does not wait: most of
what makes the line start over, a rebalance above all, is over by then."""

LONGEST_S = 30.0

RETRY_S = 1.0
"""Wait between attempts to begin again while the broker does not answer."""

KEEP_S = 0.2
"""How often the group hears of this instance while it waits."""

POSTPONE_S = 0.05
"""Wait before a commit that a rebalance postponed is tried again; the polls in between let the rebalance go on."""

REJOIN_S = 5.0
"""How long, beyond the session, a rebalance may postpone commits: it waits for a member that is dead until its session
is over. A broker that lost track of a static member that was killed while it joined would postpone them for ever;
joining anew ends that."""


class Backoff:
    """Waits between attempts that follow each other without success."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait after one more failure."""
        self._failures += 1
        return 0.0 if self._failures == 1 else min(LONGEST_S, FIRST_S * 2.0 ** (self._failures - 2))

    def succeeded(self) -> None:
        """Begin again with no wait."""
        self._failures = 0


class Postponement:
    """Of commits, by a rebalance that has to go on before they are taken. ``session_s`` is how long the group waits for
    a member that is silent; ``not_before`` the monotonic time of the next attempt."""

    def __init__(self, session_s: float) -> None:
        self._longest_s = session_s + REJOIN_S
        self._since: float | None = None
        self.not_before = 0.0

    def once_more(self) -> bool:
        """A commit was postponed; returns whether that has lasted for too long."""
        now = time.monotonic()
        self.not_before = now + POSTPONE_S
        if self._since is None:
            self._since = now
        return now - self._since > self._longest_s

    def over(self) -> None:
        """A commit was taken, or given up."""
        self._since = None


class Recovery:
    """Begins again with the delivery and the source of a line, however long the broker is away. Owned by the line
    thread; ``stop`` ends every wait."""

    def __init__(
        self, source: FrameSource, outbox: Outbox, readiness: Readiness, stop: threading.Event, instance: str
    ) -> None:
        """``instance`` is this one's name, for the message that says another one has taken it."""
        self._source = source
        self._outbox = outbox
        self._readiness = readiness
        self._stop = stop
        self._instance = instance

    def aborted(self, error: kafka_errors.KafkaError) -> DeliveryAborted:
        """An error of the client as one that beginning again may mend. Raises FencedError or BrokerError where it does
        not."""
        meaning = failure(error, self._instance)
        if not isinstance(meaning, DeliveryAborted):
            raise meaning from error
        return meaning

    def wait(self, seconds: float) -> bool:
        """Wait, or until a stop; returns whether that came. The group hears of this instance meanwhile, and can go on
        with a rebalance. What is polled is not taken: it is read again."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._stop.wait(min(left, KEEP_S)):
            try:
                self._source.keep_membership()
            except kafka_errors.KafkaError as error:
                self.aborted(error)
        return self._stop.is_set()

    def reopen(self, then: Callable[[], None]) -> bool:
        """Get the delivery ready, then do the rest; waits for a broker that does not answer. Returns False where a stop
        came first. Raises as :meth:`aborted` does."""
        while True:
            try:
                self._outbox.reopen()
                then()
                self._outbox.settle(self._source.marks_of)
            except kafka_errors.KafkaError as error:
                aborted = self.aborted(error)
                reason = self._readiness.waits_for_broker(f"the broker does not answer ({type(error).__name__})")
                log.warning("waiting for the broker", error=str(aborted), reason=reason)
                if self.wait(RETRY_S):
                    return False
            else:
                self._readiness.goes_on()
                return True

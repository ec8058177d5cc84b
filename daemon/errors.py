"""The errors of streams and delivery; :mod:`engines.errors` has the root and the rest."""

from __future__ import annotations

from typing import ClassVar

from engines.errors import MillwatchError


class BrokerError(MillwatchError):
    """The broker refused: a password, a certificate, a right or a topic. Waiting does not mend it."""

    exit_code: ClassVar[int] = 3


class BrokerUnreachableError(BrokerError):
    """No broker answered: its name, its address or the network. ``run`` waits for it, other commands end."""


class UncommittedError(MillwatchError):
    """Frames or events could not be handled and were left uncommitted; they will be read again."""

    exit_code: ClassVar[int] = 6


class FencedError(MillwatchError):
    """Another instance has taken this one's name; nothing that this one still holds may be committed."""

    exit_code: ClassVar[int] = 7

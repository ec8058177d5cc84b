"""Delivery of results: events, dead letters and input offsets to the broker, exactly once or at least once."""

from daemon.delivery.at_least_once import AtLeastOnce
from daemon.delivery.base import CommitPostponed, Delivery, DeliveryAborted, Offsets, RecordTooLarge, failure
from daemon.delivery.exactly_once import ExactlyOnce

__all__ = [
    "AtLeastOnce",
    "CommitPostponed",
    "Delivery",
    "DeliveryAborted",
    "ExactlyOnce",
    "Offsets",
    "RecordTooLarge",
    "failure",
]

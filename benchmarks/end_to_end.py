"""``python -m benchmarks.end_to_end [OPTIONS]``: ``millwatch bench`` on an Apache Kafka of its own.

Takes the options of ``millwatch bench``. ``MILLWATCH_KAFKA_HOME`` names the Kafka home.
"""

from __future__ import annotations

import sys

from benchmarks.brokers import open_broker
from daemon.cli import main as millwatch

if __name__ == "__main__":
    with open_broker("apache") as bootstrap:
        millwatch(["bench", "--broker", "configured", "--set", f"kafka.bootstrap={bootstrap}", *sys.argv[1:]])

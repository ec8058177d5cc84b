"""A second broker for a cluster of one, so that a topic can have copies and lose one."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Self

from kafka import KafkaAdminClient

from daemon.apache_kafka import PROPERTIES, ApacheKafka
from daemon.embedded_broker import HOST, free_port
from tests.support.topics import PATIENCE_S


class SecondBroker(ApacheKafka):
    """Joins the cluster of ``first`` for the length of the context; the first stays its only controller."""

    def __init__(self, first: ApacheKafka, folder: Path) -> None:
        super().__init__(folder)
        self._first = first
        port = free_port()
        self.bootstrap = f"{HOST}:{port}"
        # Of a key that is there twice the last counts.
        *_, controller = re.findall(r"CONTROLLER://\S+?:(\d+)", first._properties.read_text(encoding="utf-8"))
        more = f"""
process.roles=broker
node.id=2
listeners=PLAINTEXT://{HOST}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
"""
        text = PROPERTIES.format(host=HOST, port=port, controller=controller, data=folder / "data")
        self._properties.write_text(text + more, encoding="utf-8")

    def __enter__(self) -> Self:
        meta = self._first._folder / "data" / "meta.properties"
        identity = re.search(r"cluster\.id=(\S+)", meta.read_text(encoding="utf-8"))
        assert identity is not None
        self._run(
            "kafka-storage.sh", "format", "--no-initial-controllers", "-t", identity[1], "-c", str(self._properties)
        )
        self.start()
        client = KafkaAdminClient(bootstrap_servers=self._first.bootstrap)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while len(client.describe_cluster()["brokers"]) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            client.close()
        return self

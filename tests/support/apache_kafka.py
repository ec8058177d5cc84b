"""A real Apache Kafka for tests: one broker that is its own controller, from the home that the environment names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

HOME_VARIABLE = "MILLWATCH_KAFKA_HOME"

START_S = 60.0

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=20971520
replica.fetch.max.bytes=20971520
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=16777216
"""


def home() -> Path | None:
    """The Kafka home of the environment; None where it names none or there is no Java to run it."""
    value = os.environ.get(HOME_VARIABLE)
    return Path(value).resolve() if value and shutil.which("java") else None


class ApacheKafka:
    """A broker that lives as long as the context, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        kafka_home = home()
        assert kafka_home is not None, f"{HOME_VARIABLE} names no Kafka, or there is no Java"
        self._bin = kafka_home / "bin"
        self._folder = folder
        self._properties = folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        self._port = port
        self._properties.write_text(PROPERTIES.format(port=port, controller=controller, data=folder / "data"))

    def __enter__(self) -> ApacheKafka:
        identity = self._run("kafka-storage.sh", "random-uuid").stdout.decode().split()[-1]
        self._run("kafka-storage.sh", "format", "--standalone", "-t", identity, "-c", str(self._properties))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker on its data and wait until it has started."""
        log = self._folder / "broker.log"
        started_before = log.read_text(errors="replace").count("Kafka Server started") if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._bin / "kafka-server-start.sh", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while log.read_text(errors="replace").count("Kafka Server started") <= started_before:
            assert self._process.poll() is None, f"Kafka ended: {log.read_text(errors='replace')[-2000:]}"
            assert time.monotonic() < deadline, f"Kafka has not started after {START_S:.0f} s"
            time.sleep(0.1)

    def stop(self) -> None:
        """End the broker in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([self._bin / name, *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

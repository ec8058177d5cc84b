"""An Apache Kafka of one's own, from a Kafka home that the environment names: for measurements and acceptance tests.

One process is broker and controller, on loopback, without security and without copies.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import Self

from daemon.embedded_broker import HOST, free_port
from daemon.errors import BrokerUnreachableError
from engines.errors import UsageError

HOME_VARIABLE = "MILLWATCH_KAFKA_HOME"

START_S = 180.0
"""How long the broker may take; it takes three to four seconds on an idle machine, and over a minute on a busy one."""

STOP_S = 30.0

LOOK_S = 0.1

STARTED = "Kafka Server started"
"""The line of its log with which the broker says that it takes requests."""

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
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
"""One node holds everything, so nothing is replicated; frames are larger than Kafka's default of 1 MB."""


def home() -> Path | None:
    """The Kafka home of the environment; None where it names none or there is no Java to run it."""
    value = os.environ.get(HOME_VARIABLE)
    return Path(value).resolve() if value and shutil.which("java") else None


def _cluster_id() -> str:
    # As Kafka's own tool makes it, which would start a Java machine of its own for it.
    identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # A word that begins with a dash would be an option.
    return _cluster_id() if identity.startswith("-") else identity


class ApacheKafka:
    """A broker that lives as long as the context, its data and its log in ``folder``, which stays.

    Raises :class:`UsageError` where there is no Kafka home or no Java, :class:`BrokerUnreachableError` where the broker
    does not start.
    """

    def __init__(self, folder: Path) -> None:
        kafka_home = home()
        if kafka_home is None:
            raise UsageError(f"{HOME_VARIABLE} names no Kafka home, or there is no Java to run it")
        self._bin = kafka_home / "bin"
        self._folder = folder
        self._properties = folder / "server.properties"
        self._log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = free_port(), free_port()
        self.bootstrap = f"{HOST}:{port}"
        self._properties.write_text(
            PROPERTIES.format(host=HOST, port=port, controller=controller, data=folder / "data"), encoding="utf-8"
        )

    def __enter__(self) -> Self:
        self._run("kafka-storage.sh", "format", "--standalone", "-t", _cluster_id(), "-c", str(self._properties))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker on its data and wait until it has started."""
        started_before = self._times_started()
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._bin / "kafka-server-start.sh", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C in a terminal is for us, who then end the broker in order.
                start_new_session=True,
            )
        try:
            self._wait_for_start(self._process, started_before)
        except BaseException:
            # Ctrl-C, too: the broker has a session of its own and would run on.
            self.stop()
            raise

    def _wait_for_start(self, process: subprocess.Popen[bytes], started_before: int) -> None:
        deadline = time.monotonic() + START_S
        while self._times_started() <= started_before:
            if process.poll() is not None or time.monotonic() > deadline:
                raise BrokerUnreachableError(f"Apache Kafka did not start on {self.bootstrap}: see {self._log}")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """End the broker in order."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _times_started(self) -> int:
        return self._log.read_text(encoding="utf-8", errors="replace").count(STARTED) if self._log.exists() else 0

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._bin / name, *arguments], capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False
        )
        if done.returncode:
            told = (done.stderr or done.stdout).strip().splitlines()
            raise UsageError(f"{self._bin / name}: {told[-1] if told else f'ended with {done.returncode}'}")
        return done.stdout

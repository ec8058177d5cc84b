"""Tokens that run out while the service runs, on a real broker that asks for them again on its connections."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
from kafka import KafkaProducer

from daemon.daemon_process import LOG_FILE, start_daemon
from daemon.kafka.rights import of_service
from engines.build import build_cascade
from tests.support.secure_kafka import SecureKafka, unsigned_token
from tests.support.tiny_cascade import frame_with, write_tiny_cascade
from tests.support.topics import Lane, new_lane

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

USER = "token-bearer"
LIVES_S = 8.0
RENEWED_EACH_S = 2.0
PATIENCE_S = 60.0

DEFECTIVE = cv2.imencode(".png", frame_with({3: [(10, 20, 40, 12)]}))[1].tobytes()


class Renewal:
    """Writes a new token into a file before the old one has run out, as an agent beside the service would."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._stop = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._renew, name="renewal")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._stop.wait(RENEWED_EACH_S):
            self._write()

    def _write(self) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(unsigned_token(USER, LIVES_S))
        new.replace(self.file)


@contextmanager
def renewed(file: Path) -> Iterator[Renewal]:
    renewal = Renewal(file)
    try:
        yield renewal
    finally:
        renewal.stop()


class Service:
    """The service under a token."""

    def __init__(self, lane: Lane, overrides: list[str], folder: Path) -> None:
        self._log = folder / LOG_FILE
        words = [word for override in [*lane.overrides, *overrides] for word in ("--set", override)]
        with self._log.open("wb") as log:
            self.process = start_daemon(words, os.environ, log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def lane(secure_kafka: SecureKafka) -> Lane:
    lane = new_lane(secure_kafka.bootstrap)
    secure_kafka.allow(USER, of_service(lane.settings()))
    return lane


@contextmanager
def service_of(broker: SecureKafka, lane: Lane, token: Path, folder: Path) -> Iterator[Service]:
    cascade = write_tiny_cascade(folder / "cascade")
    build_cascade(cascade, directory=folder / "engines", backend="openvino")
    overrides = [
        *broker.with_token_file(token),
        f"cascade={cascade}",
        f"engine.directory={folder / 'engines'}",
        "log.format=json",
    ]
    service = Service(lane, overrides, folder)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def wait_until(condition: Callable[[], bool], service: Service) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, service.log[-3_000:]
        assert service.process.poll() is None, service.log[-3_000:]
        time.sleep(0.1)


def send(lane: Lane) -> None:
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
    producer.send(lane.frames, DEFECTIVE, partition=0).get(PATIENCE_S)
    producer.close()


@pytest.mark.timeout(300)
def test_the_service_outlives_its_tokens_where_the_file_is_renewed(
    secure_kafka: SecureKafka, lane: Lane, tmp_path: Path
) -> None:
    with (
        renewed(tmp_path / "renewed.token") as renewal,
        service_of(secure_kafka, lane, renewal.file, tmp_path) as service,
    ):
        sent = 0
        began = time.monotonic()
        while sent < 2 or time.monotonic() - began < 2 * LIVES_S:
            send(lane)
            sent += 1
            wait_until(lambda: lane.offsets() == sent, service)  # noqa: B023 - called before the loop goes on
            time.sleep(0.5)
        assert service.stop() == 0, service.log[-3_000:]
    assert "starting over" not in service.log
    assert "failed" not in service.log
    assert len(lane.committed(lane.events, lambda seen: len(seen) >= sent)) == sent

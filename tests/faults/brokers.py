"""Brokers that can be hurt."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Self

from daemon.apache_kafka import ApacheKafka
from daemon.embedded_broker import HOST, EmbeddedBroker, free_port

LISTEN = """
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{loopback}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.quorum.bootstrap.servers={loopback}:{controller}
"""
"""Of a key that is there twice the last counts."""


class FaultyKafka(ApacheKafka):
    """Apache Kafka that can be killed and stopped; ``host`` is where clients find it, ``data`` where its data lies."""

    def __init__(self, folder: Path, *, host: str = HOST, data: Path | None = None) -> None:
        super().__init__(folder)
        port, controller = free_port(), free_port()
        self.bootstrap = f"{host}:{port}"
        with self._properties.open("a", encoding="utf-8") as properties:
            properties.write(LISTEN.format(host=host, port=port, controller=controller, loopback=HOST))
            if data is not None:
                properties.write(f"log.dirs={data}\n")

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash would; what it had acknowledged is in the system's memory and outlives it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Stand still, with every connection open."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def __exit__(self, *_: object) -> None:
        self.resume()
        super().__exit__()

    def _send(self, number: signal.Signals) -> None:
        if self.alive:
            assert self._process is not None
            self._process.send_signal(number)


class SmallDisk:
    """A tmpfs of a few MiB, mounted for the length of the context; root only."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        self._size_mib = size_mib

    @staticmethod
    def unavailable() -> str | None:
        """Why it cannot be had here; None where it can."""
        return None if os.geteuid() == 0 else "only root may mount a small disk"

    def __enter__(self) -> Self:
        self.folder.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size_mib}m", "millwatch-faults", str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        _run("umount", "--lazy", str(self.folder))

    def fill(self) -> None:
        """Leave no room at all."""
        block = bytes(2**20)
        with self._filler.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while block:
                # The last blocks are smaller and smaller: a file system that is nearly full still takes those.
                block = block if filler.write(block) == len(block) else block[: len(block) // 2]

    def empty(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)


class Network:
    """A network namespace behind a virtual cable of its own, for the length of the context; root and ``ip`` only.

    Whatever runs inside reaches this side under :attr:`address` as long as the cable is plugged in.
    """

    def __init__(self) -> None:
        # The name is this process's own, and so is the network: 10.231.0.0/16 in pieces of four addresses.
        self.name = f"mwf-{os.getpid()}"
        piece = os.getpid() % 2**14
        self.address, self._inside = (f"10.231.{piece // 64}.{piece % 64 * 4 + host}" for host in (1, 2))
        self._cable, self._end = f"mwa{os.getpid()}", f"mwb{os.getpid()}"

    @staticmethod
    def unavailable() -> str | None:
        """Why it cannot be had here; None where it can."""
        if os.geteuid() != 0:
            return "only root may make a network namespace"
        try:
            with Network():
                return None
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no network namespace can be made here: {error}"

    @property
    def prefix(self) -> list[str]:
        """What comes before a command that is to run inside."""
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        try:
            _run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", self._end, "netns", self.name)
            _run("ip", "address", "add", f"{self.address}/30", "dev", self._cable)
            _run("ip", "-n", self.name, "address", "add", f"{self._inside}/30", "dev", self._end)
            _run("ip", "-n", self.name, "link", "set", "lo", "up")
            _run("ip", "-n", self.name, "link", "set", self._end, "up")
            self.plug()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The namespace lives on for as long as a process is inside; the cable must not, others may take its name.
        subprocess.run(["ip", "link", "delete", self._cable], check=False, capture_output=True)
        _run("ip", "netns", "delete", self.name)

    def cut(self) -> None:
        """Pull the cable on this side: nobody inside is told, packets are lost without a word."""
        _run("ip", "link", "set", self._cable, "down")

    def plug(self) -> None:
        _run("ip", "link", "set", self._cable, "up")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


Broker = FaultyKafka | EmbeddedBroker

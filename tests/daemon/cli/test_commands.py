"""The commands that need no stream, run as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.support.tiny_cascade import write_tiny_cascade

ROOT = Path(__file__).parents[3]


def millwatch(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daemon", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_schema_prints_both_documents(tmp_path: Path) -> None:
    schema = millwatch("schema", folder=tmp_path)
    Draft202012Validator.check_schema(json.loads(schema.stdout))
    topics = millwatch("schema", "--asyncapi", "--set", "kafka.topics.events=line.events", folder=tmp_path)
    assert json.loads(topics.stdout)["channels"]["events"]["address"] == "line.events"
    assert (schema.stderr, topics.stderr) == ("", "")


def test_build_engines_builds_once_and_shows_the_agreement(tmp_path: Path) -> None:
    write_tiny_cascade(tmp_path / "cascade")
    arguments = ("build-engines", "--cascade", "cascade", "--output", "engines", "--backend", "openvino")
    built = millwatch(*arguments, folder=tmp_path)
    assert built.returncode == 0, built.stderr
    for stage in ("gate", "classifier", "segmenter-3"):
        assert stage in built.stdout
        assert f"building {stage} " in built.stderr
    assert "\nbuilt: engines" in built.stdout
    again = millwatch(*arguments, folder=tmp_path)
    assert "\nup to date: engines" in again.stdout
    assert again.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--cascade", "nowhere"), 2),
        (("--backend", "tensorrt"), 5),
        (("--backend", "cuda"), 2),
    ],
)
def test_build_engines_says_why_it_cannot(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    write_tiny_cascade(tmp_path / "cascade")
    done = millwatch("build-engines", "--set", "cascade=cascade", *arguments, folder=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith("millwatch: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_broker_runs_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "broker", "--port", "0", "--data-dir", "data"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("embedded broker on 127.0.0.1:")
    assert "for development only" in line
    process.send_signal(number)
    assert process.wait(20) == 0
    process.stdout.close()
    bootstrap = line.split()[3].rstrip(",")
    done = millwatch("check", "--set", f"kafka.bootstrap={bootstrap}", folder=tmp_path)
    assert "connection refused" in done.stdout


@pytest.mark.kafka
@pytest.mark.slow
def test_what_a_demo_has_started_ends_with_it(tmp_path: Path) -> None:
    write_tiny_cascade(tmp_path / "cascade")
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "demo", "--set", "cascade=cascade", "--set", "engine.directory=engines"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as shown:
        lines = iter(shown)
        broker = next(line for line in lines if line.startswith("broker"))
        daemon = next(line for line in lines if line.startswith("daemon"))
        process.terminate()
        assert process.wait(60) == 143
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(broker.split("127.0.0.1:")[1].split()[0]))) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(daemon.split("process ")[1].split(",")[0]), 0)

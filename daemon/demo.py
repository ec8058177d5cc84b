"""The whole path on one machine: engines, broker, daemon, replayed frames, events as they come, and a report.

The daemon is the real one, in a process of its own. It publishes an event for every frame here, clean ones too, so that
the account is made of what is on the topics and not of what the daemon says of itself; and one entry per connected
region, which is what the truth is counted in.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kafka import KafkaConsumer
from rich.console import Console

from daemon.daemon_process import LOG_FILE, DaemonProcess
from daemon.decoding import frame_decoder
from daemon.demo_summary import tell, tell_summary
from daemon.embedded_broker import EmbeddedBroker, free_port
from daemon.errors import UncommittedError
from daemon.event_table import EventTable
from daemon.frames import Frame, frame_of
from daemon.inspector import cascade_overrides, image_limits
from daemon.kafka import clients
from daemon.kafka.diagnose import connected
from daemon.kafka.session import partitions_of, session
from daemon.kafka.topics import create_topics, topic_states
from daemon.pictures.report import Report, render
from daemon.record import Bound, RangeReader
from daemon.replay import Footage, Pace, Replayer, Sent
from daemon.run_report import ReportBuilder, RunFacts
from daemon.settings import HttpSettings, Security, Settings
from daemon.truth import TruthTable, read_truth
from daemon.verdicts import VerdictReader, Verdicts
from daemon.wording import counted
from engines.build import BuildStep, build_cascade
from engines.definition import CascadeDefinition, load_definition
from engines.errors import UsageError
from engines.settings import effective_settings

STALL_S = 60.0
"""Without a verdict for so long, with frames still open, something is wrong."""


@dataclass(frozen=True, slots=True)
class DemoInput:
    """What is shown: frames, and their true masks where they are known."""

    footage: Footage
    frames: int
    source: str
    truth: TruthTable | None


def demo_input(settings: Settings, recordings: tuple[Path, ...], truth: Path | None) -> DemoInput:
    """The recordings, folders or images given, or what comes with the cascade.

    Raises :class:`UsageError` where there are no frames, or the cascade brings none.
    """
    table = None if truth is None else read_truth(truth)
    if recordings:
        source = ", ".join(path.name for path in recordings)
        footage = Footage.find(recordings)
    else:
        definition = load_definition(settings.cascade)
        if definition.recording_path is None:
            raise UsageError(f"cascade {definition.name} brings no recording: name frames with --recording PATH")
        source = f"recording of cascade {definition.name}"
        footage = Footage.find([definition.recording_path])
        if table is None and definition.truth_path is not None:
            table = read_truth(definition.truth_path)
    frames = footage.count()
    if not frames:
        raise UsageError(f"{source}: no frames")
    return DemoInput(footage, frames, source, table)


def run_demo(settings: Settings, shown: DemoInput, output: Path, console: Console) -> Report:
    """Run the demo into the folder ``output`` and return its report, telling on ``console`` what happens.

    Raises :class:`UncommittedError` where not every frame is accounted for, and what broker, daemon and engines raise.
    """
    definition = load_definition(settings.cascade)
    pictures = prepare_output(output)
    _build_engines(settings, console)
    with ExitStack() as resources:
        broker = resources.enter_context(EmbeddedBroker())
        settings = demo_settings(settings, broker.bootstrap)
        with connected(settings) as admin:
            create_topics(admin, settings, [state for state in topic_states(admin, settings) if state.missing])
        tell(console, "broker", f"embedded, on {broker.bootstrap} until the demo ends")
        daemon = resources.enter_context(DaemonProcess(settings, output))
        seconds = daemon.wait_ready()
        tell(console, "daemon", f"millwatch run, process {daemon.pid}, ready after {seconds:.1f} s, log {daemon.log}")
        tell(
            console,
            "replay",
            f"{counted(shown.frames, 'frame')} of the {shown.source} to {settings.kafka.topics.frames}",
        )
        verdicts, duration_s = _run(settings, shown, daemon, console)
        daemon.stop()
        check_account(verdicts, shown.frames, _committed(settings))
        facts = _facts(settings, definition, shown, verdicts, duration_s)
        decode = frame_decoder(image_limits(settings), require_crc32c=False)
        with session(settings, clients.reader) as consumer:
            report = ReportBuilder(facts, verdicts, shown.truth, decode, pictures).build(_frames(consumer, settings))
    write_result(output / "report.html", [render(report).encode()])
    write_result(output / "events.jsonl", (event.to_json() + b"\n" for event in verdicts.events.values()))
    tell_summary(console, report, output)
    return report


def demo_settings(settings: Settings, bootstrap: str) -> Settings:
    """The settings of the demo's daemon: the given ones on the demo's broker, without what needs a real one."""
    kafka = settings.kafka.model_copy(update={"bootstrap": bootstrap, "start": "earliest", "security": Security()})
    return settings.model_copy(
        update={
            "kafka": kafka,
            "events": settings.events.model_copy(update={"publish": "all", "regions": "region"}),
            "http": HttpSettings(port=free_port()),
            "log": settings.log.model_copy(update={"format": "json"}),
        }
    )


def check_account(verdicts: Verdicts, taken: int, committed: int) -> None:
    """Raise :class:`UncommittedError` unless every frame has exactly one verdict and its offset is committed."""
    if verdicts.repeated:
        raise UncommittedError(
            f"{counted(len(verdicts.repeated), 'frame')} with two verdicts, the first is {verdicts.repeated[0]}"
        )
    frames = counted(taken, "frame")
    found = f"{verdicts.clean} clean + {verdicts.defective} defective + {len(verdicts.dead)} dead"
    if verdicts.settled != taken:
        raise UncommittedError(f"{frames} in, but {found}: {taken - verdicts.settled} without a verdict")
    if committed != taken:
        raise UncommittedError(f"{frames} in = {found}, but {counted(committed, 'offset')} committed")


def prepare_output(output: Path) -> Path:
    """Make the output folder, without the pictures of an earlier demo; returns the folder of the pictures.

    Raises :class:`UsageError` where it cannot be made, or holds what no demo has written: a demo puts pictures and a
    ``config.yaml`` of its own there, and must not do so over somebody's.
    """
    pictures, log = output / "pictures", output / LOG_FILE
    try:
        if output.is_dir() and any(output.iterdir()) and not log.exists():
            raise UsageError(f"{output}: holds other things than an earlier demo: name another folder with --output")
        if pictures.is_dir():
            shutil.rmtree(pictures)
        pictures.mkdir(parents=True)
        log.touch()
    except OSError as error:
        raise UsageError(f"{output}: cannot be the folder of the demo: {error.strerror}") from None
    return pictures


def write_result(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file of the output folder. Raises :class:`UsageError` where that fails, as on a full disk."""
    try:
        with path.open("wb") as file:
            file.writelines(parts)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def _build_engines(settings: Settings, console: Console) -> None:
    engine = settings.engine

    def begun(step: BuildStep) -> None:
        tell(console, "engines", f"building {step.stage} ({step.number} of {step.total})")

    report = build_cascade(
        settings.cascade,
        directory=engine.directory,
        backend=engine.backend,
        device=engine.device,
        hardware_compatibility=engine.hardware_compatibility,
        max_frames=settings.batch.max_frames,
        bit_depth=settings.input.bit_depth,
        progress=begun,
    )
    device = report.manifest.device
    state = "up to date" if report.up_to_date else "built"
    tell(console, "engines", f"{state} for {device.backend} {device.version} on {device.name}, in {report.folder}")


def _run(settings: Settings, shown: DemoInput, daemon: DaemonProcess, console: Console) -> tuple[Verdicts, float]:
    """Replay the frames and show what is said of them; returns the verdicts and how long they took, in seconds."""
    stop = threading.Event()

    def replay() -> Sent:
        with session(settings, clients.frame_producer) as producer:
            return Replayer(producer, settings.kafka.topics.frames, stop=stop).send(shown.footage, Pace())

    with session(settings, clients.reader) as consumer, ThreadPoolExecutor(1, "replay") as pool:
        reader = VerdictReader(consumer, settings)
        started = time.monotonic()
        replaying = pool.submit(replay)
        try:
            return reader.verdicts, _watch(reader, replaying, daemon, console) - started
        finally:
            stop.set()


def _watch(reader: VerdictReader, replaying: Future[Sent], daemon: DaemonProcess, console: Console) -> float:
    """Show verdicts until all frames that are sent have one; returns when the last one came (monotonic seconds)."""
    table = EventTable(console)
    last = time.monotonic()
    while not replaying.done() or reader.verdicts.settled < replaying.result().frames:
        events, dead = reader.poll()
        for event in events:
            if event.defects:
                table.show(event)
        for frame in dead:
            table.show_dead(frame)
        now = time.monotonic()
        if events or dead:
            last = now
        else:
            daemon.check()
        if now - last > STALL_S:
            raise UncommittedError(
                f"no verdict for {STALL_S:.0f} s, {reader.verdicts.settled} so far: see {daemon.log}"
            )
    return last


def _committed(settings: Settings) -> int:
    """How many frames the group has committed: the demo's topic begins at offset 0."""
    with session(settings, clients.consumer) as consumer:
        partitions = partitions_of(consumer, settings.kafka.topics.frames)
        return sum(consumer.committed(partition) or 0 for partition in partitions)


def _frames(consumer: KafkaConsumer, settings: Settings) -> Iterator[Frame]:
    """All frames of the camera topic, in order of arrival."""
    topic, everything = settings.kafka.topics.frames, threading.Event()
    for record in RangeReader(consumer, topic, start=Bound("earliest"), until=Bound("latest"), stop=everything):
        yield frame_of(record)


def _facts(
    settings: Settings, definition: CascadeDefinition, shown: DemoInput, verdicts: Verdicts, duration_s: float
) -> RunFacts:
    values = effective_settings(definition, cascade_overrides(settings))
    engine = next((event.engine for event in verdicts.events.values()), None)
    shown_settings = {"gate threshold": f"{values.gate_threshold:g}"}
    for item in values.classes:
        shown_settings[f"{item.id} {item.name}"] = (
            f"score from {item.threshold:g}, pixels from {item.mask_threshold:g}, at least {item.min_area_px} px"
        )
    shown_settings["defects"] = f"one entry per {values.regions}"
    shown_settings["delivery"] = settings.kafka.delivery.replace("_", " ")
    shown_settings["batch"] = f"{counted(settings.batch.max_frames, 'frame')}, or {settings.batch.max_wait_ms:g} ms"
    return RunFacts(
        title="Inspection report",
        source=shown.source,
        made_at=datetime.now(UTC),
        taken=shown.frames,
        duration_s=duration_s,
        names={item.id: item.name for item in values.classes},
        engine={
            "cascade": f"{definition.name} {definition.version}",
            "models": engine.hash if engine else "",
            "settings": engine.settings if engine else "",
            "backend": engine.backend if engine else "",
            "cores": str(len(os.sched_getaffinity(0))),
        },
        settings=shown_settings,
    )

"""What ``millwatch check`` looks at, one thing after the other, each with what to do where it is not right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kafka import KafkaAdminClient

from daemon.inspector import cascade_overrides, jpeg_decoder, open_inspector
from daemon.kafka import clients, diagnose
from daemon.kafka.rehearsal import rehearsal
from daemon.kafka.topics import create_topics, topic_states
from daemon.kafka.versions import check_transactions
from daemon.settings import Settings
from daemon.wording import counted
from engines.backend import Compiler
from engines.backends import open_compiler
from engines.definition import load_definition
from engines.errors import EngineError, MillwatchError
from engines.manifest import check_fit
from engines.settings import effective_settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that was looked at. ``exit_code`` is 0 where it is right; then ``detail`` tells what was found,
    otherwise what is wrong and what to do. One that was ``skipped`` was not looked at; ``detail`` tells why."""

    item: str
    detail: str
    exit_code: int = 0
    skipped: bool = False


def run_checks(settings: Settings, *, offline: bool, create: bool, transactions: bool = False) -> Iterator[Outcome]:
    """Look at everything that does not depend on something that was found wrong.

    ``offline`` leaves out the broker; ``create`` makes missing topics; ``transactions`` tries the broker's out.
    """
    yield Outcome("configuration", f"group {settings.kafka.group}, instance {settings.kafka.instance}")
    cascade = _outcome("cascade", lambda: _cascade(settings))
    yield cascade
    device = _outcome("device", lambda: _device(settings))
    yield device
    yield _outcome("decoder", lambda: _decoder(settings))
    wrong = [outcome.item for outcome in (cascade, device) if outcome.exit_code]
    if wrong:
        yield Outcome("engines", f"not checked, since the {wrong[0]} is not right", skipped=True)
    else:
        yield _outcome("engines", lambda: _engines(settings))
    if not offline:
        broker = list(_broker(settings, create=create))
        yield from broker
        if transactions and not any(outcome.exit_code for outcome in broker):
            yield from _transactions(settings)


def _outcome(item: str, look: Callable[[], str]) -> Outcome:
    try:
        return Outcome(item, look())
    except MillwatchError as error:
        return Outcome(item, str(error), error.exit_code)


def _cascade(settings: Settings) -> str:
    definition = load_definition(settings.cascade)
    effective = effective_settings(definition, cascade_overrides(settings))
    names = ", ".join(f"{item.id} {item.name}" for item in effective.classes)
    return f"{definition.name} {definition.version}: {names}"


def _device(settings: Settings) -> str:
    device = _compiler(settings).device
    return f"{device.backend} {device.version} on {device.name}"


def _compiler(settings: Settings) -> Compiler:
    engine = settings.engine
    return open_compiler(engine.backend, engine.device, engine.hardware_compatibility)


def _decoder(settings: Settings) -> str:
    with jpeg_decoder(settings) as decode_jpeg:
        return "JPEG on the processor" if decode_jpeg is None else "JPEG on the GPU, by nvImageCodec, which answers"


def _engines(settings: Settings) -> str:
    """Whether the engines fit, and where they do whether the device answers with them."""
    definition = load_definition(settings.cascade)
    compiler = _compiler(settings)
    fit = check_fit(
        settings.engine.directory,
        definition,
        compiler,
        bit_depth=settings.input.bit_depth,
        batch_sizes=compiler.batch_sizes(settings.batch.max_frames),
    )
    if fit.manifest is None:
        if settings.engine.rebuild:
            # Here, where it is needed: what builds them loads what compares them, which takes half a second.
            from engines.build import check_writable

            check_writable(settings.engine.directory, definition, compiler.device.backend)
            return f"{fit.problem}: run builds them at its start, millwatch build-engines does it now"
        raise EngineError(f"{fit.problem}: run millwatch build-engines, or set engine.rebuild")
    with open_inspector(settings) as cascade:
        cascade.probe()
        precisions = ", ".join(sorted(set(fit.manifest.precisions.values())))
        stages, slots = counted(len(fit.manifest.stages), "stage"), counted(cascade.slots, "slot")
        return f"{stages} in {precisions}, the device answers, {slots}"


def _broker(settings: Settings, *, create: bool) -> Iterator[Outcome]:
    found: list[Outcome] = []
    try:
        with diagnose.connected(settings) as client:
            found.append(Outcome("broker", f"{settings.kafka.bootstrap}, cluster {clients.cluster_id(client)}"))
            states = topic_states(client, settings)
            if create:
                create_topics(client, settings, [state for state in states if state.missing])
                states = topic_states(client, settings)
            for state in states:
                partitions = f"{state.name}, {counted(state.partitions, 'partition')}"
                found.append(Outcome(f"topic {state.key}", state.problem or partitions, 3 if state.problem else 0))
            found.append(_outcome("delivery", lambda: _delivery(client, settings)))
            diagnose.check_names(client, settings)
            found.append(
                Outcome("names", f"group {settings.kafka.group}, transactional id {settings.kafka.transactional_id}")
            )
    except MillwatchError as error:
        found.append(Outcome("names" if found else "broker", str(error), error.exit_code))
    yield from found


def _delivery(client: KafkaAdminClient, settings: Settings) -> str:
    check_transactions(client, settings)
    return settings.kafka.delivery


def _transactions(settings: Settings) -> Iterator[Outcome]:
    try:
        with rehearsal(settings) as checks:
            for item, check in checks:
                yield _outcome(item, check)
    except MillwatchError as error:
        yield Outcome("scratch topic", str(error), error.exit_code)

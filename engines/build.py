"""Building a cascade's engines: compile every stage, compare it with the reference, and only then put it in force."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from engines.agreement import Agreement
from engines.backend import Compiler, Precision
from engines.backends import BackendChoice, HardwareCompatibility, open_compiler
from engines.comparison_frames import read_comparison_frames
from engines.definition import CascadeDefinition, Stage, file_digest, load_definition, model_digest
from engines.errors import EngineError, InferenceError
from engines.manifest import (
    MANIFEST_FILE,
    BuiltEngine,
    BuiltStage,
    Manifest,
    RefusedPrecision,
    build_settings_digest,
    check_fit,
    engines_folder,
)
from engines.reference import ReferenceAnswers

Progress = Callable[["BuildStep"], None]

LOCK_FILE: Final = ".lock"
SCRATCH_PREFIX: Final = ".build-"


@dataclass(frozen=True, slots=True)
class BuildStep:
    """Told while building: stage ``number`` of ``total`` begins."""

    stage: str
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One stage at one batch size, built or found up to date.

    ``bytes`` is its even share of its file, ``seconds`` that of what compiling and comparing its stage took, in
    precisions that were refused too; 0 where nothing was done.
    """

    stage: str
    precision: Precision
    batch_size: int
    agreement: Agreement
    path: Path
    bytes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did. ``up_to_date``: nothing, since the engines in ``folder`` fit already."""

    folder: Path
    up_to_date: bool
    manifest: Manifest
    engines: tuple[EngineResult, ...]


def build_cascade(
    folder: Path,
    *,
    directory: Path,
    backend: BackendChoice = "auto",
    device: str = "auto",
    hardware_compatibility: HardwareCompatibility = "none",
    max_frames: int = 8,
    batch_sizes: tuple[int, ...] | None = None,
    bit_depth: int = 16,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the engines of the cascade in ``folder`` below ``directory``, unless they fit already.

    ``batch_sizes`` are by default those that the backend wants for batches of up to ``max_frames`` frames;
    ``bit_depth`` (8-16) is that of 16-bit data in the cascade's recording, both the same as for
    :func:`engines.cascade.open_cascade`; ``hardware_compatibility`` as for :func:`engines.backends.open_compiler`.
    Where a stage cannot be compiled in a faster precision, or disagrees in it, it is built in the next one, and the
    manifest says why. ``force`` builds in any case. Builds of the same engines at the same time wait for each other.

    Raises :class:`EngineError` where a stage cannot be compiled or disagrees in every precision, naming stage, batch
    size and figure, or nothing can be written; :class:`engines.errors.DeviceError` where the backend is not here; and
    :class:`engines.errors.UsageError` for a wrong cascade.
    """
    definition = load_definition(folder)
    compiler = open_compiler(backend, device, hardware_compatibility, cache_folder=directory)
    sizes = batch_sizes or compiler.batch_sizes(max_frames)
    return build(definition, compiler, directory, sizes, bit_depth=bit_depth, force=force, progress=progress)


def build(
    definition: CascadeDefinition,
    compiler: Compiler,
    directory: Path,
    batch_sizes: Collection[int],
    *,
    bit_depth: int = 16,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """:func:`build_cascade` with a definition and a compiler at hand."""
    target = engines_folder(directory, definition, compiler.device.backend)
    sizes = tuple(sorted(set(batch_sizes)))

    def found() -> BuildReport | None:
        if force:
            return None
        manifest = check_fit(directory, definition, compiler, bit_depth=bit_depth, batch_sizes=sizes).manifest
        return BuildReport(target, True, manifest, _results(target, manifest, {})) if manifest else None

    # Engines that fit may lie where nothing can be written, so the lock comes second, and then the question again:
    # another builder may have answered it meanwhile.
    report = found()
    if report is not None:
        return report
    with _locked(target):
        report = found()
        if report is not None:
            return report
        manifest, seconds = _build_stages(definition, compiler, target, sizes, bit_depth, progress or _silent)
        return BuildReport(target, False, manifest, _results(target, manifest, seconds))


def check_writable(directory: Path, definition: CascadeDefinition, backend: str) -> None:
    """Whether a build could write the cascade's engines below ``directory``; leaves nothing behind.

    Raises :class:`EngineError` where it could not.
    """
    target = engines_folder(directory, definition, backend)
    with _writing(target):
        # What is not there yet will be made in the nearest folder that is. Rights alone do not tell: root has them all,
        # and a disk may be read-only.
        there = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
        TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=there).cleanup()


def _build_stages(
    definition: CascadeDefinition,
    compiler: Compiler,
    target: Path,
    sizes: tuple[int, ...],
    bit_depth: int,
    progress: Progress,
) -> tuple[Manifest, dict[str, float]]:
    # Before any of them is compiled: engines of a model that is replaced meanwhile must not fit the new one.
    models = definition.hash()
    compared = read_comparison_frames(definition, bit_depth)
    stages: list[BuiltStage] = []
    seconds: dict[str, float] = {}
    with _writing(target):
        folder = TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=target)
    with folder as scratch:
        for number, stage in enumerate(definition.stages, 1):
            progress(BuildStep(stage.key, number, len(definition.stages)))
            reference = ReferenceAnswers(stage, definition, compared.frames)
            started = time.monotonic()
            with _writing(target):
                stages.append(_build_stage(definition, compiler, stage, sizes, reference, Path(scratch)))
            seconds[stage.key] = time.monotonic() - started
        manifest = Manifest(
            schema="millwatch.engines/2",
            cascade=definition.name,
            version=definition.version,
            hash=models,
            build_settings=build_settings_digest(compiler, bit_depth),
            device=compiler.device,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            compared_frames=len(compared.frames),
            defective_frames=compared.defective,
            stages=tuple(stages),
        )
        # Engines are named after their content, so that those in force stay untouched until the manifest is replaced.
        with _writing(target):
            for built in stages:
                for engine in built.engines:
                    (Path(scratch) / engine.file).replace(target / engine.file)
            manifest.write(target)
    _remove_others(target, manifest)
    return manifest, seconds


def _build_stage(
    definition: CascadeDefinition,
    compiler: Compiler,
    stage: Stage,
    sizes: tuple[int, ...],
    reference: ReferenceAnswers,
    scratch: Path,
) -> BuiltStage:
    """The stage in the first precision in which the engines of all batch sizes can be compiled and agree."""
    model = model_digest(stage.model)
    refused: list[RefusedPrecision] = []
    for precision in compiler.precisions:
        found = _build_precision(definition, compiler, stage, sizes, precision, reference, scratch)
        if not isinstance(found, RefusedPrecision):
            return BuiltStage(
                stage=stage.key, model=model, precision=precision, refused=tuple(refused), engines=tuple(found)
            )
        refused.append(found)
    # Precisions end with the exact one: what was wrong before it is of no interest where that fails, too.
    last = refused[-1]
    where = "" if last.batch_size is None else f" at batch size {last.batch_size}"
    raise EngineError(f"{definition.folder}: no engine of {stage.key}{where} in {last.precision}: {last.reason}")


def _build_precision(
    definition: CascadeDefinition,
    compiler: Compiler,
    stage: Stage,
    sizes: tuple[int, ...],
    precision: Precision,
    reference: ReferenceAnswers,
    scratch: Path,
) -> list[BuiltEngine] | RefusedPrecision:
    """The stage's engines in one precision, named after their content, or why they are refused."""
    engines: list[BuiltEngine] = []
    compared: int | None = None
    try:
        for engine in compiler.build(stage, definition, sizes, precision, scratch):
            agreements: list[Agreement] = []
            runtime = compiler.open(definition, [engine], slots=1, max_frames=max(engine.batch_sizes))
            with contextlib.closing(runtime):
                for compared in engine.batch_sizes:
                    agreements.append(reference.compare(runtime.slots[0], compared))
                    problem = agreements[-1].problem()
                    if problem is not None:
                        return RefusedPrecision(precision=precision, batch_size=compared, reason=problem)
            digest = file_digest(engine.path)
            listed = "-".join(map(str, engine.batch_sizes))
            named = scratch / f"{stage.key}-b{listed}-{precision}-{digest}{compiler.suffix}"
            engines.append(
                BuiltEngine(
                    batch_sizes=engine.batch_sizes,
                    file=engine.path.replace(named).name,
                    digest=digest,
                    agreements=tuple(agreements),
                )
            )
    except (EngineError, InferenceError) as error:
        return RefusedPrecision(precision=precision, batch_size=compared, reason=str(error))
    return engines


def _results(target: Path, manifest: Manifest, seconds: dict[str, float]) -> tuple[EngineResult, ...]:
    results = []
    for stage in manifest.stages:
        sizes = sum(len(engine.batch_sizes) for engine in stage.engines)
        for engine in stage.engines:
            path = target / engine.file
            share = path.stat().st_size / len(engine.batch_sizes)
            results += [
                EngineResult(
                    stage=stage.stage,
                    precision=stage.precision,
                    batch_size=batch_size,
                    agreement=agreement,
                    path=path,
                    bytes=share,
                    seconds=seconds.get(stage.stage, 0.0) / sizes,
                )
                for batch_size, agreement in zip(engine.batch_sizes, engine.agreements, strict=True)
            ]
    return tuple(results)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the folder against other builders; the kernel lets go of it when a builder dies."""
    with _writing(target):
        target.mkdir(parents=True, exist_ok=True)
        lock = (target / LOCK_FILE).open("ab")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell the user where nothing can be written: no rights, a full disk."""
    try:
        yield
    except OSError as error:
        raise EngineError(
            f"{folder}: engines cannot be written there: {error.strerror or error}: "
            "mend that, or name another folder with engine.directory"
        ) from None


def _remove_others(target: Path, manifest: Manifest) -> None:
    """Remove what nobody needs any more: engines that the manifest does not name, and what killed builders left.

    A process that runs such engines keeps its own copy in memory.
    """
    kept = {engine.file for stage in manifest.stages for engine in stage.engines} | {MANIFEST_FILE, LOCK_FILE}
    for path in target.iterdir():
        if path.is_dir() and path.name.startswith(SCRATCH_PREFIX):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and path.name not in kept:
            path.unlink()


def _silent(step: BuildStep) -> None:
    del step

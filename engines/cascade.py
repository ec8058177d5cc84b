"""The cascade: frames in, inspections out, each network at work only where the one before it asks for it."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from engines import rle
from engines.backend import Runtime, Slot
from engines.backends import BackendChoice, HardwareCompatibility, open_compiler
from engines.definition import CascadeDefinition, load_definition
from engines.errors import EngineError
from engines.images import Frame
from engines.manifest import check_fit, engines_folder
from engines.results import Defect, EngineIdentity, Inspection
from engines.settings import CascadeOverrides, CascadeSettings, ClassSettings, effective_settings
from engines.sizes import from_input, to_input

if TYPE_CHECKING:
    from engines.build import Progress


class Cascade:
    """An opened cascade; a context manager that owns its engines. Obtained from :func:`open_cascade`.

    :meth:`inspect` may be called from ``slots`` threads at once; a further caller waits for a free slot. Once the
    cascade is closed, it raises RuntimeError, also to those that still wait.
    """

    def __init__(
        self, definition: CascadeDefinition, settings: CascadeSettings, identity: EngineIdentity, runtime: Runtime
    ) -> None:
        self.definition = definition
        self.settings = settings
        self.identity = identity
        self._runtime = runtime
        self.slots = len(runtime.slots)
        self.max_frames = runtime.max_frames
        # None after the slots of a closed cascade: whoever takes it puts it back for the next one.
        self._free: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        for slot in runtime.slots:
            self._free.put(slot)

    def inspect(self, frames: Sequence[Frame]) -> list[Inspection]:
        """Inspect a batch of at most ``max_frames`` frames, each uint8 ``[height, width]`` of any size.

        Returns one inspection per frame in the same order. Raises :class:`engines.errors.InferenceError` where this
        batch failed, :class:`engines.errors.DeviceError` where the device does not answer any more.
        """
        if len(frames) > self.max_frames:
            raise ValueError(f"a batch of {len(frames)} frames, but at most {self.max_frames}")
        if not frames:
            return []
        slot = self._free.get()
        try:
            if slot is None:
                raise RuntimeError("the cascade is closed")
            with slot:
                return self._inspect(slot, frames)
        finally:
            self._free.put(slot)

    def probe(self) -> None:
        """Return if the device answers, else raise :class:`engines.errors.DeviceError`; from any thread."""
        self._runtime.probe()

    def close(self) -> None:
        """Wait for the batches in flight and free the engines. A second call does nothing."""
        if not self.slots:
            return
        for _ in range(self.slots):
            self._free.get()
        self.slots = 0
        self._free.put(None)
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _inspect(self, slot: Slot, frames: Sequence[Frame]) -> list[Inspection]:
        slot.load([to_input(frame, self.definition.input) for frame in frames])
        gate_scores = slot.gate(np.arange(len(frames), dtype=np.int64)).tolist()
        passed = [number for number, score in enumerate(gate_scores) if score >= self.settings.gate_threshold]
        class_scores: dict[int, list[float]] = {}
        defects: dict[int, list[Defect]] = {number: [] for number in passed}
        if passed:
            class_scores = dict(zip(passed, slot.classify(np.array(passed, np.int64)).tolist(), strict=True))
        for class_number, settings in enumerate(self.settings.classes):
            carriers = [number for number in passed if class_scores[number][class_number] >= settings.threshold]
            if not carriers:
                continue
            masks = slot.segment(class_number, np.array(carriers, np.int64), settings.mask_threshold)
            for number, mask in zip(carriers, masks, strict=True):
                score = class_scores[number][class_number]
                defects[number] += self._defects(mask, frames[number].shape, settings, score)
        return [
            Inspection(
                width=frame.shape[1],
                height=frame.shape[0],
                gate_score=gate_scores[number],
                class_scores=tuple(class_scores[number]) if number in class_scores else None,
                defects=tuple(defects.get(number, ())),
            )
            for number, frame in enumerate(frames)
        ]

    def _defects(
        self, mask: rle.Mask, shape: tuple[int, ...], settings: ClassSettings, score: float
    ) -> Iterator[Defect]:
        mask = from_input(mask, *shape)
        if self.settings.regions == "region":
            found = rle.regions(mask, settings.min_area_px)
        else:
            whole = rle.whole(mask)
            found = [] if whole is None or whole.area_px < settings.min_area_px else [whole]
        for region in found:
            yield Defect(
                class_id=settings.id,
                name=settings.name,
                score=score,
                area_px=region.area_px,
                box=region.box,
                rle=rle.runs_to_text(region.runs),
            )


def open_cascade(
    folder: Path,
    *,
    directory: Path,
    backend: BackendChoice = "auto",
    device: str = "auto",
    hardware_compatibility: HardwareCompatibility = "none",
    rebuild: bool = True,
    max_frames: int = 8,
    slots: int | None = None,
    threads: int | None = None,
    overrides: CascadeOverrides | None = None,
    bit_depth: int = 16,
    progress: Progress | None = None,
) -> Cascade:
    """Open the cascade in ``folder`` with its engines below ``directory``, building them first where they do not fit.

    ``max_frames`` is the largest batch, ``slots`` the batches in flight (default: what suits the device), ``threads``
    the processor's threads for all of them together (default: all cores; a GPU ignores it). ``bit_depth`` is that of
    decoding, named here because it can change a verdict and whether engines agree. ``hardware_compatibility`` is as for
    :func:`engines.backends.open_compiler`. ``progress`` is called while building.

    Raises :class:`EngineError` where engines are missing or do not fit and ``rebuild`` is off, or the build fails;
    :class:`engines.errors.DeviceError` where the device is not here; and :class:`engines.errors.UsageError` for a wrong
    cascade or override.
    """
    definition = load_definition(folder)
    settings = effective_settings(definition, overrides)
    compiler = open_compiler(backend, device, hardware_compatibility, cache_folder=directory)
    batch_sizes = compiler.batch_sizes(max_frames)
    engines = engines_folder(directory, definition, compiler.device.backend)
    fit = check_fit(directory, definition, compiler, bit_depth=bit_depth, batch_sizes=batch_sizes)
    manifest = fit.manifest
    if manifest is None:
        if not rebuild:
            raise EngineError(f"{fit.problem}: run millwatch build-engines, or set engine.rebuild")
        from engines.build import build

        manifest = build(definition, compiler, directory, batch_sizes, bit_depth=bit_depth, progress=progress).manifest
    runtime = compiler.open(
        definition,
        manifest.engine_files(engines),
        slots=slots or compiler.default_slots,
        max_frames=max_frames,
        threads=threads,
    )
    identity = EngineIdentity(
        cascade=definition.name,
        hash=manifest.hash,
        settings=settings.digest(bit_depth=bit_depth, precisions=manifest.precisions),
        backend=compiler.device.backend,
    )
    return Cascade(definition, settings, identity, runtime)

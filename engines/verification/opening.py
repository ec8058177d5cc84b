"""What parts need before they can look at anything: the compiler, the engines, the frames."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engines.backend import Compiler, EngineFile, Runtime
from engines.backends import open_compiler
from engines.cascade import Cascade
from engines.comparison_frames import ComparisonFrames, read_comparison_frames
from engines.definition import CascadeDefinition, load_definition
from engines.images import Frame
from engines.manifest import check_fit, engines_folder
from engines.results import EngineIdentity
from engines.settings import effective_settings
from engines.verification.report import Plan, SkippedError

OpenCompiler = Callable[[Plan], Compiler]


def compiler_of(plan: Plan) -> Compiler:
    """The compiler of the plan's backend and device. Raises DeviceError where it is not here."""
    return open_compiler(plan.backend, plan.device, plan.hardware_compatibility, cache_folder=plan.directory)


@dataclass(frozen=True, slots=True)
class Bench:
    """A cascade with its built engines on a device, ready to be opened as often as a part likes."""

    plan: Plan
    definition: CascadeDefinition
    compiler: Compiler
    engines: tuple[EngineFile, ...]

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes for which there are engines, ascending."""
        return tuple(sorted({size for engine in self.engines for size in engine.batch_sizes}))

    @property
    def slots(self) -> int:
        """Slots as the service opens them."""
        return self.plan.slots or self.compiler.default_slots

    @contextlib.contextmanager
    def runtime(self, *, slots: int, max_frames: int | None = None) -> Iterator[Runtime]:
        """The engines, opened until the context ends."""
        opened = self.compiler.open(
            self.definition, self.engines, slots=slots, max_frames=max_frames or self.plan.max_frames
        )
        with contextlib.closing(opened):
            yield opened

    @contextlib.contextmanager
    def cascade(self) -> Iterator[Cascade]:
        """The cascade on as many slots as the service opens, until the context ends."""
        runtime = self.compiler.open(self.definition, self.engines, slots=self.slots, max_frames=self.plan.max_frames)
        identity = EngineIdentity(self.definition.name, self.definition.hash(), "", self.compiler.device.backend)
        with Cascade(self.definition, effective_settings(self.definition), identity, runtime) as cascade:
            yield cascade

    def frames(self) -> ComparisonFrames:
        """Frames of the cascade's recording: the defective ones first."""
        return read_comparison_frames(self.definition, self.plan.bit_depth)

    def blank(self) -> Frame:
        """A frame of the cascade's size on which the stages find what they find: speed does not depend on it."""
        return self.frames().frames[0]


def open_bench(plan: Plan, open_compiler: OpenCompiler = compiler_of) -> Bench:
    """The engines that the build has left. Raises :class:`SkippedError` where there are none that fit."""
    definition = load_definition(plan.cascade)
    compiler = open_compiler(plan)
    sizes = compiler.batch_sizes(plan.max_frames)
    fit = check_fit(plan.directory, definition, compiler, bit_depth=plan.bit_depth, batch_sizes=sizes)
    if fit.manifest is None:
        raise SkippedError(f"no engines: {fit.problem}")
    folder = engines_folder(plan.directory, definition, compiler.device.backend)
    return Bench(plan, definition, compiler, fit.manifest.engine_files(folder))

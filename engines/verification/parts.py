"""The table of parts, and running one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from engines.errors import DeviceError, MillwatchError
from engines.verification.cascade_parts import run_cascade, run_slots
from engines.verification.cuda_parts import find_leaks, look_at_graphs
from engines.verification.decoder import compare_decoders
from engines.verification.opening import Bench, OpenCompiler, compiler_of, open_bench
from engines.verification.report import Finding, PartName, PartReport, Plan, Row, SkippedError
from engines.verification.stages import build_engines, compare_engines, find_device, time_stages

ON_THE_DEVICE: Final[Mapping[PartName, Callable[[Plan, OpenCompiler], Finding]]] = {
    "device": find_device,
    "build": build_engines,
    "decoder": compare_decoders,
}
"""Parts that need a device and no engines."""

ON_ENGINES: Final[Mapping[PartName, Callable[[Bench], Finding]]] = {
    "parity": compare_engines,
    "latency": time_stages,
    "cascade": run_cascade,
    "slots": run_slots,
    "leaks": find_leaks,
    "graphs": look_at_graphs,
}
"""Parts that need the engines which the build has left."""

PARTS: Final[tuple[PartName, ...]] = (*ON_THE_DEVICE, *ON_ENGINES)
"""In the order in which they run."""


def run_part(part: PartName, plan: Plan, open_compiler: OpenCompiler = compiler_of) -> PartReport:
    """Run one part here; whatever goes wrong in it becomes its report."""
    started = time.perf_counter()
    figures: tuple[Row, ...] = ()
    try:
        if part in ON_THE_DEVICE:
            finding = ON_THE_DEVICE[part](plan, open_compiler)
        else:
            finding = ON_ENGINES[part](open_bench(plan, open_compiler))
        figures = tuple(dict(row) for row in finding.figures)
        problems = list(finding.problems)
        outcome, detail = ("failed", "; ".join(problems)) if problems else ("passed", finding.detail)
    except SkippedError as error:
        outcome, detail = "skipped", str(error)
    except DeviceError as error:
        # That there is none is no failure of anything; one that fails later is.
        outcome, detail = ("skipped" if part == "device" else "failed"), str(error)
    except MillwatchError as error:
        outcome, detail = "failed", str(error)
    except Exception as error:  # noqa: BLE001 - a defect of ours in one part must not end the others
        outcome, detail = "failed", f"internal error, please report it: {type(error).__name__}: {error}"
    return PartReport.model_validate(
        {
            "part": part,
            "outcome": outcome,
            "detail": " ".join(detail.split()),
            "seconds": time.perf_counter() - started,
            "figures": figures,
        }
    )

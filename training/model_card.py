"""The model card of a cascade, written from the figures that :mod:`training.evaluate` measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engines.definition import CascadeDefinition


def write_card(folder: Path, definition: CascadeDefinition, result: dict[str, Any]) -> None:
    """Write ``MODEL_CARD.md`` into ``folder``; ``result`` is the content of ``evaluation.json``."""
    sections = [_head(definition, result), _stages(definition), _generated(result)]
    sections.append(_real(result["real"]) if "real" in result else NOT_ON_REAL_FRAMES)
    sections.append(LIMITS)
    (folder / "MODEL_CARD.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


NOT_ON_REAL_FRAMES = """## Real frames

Not evaluated: `MILLWATCH_DATA` named no folder with real frames."""

LIMITS = """## Limits

- The cascade has never seen a real image. It shows how the line works and is a place to start from; a mill needs
  a cascade trained on its own steel.
- Scores shift between generated and real frames, so the thresholds above hold for generated frames only. Set
  `gate.threshold` and the classes' thresholds anew for your camera.
- Only the gate's ranking of real frames was measured with any certainty; with so few real frames per class, the table
  of classes is an anecdote.
- Frames are grey, 256 x 1600 pixels, lit from one side. Others are resized, which nothing here has measured."""


def _head(definition: CascadeDefinition, result: dict[str, Any]) -> str:
    made = definition.provenance
    note = f"\n| note | {made['note']} |" if "note" in made else ""
    return f"""# Model card: cascade "{definition.name}", version {definition.version}

Finds defects on flat steel: a gate that tells defective strips from clean ones, a classifier of four classes, and one
segmenter a class. The classes follow those of the Severstal steel data set.

| | |
| --- | --- |
| made by | {made.get("made_by", "unknown")}, {made.get("date", "date unknown")} |
| command | `{made.get("command", "unknown")}` |
| data | {made.get("data", "unknown")} |
| licence | {made.get("licence", "unknown")} |{note}
| models' hash | `{definition.hash()}` |

The figures below come from `MILLWATCH_DATA=<folder> python -m training.evaluate --cascade cascades/{definition.name}`,
run on {result["date"]} ({result["machine"]}; OpenVINO, float32, the thresholds of `cascade.yaml`). They are in
`evaluation.json` as numbers."""


def _stages(definition: CascadeDefinition) -> str:
    def rows() -> Iterator[Sequence[object]]:
        for stage in definition.stages:
            if stage.class_number is not None:
                item = definition.classes[stage.class_number]
                settings = f"score {item.threshold}, pixel {item.mask_threshold}, at least {item.min_area_px} px"
            else:
                settings = f"score {definition.gate.threshold}" if stage.kind == "gate" else "see the classes"
            yield stage.key, f"{stage.model.stat().st_size / 1000:.0f} kB", settings

    size = sum(stage.model.stat().st_size for stage in definition.stages) / 1e6
    return f"## Stages\n\n{_table(('stage', 'model', 'thresholds'), rows())}\n\nAll models together: {size:.1f} MB."


def _generated(result: dict[str, Any]) -> str:
    generated = result["generated"]
    gate, total = generated["gate"], generated["total"]

    def row(name: str, count: dict[str, int], frames: object, dice: object) -> Sequence[object]:
        share = f"{count['found']} of {count['true']} ({_percent(count['found'], count['true'])})"
        return name, frames, dice, share, count["invented"], _percent(count["invented"], count["found"])

    rows = [row(f"{item['id']} {item['name']}", item, item["frames"], item["dice"]) for item in generated["classes"]]
    rows.append(row("all", total, gate["defective"], ""))
    head = ("class", "frames with it", "Dice", "true regions found", "invented regions", "invented per found")
    return f"""## Generated frames, held out

{gate["defective"] + gate["clean"]} frames of seed {generated["seed"]}, which training never saw, drawn like those of
the demonstration recording. Good figures here say that the networks learnt the generator, not that the generator looks
like steel.

The gate lets {gate["defective_passed"]} of {gate["defective"]} defective frames through and {gate["clean_passed"]} of
{gate["clean"]} clean ones (AUROC {gate["auroc"]}).

{_table(head, rows)}

Dice is foreground Dice through the whole cascade: the mean over the frames that carry the class, 0 where the cascade
missed it. A true region is found where the mask of its class covers a quarter of it; a region of a found mask is
invented where it touches no true region of its class."""


def _real(real: dict[str, Any]) -> str:
    gate = real["gate"]
    frames = gate["defective"] + gate["clean"]
    rows = [
        (item["id"], item["carried"], item["found"], item["missed"], item["wrongly_seen"]) for item in real["classes"]
    ]
    times = "once" if real["looks"] == 1 else f"{real['looks']} times"
    head = ("class", "frames that carry it", "found on", "missed on", "wrongly seen on")
    return f"""## Real frames

{frames} frames of the Severstal data set ({gate["defective"]} defective, {gate["clean"]} clean), never trained on and
never used to choose a model or a threshold. Candidates for this cascade were scored on them {times}. The generator's
appearance was modelled after frames and statistics of this data set.

Gate AUROC **{gate["auroc"]}** (90 % interval {gate["auroc_90"][0]} to {gate["auroc_90"][1]}, bootstrap over frames). At
its threshold the gate lets {gate["defective_passed"]} of {gate["defective"]} defective frames through, and
{gate["clean_passed"]} of {gate["clean"]} clean ones.

{_table(head, rows)}

A class is seen on a frame where the cascade draws a mask of it, wherever in the frame."""


def _table(head: Sequence[str], rows: Iterator[Sequence[object]] | Sequence[Sequence[object]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join("-" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"

"""The documents: their links lead somewhere, their lists are complete, and their examples run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaConsumer

from daemon.accounting import Account
from daemon.cli.group import COMMANDS
from daemon.events import DefectEvent
from daemon.frames import frame_of
from daemon.metrics import REASONS, LineFigures, Metrics
from engines import rle
from engines.definition import load_definition
from tests.support.topics import new_lane
from training.model_card import write_card

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "systemd/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(name), re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_lists_every_command() -> None:
    assert re.findall(r"^\| `millwatch ([a-z-]+)`", text_of("README.md"), re.MULTILINE) == list(COMMANDS)


def test_the_reasons_of_dead_letters_are_complete() -> None:
    section = text_of("docs/frames.md").partition("## Dead letters")[2].partition("| reason |")[2]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == REASONS


def test_every_metric_is_described() -> None:
    metrics = Metrics()
    metrics.follow(lambda: LineFigures(Account()))
    exposed = set(re.findall(r"^# HELP (millwatch_\w+) ", metrics.exposition().decode(), re.MULTILINE))
    # Of each histogram and counter the exposition also has the time of its creation.
    exposed = {name for name in exposed if not name.endswith("_created")}
    described = set(re.findall(r"`(millwatch_\w+)", text_of("docs/operations.md")))
    assert described == exposed


def test_the_example_event_is_one_and_its_mask_decodes() -> None:
    event = DefectEvent.model_validate(json.loads(code("docs/frames.md", "json")[0]))
    example: dict[str, object] = {}
    exec(code("docs/frames.md", "python")[0], example)
    (defect,) = event.defects
    assert defect.rle is not None
    mask = example["mask_of"](defect.rle, event.height, event.width)  # type: ignore[operator]
    assert np.array_equal(mask, rle.decode(defect.rle, event.height, event.width) != 0)
    assert mask.sum() == defect.area_px
    region = rle.whole(np.ascontiguousarray(mask.T, dtype=np.uint8))
    assert region is not None
    assert tuple(defect.box) == (region.box.x, region.box.y, region.box.width, region.box.height)


def test_the_model_card_is_that_of_the_cascade_beside_it(tmp_path: Path) -> None:
    # Its hash, its thresholds and its figures: what one of the three files says, the others say, too.
    folder = ROOT / "cascades/reference"
    definition = load_definition(folder)
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    identity = {"name": definition.name, "version": definition.version, "hash": definition.hash()}
    assert evaluation["cascade"] == identity
    write_card(tmp_path, definition, evaluation)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| models' hash | `{definition.hash()}` |" in card
    assert card == (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")


@pytest.mark.kafka
def test_the_example_producer_sends_a_whole_frame(embedded_broker: str, tmp_path: Path) -> None:
    topic = new_lane(embedded_broker).frames
    (tmp_path / "frame.jpg").write_bytes(b"any bytes")
    producer = code("README.md", "python")[0].replace("127.0.0.1:9092", embedded_broker).replace("camera.frames", topic)
    subprocess.run([sys.executable, "-c", producer], cwd=tmp_path, check=True, timeout=60)
    consumer = KafkaConsumer(
        topic, bootstrap_servers=embedded_broker, auto_offset_reset="earliest", consumer_timeout_ms=20_000
    )
    try:
        frame = frame_of(next(consumer))
    finally:
        consumer.close()
    assert frame.value == b"any bytes"
    assert (frame.meta.camera, frame.meta.frame_id, frame.meta.coil, frame.meta.position_mm, frame.meta.malformed) == (
        "cam-1",
        "f-000123",
        "C42",
        1234.5,
        (),
    )

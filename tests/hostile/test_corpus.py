from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from engines.errors import FrameRejectedError
from engines.images import ImageLimits
from tests.hostile import run as corpus
from tests.hostile.messages import DECODE, good_frames
from tests.hostile.mutations import KINDS, mutated


@pytest.mark.parametrize("name", good_frames())
def test_the_good_frames_are_good(name: str) -> None:
    assert DECODE(good_frames()[name].frame()).shape == (64, 160)


@pytest.mark.parametrize("kind", KINDS)
def test_every_hostile_frame_is_decoded_or_has_its_reason(kind: str) -> None:
    figures = corpus.judge(kind, range(100))
    assert figures.faults == []
    assert figures.frames == 100
    assert figures.good, figures


def test_a_frame_of_a_number_is_always_the_same() -> None:
    for kind in KINDS:
        assert mutated(kind, 3) == mutated(kind, 3)


def test_a_checksum_that_is_not_looked_at_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.decoding._verify_checksum", lambda frame, value, required: None)
    figures = corpus.judge("wrong-checksum", range(5))
    assert len(figures.faults) == figures.decoded == 5
    assert not figures.good


def test_a_wrong_reason_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(width: int, height: int, _: ImageLimits) -> None:
        if width * height != 160 * 64:
            raise FrameRejectedError("truncated", "said without looking")

    monkeypatch.setattr("engines.images._check_pixels", refuse)
    assert corpus.judge("png-bomb", range(1)).faults == ["png-bomb 0: refused as truncated"]


def test_a_process_that_dies_is_a_crash_of_its_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process dies as by a decoder's segmentation fault, and the next goes on behind the frame it was at."""
    at = tmp_path / "cmyk"
    real = subprocess.run

    def dying(command: list[str], **options: Any) -> object:
        first = int(command[-3])
        at.write_text(f"{first + 1} {json.dumps(asdict(corpus.judge('cmyk', [first])))}", encoding="utf-8")
        return real(["sh", "-c", "kill -SEGV $$"], **options)

    monkeypatch.setattr(subprocess, "run", dying)
    found = corpus.judge_apart("cmyk", 4, tmp_path)
    assert (found.frames, found.decoded, found.crashed, found.balances, found.good) == (4, 2, 2, True, False)
    assert [fault.partition(": exit")[0] for fault in found.faults] == ["cmyk 1", "cmyk 3"]


def test_a_run_goes_on_behind_the_kinds_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = tmp_path / "figures.json"
    assert corpus.main(["--count", "3", "--kind", "cmyk", "--json", str(figures)]) == 0
    asked: list[str] = []

    def judge(kind: str, count: int, _: Path) -> corpus.Figures:
        asked.append(kind)
        return corpus.judge(kind, range(count))

    monkeypatch.setattr(corpus, "judge_apart", judge)
    assert corpus.main(["--count", "3", "--kind", "cmyk", "--kind", "progressive", "--json", str(figures)]) == 0
    assert asked == ["progressive"]
    assert [each["kind"] for each in json.loads(figures.read_text())] == ["cmyk", "progressive"]
    assert corpus.main(["--count", "4", "--kind", "cmyk", "--json", str(figures)]) == 0
    assert asked == ["progressive", "cmyk"]

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from benchmarks.engine_choices import main
from tests.support.tiny_cascade import write_tiny_cascade


def test_all_choices_are_measured(tmp_path: Path) -> None:
    folder = write_tiny_cascade(tmp_path / "tiny")
    rows = [f"f-{number:06d},1,1 5\n" for number in range(1, 16, 2)]
    (folder / "truth.csv").write_text("ImageId,ClassId,EncodedPixels\n" + "".join(rows))
    arguments = ["--cascade", str(folder), "--directory", str(tmp_path / "engines"), "--batch-size", "1"]
    arguments += ["--slots", "1", "--slots", "3", "--turns", "2", "--frames", "20"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    rows = [[word for word in line.split() if word not in "│┃"] for line in done.output.splitlines()]
    assert {row[0] for row in rows if len(row) > 1} >= {"gate", "classifier", "segmenter-1", "opened"}
    turns = {row[0]: [float(figure) for figure in row[1:]] for row in rows if row and row[0] in {"1", "3"}}
    assert set(turns) == {"1", "3"}
    for median, least, most in turns.values():
        assert 0 < least <= median <= most

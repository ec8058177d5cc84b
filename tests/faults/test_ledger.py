from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from engines.errors import FrameRejectedError
from tests.faults.ledger import DEFECT, KINDS, VERDICTS_SEEN, Kind, Ledger, kind_of, value_of
from tests.hostile.messages import DECODE, Message
from tests.support.tiny_cascade import class_score, gate_score, mask_of


def test_the_kind_of_a_frame_is_a_function_of_seed_and_number() -> None:
    assert [kind_of(1, number) for number in range(50)] == [kind_of(1, number) for number in range(50)]
    assert [kind_of(1, number) for number in range(50)] != [kind_of(2, number) for number in range(50)]


def test_the_share_of_frames_that_leave_a_record_is_the_one_that_progress_is_reckoned_with() -> None:
    kinds = Counter(kind_of(3, number) for number in range(5_000))
    assert kinds["poisoned"] == 0
    assert 1 - kinds["clean"] / 5_000 == pytest.approx(VERDICTS_SEEN, abs=0.03)
    assert Counter(kind_of(3, number, poisoned=True) for number in range(5_000))["poisoned"] > 50


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if kind.verdict not in ("clean", "defective", "inference")]
)
def test_what_cannot_be_inspected_is_refused_for_the_reason_that_the_ledger_says(kind: Kind) -> None:
    with pytest.raises(FrameRejectedError) as refused:
        DECODE(Message(value_of(kind.name)).frame())
    assert refused.value.reason == kind.verdict


def test_pictures_are_what_the_cascade_judges_as_the_ledger_says() -> None:
    pictures = {
        name: cv2.imdecode(np.frombuffer(value_of(name), np.uint8), cv2.IMREAD_GRAYSCALE)
        for name in ("defective", "clean", "poisoned")
    }
    assert gate_score(pictures["clean"]) < 0.5
    assert gate_score(pictures["poisoned"]) < 0.5
    assert gate_score(pictures["defective"]) > 0.5
    assert [number for number in range(1, 5) if class_score(pictures["defective"], number) > 0.5] == [DEFECT[0]]
    assert int(mask_of(pictures["defective"], DEFECT[0]).sum()) == DEFECT[2]


def test_a_ledger_keeps_what_was_acknowledged_and_what_is_in_doubt() -> None:
    ledger = Ledger()
    for number in range(3):
        ledger.sent(number, "clean")
    ledger.acknowledge(0, (2, 7))
    ledger.doubt(1)
    assert ledger.acknowledged == {(2, 7): 0}
    assert ledger.doubtful == {1}
    assert ledger.by_kind == {"clean": 3}

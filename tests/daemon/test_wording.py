from __future__ import annotations

import pytest

from daemon.wording import counted


@pytest.mark.parametrize(("number", "told"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames")])
def test_one_thing_takes_no_s(number: int, told: str) -> None:
    assert counted(number, "frame") == told

"""How a batch is split over engines of fixed sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.backend import plan_chunks


@pytest.mark.parametrize(
    ("count", "sizes", "expected"),
    [
        (0, (1, 4), []),
        (5, (1, 4), [(0, 4, 4), (4, 1, 1)]),
        (3, (4,), [(0, 3, 4)]),
        (9, (2, 4), [(0, 4, 4), (4, 4, 4), (8, 1, 2)]),
    ],
)
def test_known_plans(count: int, sizes: tuple[int, ...], expected: list[tuple[int, int, int]]) -> None:
    assert [(chunk.start, chunk.count, chunk.batch_size) for chunk in plan_chunks(count, sizes)] == expected


@given(count=st.integers(0, 200), sizes=st.sets(st.integers(1, 16), min_size=1).map(tuple))
def test_every_frame_once_and_padding_only_at_the_end(count: int, sizes: tuple[int, ...]) -> None:
    chunks = plan_chunks(count, sizes)
    assert [place for chunk in chunks for place in range(chunk.start, chunk.start + chunk.count)] == list(range(count))
    assert all(chunk.count == chunk.batch_size for chunk in chunks[:-1])
    assert sum(chunk.batch_size - chunk.count for chunk in chunks) < min(sizes)

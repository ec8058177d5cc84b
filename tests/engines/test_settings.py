"""Defaults, overrides, and the digest that names what is in force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.definition import CascadeDefinition, load_definition
from engines.errors import UsageError
from engines.settings import CascadeOverrides, CascadeSettings, ClassOverrides, ClassSettings, effective_settings
from tests.support.tiny_cascade import write_tiny_cascade


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> CascadeDefinition:
    return load_definition(write_tiny_cascade(tmp_path_factory.mktemp("tiny"), recording=False))


def test_the_definition_has_the_defaults_and_the_user_wins(definition: CascadeDefinition) -> None:
    defaults = effective_settings(definition)
    assert defaults.gate_threshold == 0.5
    assert defaults.classes[2] == ClassSettings(3, "scratches", 0.5, 0.5, 10)
    assert defaults.regions == "class"
    changed = effective_settings(
        definition,
        CascadeOverrides(
            gate_threshold=0.0, classes={3: ClassOverrides(threshold=0.0, min_area_px=0)}, regions="region"
        ),
    )
    assert changed.gate_threshold == 0
    assert changed.classes[2] == ClassSettings(3, "scratches", 0.0, 0.5, 0)
    assert changed.classes[0] == defaults.classes[0]
    assert changed.regions == "region"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (CascadeOverrides(classes={9: ClassOverrides()}), "no class 9, only 1, 2, 3, 4"),
        (CascadeOverrides(gate_threshold=1.1), "gate's threshold is 1.1"),
        (CascadeOverrides(classes={1: ClassOverrides(threshold=-0.1)}), "class 1: threshold"),
        (CascadeOverrides(classes={1: ClassOverrides(mask_threshold=1.0)}), "class 1: mask_threshold"),
        (CascadeOverrides(classes={2: ClassOverrides(min_area_px=-5)}), "class 2: min_area_px"),
        (CascadeOverrides(gate_threshold=float("nan")), "gate's threshold is nan"),
    ],
)
def test_wrong_overrides_are_named(definition: CascadeDefinition, overrides: CascadeOverrides, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        effective_settings(definition, overrides)


PROBABILITIES = st.floats(0, 1)
SETTINGS = st.builds(
    CascadeSettings,
    PROBABILITIES,
    st.lists(
        st.builds(
            ClassSettings, st.integers(1, 9), st.text(max_size=3), PROBABILITIES, PROBABILITIES, st.integers(0, 99)
        ),
        max_size=3,
    ).map(tuple),
    st.sampled_from(["class", "region"]),
)


@given(SETTINGS, SETTINGS, st.integers(8, 16), st.integers(8, 16))
def test_the_digest_tells_settings_apart(one: CascadeSettings, other: CascadeSettings, depth: int, more: int) -> None:
    same = one == other and depth == more
    assert (one.digest(bit_depth=depth) == other.digest(bit_depth=more)) is same

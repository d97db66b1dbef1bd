from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.guard import Guard, refusals, removed

BEFORE: dict[str, Any] = {
    "gateway_models.a": {"protected": True},
    "gateway_models.b": {"protected": False},
    "gateway_models.c.d": {},
    "gateway_consumers.e": {},
    "gateway_size": {"protected": True},
}


def without(*addresses: str) -> dict[str, Any]:
    return {address: {} for address in BEFORE if address not in addresses}


@pytest.mark.parametrize(
    ("gone", "guard", "said"),
    [
        ((), Guard(0, 0), ()),
        (("gateway_size",), Guard(0, 0), ()),
        (("gateway_models.b",), Guard(), ()),
        (
            ("gateway_models.a",),
            Guard(),
            ("gateway_models.a is protected; take `protected` from it in a change of its own, then remove it",),
        ),
        (("gateway_models.b",), Guard(0), ("1 resources would be removed, and gateway_removals_max is 0",)),
        (("gateway_models.b",), Guard(1), ()),
        (("gateway_models.b",), Guard(None, 25), ()),
        (
            ("gateway_models.b", "gateway_models.c.d"),
            Guard(None, 25),
            ("2 of 4 resources would be removed, and gateway_removals_max_percent is 25",),
        ),
    ],
)
def test_what_is_refused(gone: tuple[str, ...], guard: Guard, said: tuple[str, ...]) -> None:
    assert refusals(BEFORE, without(*gone), guard) == said


@pytest.mark.parametrize(
    ("serves", "wanted", "replaces", "said"),
    [
        (None, "staging", None, ()),
        ("staging", "staging", None, ()),
        ("staging", "production", "staging", ()),
        ("staging", None, "staging", ()),
        (
            "staging",
            "production",
            "dev",
            (
                "the host serves the workspace 'staging', this is 'production'; "
                "gateway_workspace_replaces=staging would allow it",
            ),
        ),
        (
            "staging",
            None,
            None,
            (
                "the host serves the workspace 'staging', this is none; "
                "gateway_workspace_replaces=staging would allow it",
            ),
        ),
    ],
)
def test_a_host_stays_with_its_workspace(
    serves: str | None, wanted: str | None, replaces: str | None, said: tuple[str, ...]
) -> None:
    before, after = ({"gateway_workspace": {"name": name}} if name else {} for name in (serves, wanted))
    assert refusals(before, after, Guard(replaces=replaces)) == said


@given(st.sets(st.sampled_from(sorted(BEFORE))), st.integers(0, 5), st.integers(0, 100))
def test_nothing_is_refused_for_what_stays(gone: set[str], most: int, percent: int) -> None:
    left = removed(BEFORE, without(*gone))
    assert set(left) == gone - {"gateway_size"}
    said = refusals(BEFORE, without(*gone), Guard(most, percent))
    assert any("gateway_removals_max is" in text for text in said) == (len(left) > most)
    assert any("protected" in text for text in said) == ("gateway_models.a" in left)

"""What specs are compiled to, compared with what was written down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("yaml")

from golden_cases import MINIMAL, cases

if TYPE_CHECKING:
    from golden_cases import Case


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_compiled_as_written_down(case: Case) -> None:
    compiled = case.compiled()
    if os.environ.get("GOLDEN_UPDATE"):
        case.update(compiled)
    expected = case.expected()
    for path, text in compiled.items():
        assert text == expected.get(path), f"{case.name}: {path} is not what was written down"
    assert set(case.written()) <= set(compiled)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_same_spec_gives_the_same_bytes(case: Case) -> None:
    assert case.bundle() == case.bundle()


def test_nothing_is_written_down_twice() -> None:
    minimal, *others = cases()
    assert minimal.name == MINIMAL
    for case in others:
        assert not set(case.written().items()) & set(minimal.written().items()), case.name


def test_there_are_cases() -> None:
    assert len(cases()) >= 12

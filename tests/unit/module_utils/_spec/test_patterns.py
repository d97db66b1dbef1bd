from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_examples import every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.access import allowed_models
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.patterns import ModelNames

NAMES = ModelNames(["gpt-5", "gpt-5-mini", "text-embedding-3-small", "text-embedding-3-large", "a.b", "axb"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("gpt-5", ("gpt-5",)),
        ("gpt-5*", ("gpt-5", "gpt-5-mini")),
        ("gpt-5-*", ("gpt-5-mini",)),
        ("text-*-small", ("text-embedding-3-small",)),
        ("*-3-*", ("text-embedding-3-large", "text-embedding-3-small")),
        ("a.b", ("a.b",)),
        ("a.*", ("a.b",)),
        ("a*b", ("a.b", "axb")),
        ("gpt-6", ()),
        ("GPT-*", ()),
        ("zzz*", ()),
    ],
)
def test_patterns(pattern: str, expected: tuple[str, ...]) -> None:
    assert NAMES.matching(pattern) == expected


def test_many_asterisks_do_not_take_long() -> None:
    assert ModelNames(["a" * 256]).matching("*a" * 100 + "*b") == ()


def test_everything() -> None:
    assert NAMES.matching("*") == NAMES.matching("**") == tuple(sorted(NAMES))


_alphabet = "ab.-["


@given(st.lists(st.text(_alphabet, min_size=1, max_size=5)), st.text(_alphabet + "*", min_size=1, max_size=5))
def test_patterns_match_what_the_shell_would_match(names: list[str], pattern: str) -> None:
    literal_brackets = pattern.replace("[", "[[]")
    expected = tuple(sorted({name for name in names if fnmatchcase(name, literal_brackets)}))
    assert ModelNames(set(names)).matching(pattern) == expected


def test_a_consumer_is_allowed_what_any_of_its_patterns_matches() -> None:
    raw = every_key()
    raw["gateway_models"]["gpt-5-mini"] = {"targets": [{"provider": "openai", "model": "gpt-5-mini"}]}
    raw["gateway_consumers"]["other"] = {"api_keys": ["env://OTHER"], "models": ["gpt-5", "text-embedding-*"]}
    spec = parse_spec(raw)
    allowed = {consumer.name: allowed_models(spec, consumer) for consumer in spec.consumers}
    assert allowed == {
        "batch": ("gpt-5", "gpt-5-mini", "text-embedding-3-small"),
        "other": ("gpt-5", "text-embedding-3-small"),
        "search-team": ("gpt-5", "text-embedding-3-small"),
    }
    assert allowed["other"] is allowed["search-team"]

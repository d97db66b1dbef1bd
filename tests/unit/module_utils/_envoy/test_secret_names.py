"""What a provider's secret file is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import (
    file_of_authorities,
    file_of_collector,
    file_of_identity,
    file_of_provider,
    header_of_collector,
    provider_of,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)


@given(NAMES)
def test_the_name_is_found_again(name: str) -> None:
    assert provider_of(file_of_provider(name, "openai", ["https://api.openai.com/v1"])) == name


@pytest.mark.parametrize("file_of", [file_of_provider, file_of_identity, file_of_authorities])
def test_each_kind_of_file(file_of: Callable[..., str]) -> None:
    one = file_of("a", "openai", ["https://a"])
    assert provider_of(one) == "a"
    assert file_of("a", "openai", ["https://a"], {"server_name": "b"}) != one


@pytest.mark.parametrize("name", ["a-00000000", "a-0123abcd.json", "a.json", "provider-a-0123abcd"])
def test_a_name_that_looks_like_the_end_of_one(name: str) -> None:
    assert provider_of(file_of_provider(name, "openai", ["https://a"])) == name


@pytest.mark.parametrize(
    "file", ["consumers.json", "listener-a-0123abcd.json", "provider-a.json", "provider--0123abcd.json", ""]
)
def test_other_files_belong_to_no_provider(file: str) -> None:
    assert provider_of(file) is None


def test_another_place_is_another_file() -> None:
    one = file_of_provider("a", "openai", ["https://a", "https://b"])
    assert file_of_provider("a", "openai", ["https://b", "https://a"]) == one
    assert file_of_provider("a", "openai", ["https://a"]) != one
    assert file_of_provider("a", "openai_compatible", ["https://a", "https://b"]) != one


def test_a_header_of_a_collector() -> None:
    file = file_of_collector("x-api-key", "https://a:4318")
    assert header_of_collector(file) == "x-api-key"
    assert provider_of(file) is None
    assert file_of_collector("x-api-key", "https://b:4318") != file
    assert header_of_collector(file_of_provider("otlp", "openai", ["https://a"])) is None

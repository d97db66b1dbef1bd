"""Endpoints without a model: what a spec may say of them."""

from __future__ import annotations

from typing import Any

import pytest
from spec_examples import changed

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.endpoints import ENDPOINTS, UNSEEN_MODELS
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

SERVED = ("gateway_endpoints",)
USED = ("gateway_consumers", "batch", "endpoints")


def problems(*changes: tuple[tuple[Any, ...], Any]) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        parse_spec(changed(*changes))
    return [(problem.path, problem.message) for problem in caught.value.errors]


def test_an_unknown_name() -> None:
    known = ", ".join(ENDPOINTS)
    assert problems(
        (SERVED, {"file": {"provider": "openai"}, "batches": {"provider": "openai"}}), (USED, ["batch"])
    ) == [
        ("gateway_consumers.batch.endpoints[0]", f"'batch' is not one of {known}; did you mean 'batches'?"),
        ("gateway_endpoints.file", f"'file' is not one of {known}; did you mean 'files'?"),
    ]


def test_a_provider_that_is_not_there() -> None:
    assert problems((SERVED, {"files": {"provider": "opnai"}, "batches": {}})) == [
        ("gateway_endpoints.batches.provider", "is required"),
        ("gateway_endpoints.files.provider", "no provider named 'opnai'; did you mean 'openai'?"),
    ]


def test_a_provider_of_another_api() -> None:
    claude = {"type": "anthropic", "base_url": "https://api.anthropic.com/v1"}
    change = (("gateway_providers", "claude"), claude)
    found = ("gateway_endpoints.files.provider", "is of the type anthropic, which serves models only")
    served = {"files": {"provider": "claude"}, "batches": {"provider": "openai"}}
    assert problems(change, (SERVED, served)) == [found]


def test_an_endpoint_that_nobody_serves() -> None:
    found = ("gateway_consumers.batch.endpoints[1]", "no endpoint named 'batches' in gateway_endpoints")
    assert problems((SERVED, {"files": {"provider": "openai"}})) == [found]
    assert len(problems((SERVED, None))) == 2


def test_the_same_endpoint_twice() -> None:
    found = ("gateway_consumers.batch.endpoints[1]", "is the same endpoint as endpoints[0]")
    assert problems((USED, ["files", "files"])) == [found]


def test_the_table_is_one() -> None:
    assert list(ENDPOINTS) == sorted(ENDPOINTS)
    assert set(UNSEEN_MODELS) <= set(ENDPOINTS)
    paths = [path for pairs in ENDPOINTS.values() for _methods, path in pairs]
    assert len(paths) == len(set(paths))
    assert not [path for path in paths if path.startswith("/") or path.endswith("/")]

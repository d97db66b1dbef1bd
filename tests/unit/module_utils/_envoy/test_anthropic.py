"""Who serves what cannot be translated for Anthropic's API."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import anthropic
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Model, Target
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider

PROVIDERS = {
    "openai": Provider("openai", "openai", ()),
    "claude": Provider("claude", "anthropic", ()),
    "spare": Provider("spare", "anthropic", ()),
}


def model(targets: dict[str, int], *fallbacks: str) -> Model:
    shares = tuple(Target(name, f"{name}-name", weight) for name, weight in targets.items())
    return Model("m", shares, tuple(Target(name, f"{name}-fallback") for name in fallbacks))


def names(found: Any) -> list[list[str]] | None:
    return None if found is None else [[target.model for target in rank] for rank in found]


@pytest.mark.parametrize(
    ("asked", "told", "others"),
    [
        (model({"claude": 1}), {"anthropic": "all"}, None),
        (model({"claude": 1, "spare": 2}), {"anthropic": "all"}, None),
        (model({"claude": 1}, "spare"), {"anthropic": "all"}, None),
        (model({"claude": 1, "openai": 0}), {"anthropic": "all"}, None),
        (model({"claude": 1}, "openai"), {"anthropic": "some", "retries": "0"}, [["openai-fallback"]]),
        (model({"openai": 1}, "claude"), {"anthropic": "some", "retries": "0"}, [["openai-name"]]),
        (model({"openai": 3, "claude": 1}), {"anthropic": "some", "retries": "0"}, [["openai-name"]]),
        (
            model({"openai": 3, "claude": 1}, "spare", "openai"),
            {"anthropic": "some", "retries": "1"},
            [["openai-name"], ["openai-fallback"]],
        ),
    ],
)
def test_the_others(asked: Model, told: dict[str, str], others: list[list[str]] | None) -> None:
    assert anthropic.serves(asked, PROVIDERS)
    assert anthropic.check(asked, PROVIDERS) == told
    assert names(anthropic.others(asked, PROVIDERS)) == others


@pytest.mark.parametrize(
    "asked", [model({"openai": 1}), model({"openai": 1, "claude": 0}), model({"openai": 1}, "openai")]
)
def test_models_without_it(asked: Model) -> None:
    assert not anthropic.serves(asked, PROVIDERS)
    assert anthropic.others(asked, PROVIDERS) is None


def test_what_it_is_not_used_by() -> None:
    assert anthropic.translation(PROVIDERS["openai"]) == []

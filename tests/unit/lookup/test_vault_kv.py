# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_kv import Found

CANARY = "canary-ab12"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Reference]:
    """What the session is asked for; it knows everything."""
    references: list[Reference] = []

    def resolve(self: SecretSession, wanted: Iterable[Reference]) -> Mapping[Reference, str]:
        references.extend(wanted)
        return {reference: f"value of {reference.text}" for reference in references}

    def read(self: SecretSession, wanted: Iterable[Reference]) -> Mapping[Reference, Found]:
        references.extend(wanted)
        return {each: Found({"api_key": f"value in {each.location}"}, {"version": 7}) for each in references}

    monkeypatch.setattr(SecretSession, "resolve", resolve)
    monkeypatch.setattr(SecretSession, "read", read)
    return references


def lookup(*terms: Any, **options: Any) -> list[Any]:
    plugin = lookup_loader.get("gatewayops.openai.vault_kv", templar=Templar(loader=DataLoader(), variables={}))
    values: list[Any] = plugin.run(list(terms), variables={}, **options)
    return values


def test_a_field(asked: list[Reference]) -> None:
    assert lookup("kv/providers/openai", field="api_key") == ["value of vault://kv/providers/openai#api_key"]
    assert asked == [Reference("vault", "kv/providers/openai", "api_key")]


def test_a_version_of_several_secrets(asked: list[Reference]) -> None:
    lookup("kv/a", "kv/b", field="api_key", version="3")
    assert asked == [Reference("vault", "kv/a", "api_key", 3), Reference("vault", "kv/b", "api_key", 3)]


def test_whole_secrets(asked: list[Reference]) -> None:
    assert lookup("kv/a", "kv/b", version=2) == [{"api_key": "value in kv/a"}, {"api_key": "value in kv/b"}]
    assert [(each.location, each.version) for each in asked] == [("kv/a", 2), ("kv/b", 2)]


def test_metadata(asked: list[Reference]) -> None:
    assert lookup("kv/a", with_metadata=True) == [{"value": {"api_key": "value in kv/a"}, "metadata": {"version": 7}}]
    assert lookup("kv/b", field="api_key", with_metadata=True) == [
        {"value": "value of vault://kv/b#api_key", "metadata": {"version": 7}}
    ]


@pytest.mark.parametrize(
    ("term", "options"),
    [
        (f"vault://kv/{CANARY}#x", {}),
        (f"kv/{CANARY}#x", {}),
        (f"kv/{CANARY}?version=2", {"field": "x"}),
        ("kv", {"field": "x"}),
        ("kv//x", {"field": "x"}),
        ("kv/../x", {"field": "x"}),
        ("kv/x", {"field": ""}),
        ("kv/x", {"field": "a?version=2"}),
        ("kv/x", {"field": "a#b"}),
        ("kv/x", {"field": "x", "version": 0}),
        (None, {"field": "x"}),
        (["kv/x"], {"field": "x"}),
    ],
)
def test_what_is_no_path_is_not_asked_for(asked: list[Reference], term: Any, options: dict[str, Any]) -> None:
    with pytest.raises(AnsibleLookupError, match="takes a path such as kv/providers/openai") as caught:
        lookup(term, **options)
    assert CANARY not in str(caught.value)
    assert asked == []


def test_failures_are_errors_of_the_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(self: SecretSession, wanted: Iterable[Reference]) -> Mapping[Reference, str]:
        raise SecretError("vault://kv/x#y: no")

    monkeypatch.setattr(SecretSession, "resolve", resolve)
    with pytest.raises(AnsibleLookupError, match=r"^vault://kv/x#y: no$"):
        lookup("kv/x", field="y")

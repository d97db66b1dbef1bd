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

CANARY = "canary-ab13"
VERSION = "0123456789abcdef" * 2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the session is asked for; it knows everything."""
    references: list[str] = []

    def resolve(self: SecretSession, wanted: Iterable[Reference]) -> Mapping[Reference, str]:
        values = {reference: f"value of {reference.text}" for reference in wanted}
        references.extend([*[reference.text for reference in values], self._options.aws.region])
        return values

    monkeypatch.setattr(SecretSession, "resolve", resolve)
    return references


def lookup(*terms: Any, variables: dict[str, Any] | None = None, **options: Any) -> list[str]:
    templar = Templar(loader=DataLoader(), variables=variables or {})
    plugin = lookup_loader.get("gatewayops.openai.aws_secret", templar=templar)
    values: list[str] = plugin.run(list(terms), variables=variables or {}, **options)
    return values


def test_several_secrets_are_asked_for_together(asked: list[str]) -> None:
    values = lookup("prod/b", "prod/a", variables={"gateway_aws_region": "eu-west-1"})
    assert values == ["value of aws-sm://prod/b", "value of aws-sm://prod/a"]
    assert asked == ["aws-sm://prod/b", "aws-sm://prod/a", "eu-west-1"]


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({"key": "api_key"}, "aws-sm://prod/a#api_key"),
        ({"stage": "AWSPREVIOUS"}, "aws-sm://prod/a?stage=AWSPREVIOUS"),
        ({"key": "b", "version_id": VERSION}, f"aws-sm://prod/a#b?version_id={VERSION}"),
    ],
)
def test_a_key_and_a_version(asked: list[str], options: dict[str, Any], reference: str) -> None:
    lookup("prod/a", aws_region="eu-west-2", **options)
    assert asked == [reference, "eu-west-2"]


@pytest.mark.parametrize(
    ("term", "options"),
    [
        (f"aws-sm://{CANARY}", {}),
        (f"{CANARY}#x", {}),
        (f"{CANARY}?stage=x", {}),
        (f"{CANARY} x", {}),
        ("", {}),
        (None, {"stage": "a b"}),
        ("a", {"key": ""}),
        ("a", {"key": "b#c"}),
        ("a", {"key": "b?stage=c"}),
        ("a", {"stage": ""}),
        ("a", {"version_id": "short"}),
    ],
)
def test_what_is_no_name_is_not_asked_for(asked: list[str], term: Any, options: dict[str, Any]) -> None:
    with pytest.raises(AnsibleLookupError, match="takes names or ARNs such as prod/openai") as caught:
        lookup(term, **options)
    assert CANARY not in str(caught.value)
    assert asked == []


def test_a_stage_and_an_id_are_too_much() -> None:
    with pytest.raises(AnsibleLookupError, match="a stage or a version_id, not both"):
        lookup("a", stage="x", version_id=VERSION)


def test_failures_are_errors_of_the_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(self: SecretSession, wanted: Iterable[Reference]) -> Mapping[Reference, str]:
        raise SecretError("aws-sm://a: no")

    monkeypatch.setattr(SecretSession, "resolve", resolve)
    with pytest.raises(AnsibleLookupError, match=r"^aws-sm://a: no$"):
        lookup("a")

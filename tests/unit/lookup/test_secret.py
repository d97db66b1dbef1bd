# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar

CANARY = "canary-90cd"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("VAULT_", "BAO_", "AWS_"))]:
        monkeypatch.delenv(name)


def lookup(*terms: Any, variables: dict[str, Any] | None = None, **options: Any) -> list[str]:
    loader = DataLoader()
    templar = Templar(loader=loader, variables=variables or {})
    plugin = lookup_loader.get("gatewayops.openai.secret", loader=loader, templar=templar)
    values: list[str] = plugin.run(list(terms), variables=variables or {}, **options)
    return values


def test_values_come_in_the_order_of_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_A", "a")
    monkeypatch.setenv("GATEWAY_B", "b")
    assert lookup("env://GATEWAY_B", "env://GATEWAY_A", "env://GATEWAY_B") == ["b", "a", "b"]


@pytest.mark.parametrize("term", [CANARY, f"https://{CANARY}", f"vault://{CANARY}", 5, None, [CANARY], f"/{CANARY}"])
def test_what_is_no_reference_is_not_shown(term: Any) -> None:
    with pytest.raises(AnsibleLookupError, match="term 2 of the lookup") as caught:
        lookup("env://HOME", term)
    assert CANARY not in str(caught.value)


def test_failures_are_errors_of_the_lookup() -> None:
    with pytest.raises(AnsibleLookupError, match=r"file:///does/not/exist: cannot be read on the controller"):
        lookup("file:///does/not/exist")
    with pytest.raises(
        AnsibleLookupError, match=r"vault://kv/x#y: Vault at http://127.0.0.1:9 cannot be asked: .*token"
    ):
        lookup("vault://kv/x#y", vault_addr="http://127.0.0.1:9")


def test_options_of_vault_are_not_looked_at_for_other_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may come from this very lookup, for instance a secret id in a file."""
    monkeypatch.setenv("GATEWAY_A", "a")
    assert lookup("env://GATEWAY_A", variables={"gateway_vault_addr": "{{ undefined_here }}"}) == ["a"]


def test_a_secret_for_vault_may_come_from_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "nonsense")
    with pytest.raises(AnsibleLookupError, match=r"^aws-sm://a: .* aws_ca_file /none does not exist$"):
        lookup(
            "aws-sm://a", variables={"gateway_vault_secret_id": "{{ undefined_here }}", "gateway_aws_ca_file": "/none"}
        )


def test_other_lookups_are_a_store() -> None:
    variables = {"gateway_vault_secret_id": "{{ undefined_here }}"}
    assert lookup("lookup://ansible.builtin.pipe/echo one word", variables=variables) == ["one word"]

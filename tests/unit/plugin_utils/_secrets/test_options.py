# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import (
    PREFIXES,
    SECRET,
    SecretOptions,
    VaultOptions,
    action_argument_spec,
    action_options,
    options_from,
)

try:
    from ansible.template import trust_as_template
except ImportError:

    def trust_as_template(value: str) -> str:
        """Before 2.19 every text was trusted."""
        return value


CANARY = "canary-77ab"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("VAULT_", "BAO_", "AWS_"))]:
        monkeypatch.delenv(name)


def options(task_args: dict[str, Any], **variables: Any) -> VaultOptions:
    return action_options(task_args, variables, Templar(loader=DataLoader(), variables=variables)).vault


def test_nothing_given_is_the_defaults() -> None:
    assert options({}) == VaultOptions()
    assert options_from(lambda name: None) == SecretOptions()


def test_arguments_win_over_variables_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "https://environment:8200")
    assert options({}).addr == "https://environment:8200"
    assert options({}, gateway_vault_addr="https://variable:8200").addr == "https://variable:8200"
    given = options({"vault_addr": "https://argument:8200/"}, gateway_vault_addr="https://variable:8200")
    assert given.addr == "https://argument:8200"


def test_an_argument_that_is_none_is_not_given() -> None:
    assert options({"vault_addr": None}, gateway_vault_addr="https://variable:8200").addr == "https://variable:8200"


def test_bao_wins_over_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAO_TOKEN", "bao")
    assert options({}).token == "bao"
    monkeypatch.setenv("VAULT_TOKEN", "vault")
    assert options({}).token == "bao"


def test_variables_are_templated() -> None:
    given = options(
        {}, gateway_vault_addr=trust_as_template("https://{{ region }}.example.com"), region="eu", other="{{ broken"
    )
    assert given.addr == "https://eu.example.com"


def test_arguments_of_the_action_that_are_not_ours_are_ignored() -> None:
    assert options({"models": {}, "listeners": {}, "vault_namespace": "team"}).namespace == "team"


def test_values_are_plain_and_without_line_breaks_at_their_ends() -> None:
    given = options({}, gateway_vault_token=trust_as_template("abc\n"), gateway_vault_kv_version=2)
    assert given.token == "abc"
    assert given.token.__class__ is str
    assert given.kv_version == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10.0), ("10s", 10.0), ("0.5", 0.5), ("2m", 120.0), ("60m", 3600.0)]
)
def test_timeouts(text: str, seconds: float) -> None:
    assert options({"vault_timeout": text}).timeout == seconds


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vault_timeout", "0", "vault_timeout must be a time"),
        ("vault_timeout", "soon", "vault_timeout must be a time"),
        ("vault_timeout", "61m", "vault_timeout must be a time"),
        ("vault_addr", "vault.example.com:8200", "vault_addr must be a URL"),
        ("vault_addr", "ftp://vault.example.com", "vault_addr must be a URL"),
        ("vault_addr", f"https://user:{CANARY}@vault.example.com", "must not hold a user or a password"),
        ("vault_token", f"{CANARY}\nX-Evil: 1", "vault_token holds a line break"),
        ("vault_secret_id", f"{CANARY}\x00", "vault_secret_id holds a line break"),
        ("vault_token", f"{CANARY}€", "vault_token holds a character that is not ASCII"),
        ("vault_namespace", "münchen", "vault_namespace holds a character that is not ASCII"),
        ("vault_kv_version", "3", "vault_kv_version must be auto, 1 or 2"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(name: str, value: str, message: str) -> None:
    with pytest.raises(SecretError, match=message) as caught:
        options_from({name: value}.get)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("value", [{"field": CANARY}, [CANARY]])
@pytest.mark.parametrize("option", sorted(SECRET))
def test_a_whole_secret_in_place_of_a_field_is_not_shown(option: str, value: Any) -> None:
    for given, variables in (({option: value}, {}), ({}, {f"gateway_{option}": value})):
        with pytest.raises(SecretError, match=f"^{option} must be text$"):
            options(given, **variables)


def test_secrets_do_not_show_when_options_are_printed() -> None:
    assert CANARY not in repr(options_from({"vault_role_id": CANARY, **dict.fromkeys(SECRET, CANARY)}.get))


def test_an_action_can_declare_the_options_without_saying_what_they_are_by_default() -> None:
    spec = action_argument_spec()
    assert spec["vault_addr"] == {"type": "str"}
    assert spec["vault_kv_version"] == {"type": "str", "choices": ["auto", "1", "2"]}
    assert spec["aws_region"] == {"type": "str"}
    secret = {name for name, entry in spec.items() if entry.get("no_log")}
    assert secret == {f"vault_{name}" for name in ("jwt", "password", "secret_id", "token", "wrapped_secret_id")}
    assert all(name.startswith(PREFIXES) for name in spec)


def test_every_option_of_the_fragment_is_used() -> None:
    asked: set[str] = set()

    def get(name: str) -> None:
        asked.add(name)

    options_from(get)
    assert asked == set(action_argument_spec())

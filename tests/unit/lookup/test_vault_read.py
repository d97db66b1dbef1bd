# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_vault import VaultBackend
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_path import Request

CANARY = "canary-5c77"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, Request]]:
    """What the store is asked for, and whether by a login that is kept."""
    requests: list[tuple[bool, Request]] = []

    def ask(self: VaultBackend, wanted: Iterable[Request]) -> Mapping[Request, Mapping[str, Any]]:
        wanted = list(wanted)
        requests.extend((self._keep, request) for request in wanted)
        return {request: {"user": request.path, "list": [1]} for request in wanted}

    monkeypatch.setattr(VaultBackend, "ask", ask)
    return requests


def lookup(*terms: Any, **options: Any) -> list[Any]:
    plugin = lookup_loader.get("gatewayops.openai.vault_read", templar=Templar(loader=DataLoader(), variables={}))
    values: list[Any] = plugin.run(list(terms), variables={}, **options)
    return values


def test_paths(asked: list[tuple[bool, Request]]) -> None:
    data = [{"user": path, "list": [1]} for path in ("database/creds/a", "database/creds/b")]
    assert lookup("database/creds/a", "database/creds/b") == data
    assert asked == [(False, Request("database/creds/a", None)), (False, Request("database/creds/b", None))]


def test_a_field_keeps_its_type(asked: list[tuple[bool, Request]]) -> None:
    assert lookup("database/creds/a", field="list") == [[1]]


def test_data_is_sent_whatever_the_order_of_its_keys(asked: list[tuple[bool, Request]]) -> None:
    lookup("pki/issue/a", data={"ttl": "1h", "common_name": "x"}, lease="keep")
    assert asked == [(True, Request("pki/issue/a", '{"common_name": "x", "ttl": "1h"}'))]
    lookup("pki/issue/a", data={})
    assert asked[-1] == (False, Request("pki/issue/a", "{}"))


def test_a_field_that_is_not_there(asked: list[tuple[bool, Request]]) -> None:
    message = r"^database/creds/a: the answer has no field 'x'; it has 'list', 'user'$"
    with pytest.raises(AnsibleLookupError, match=message):
        lookup("database/creds/a", field="x")


@pytest.mark.parametrize("term", ["", "/a", "a/", "a//b", "a/../b", f"a\n{CANARY}", None, 7, ["a"]])
def test_what_is_no_path_is_not_asked_for(asked: list[tuple[bool, Request]], term: Any) -> None:
    with pytest.raises(AnsibleLookupError, match="term 2 of the lookup is not a path such as database") as caught:
        lookup("a/b", term)
    assert CANARY not in str(caught.value)
    assert asked == []


def test_data_that_is_no_json(asked: list[tuple[bool, Request]]) -> None:
    with pytest.raises(AnsibleLookupError, match="the data to send must be made of texts"):
        lookup("a/b", data={"day": datetime.date(2026, 1, 1)})

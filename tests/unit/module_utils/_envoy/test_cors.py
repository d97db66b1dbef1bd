# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What web pages may do, and that nothing of it is there where no listener has it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from spec_examples import REMOVED, changed

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.compile import compile_resources
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.union import transition
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

CORS = ("gateway_listeners", "local", "cors")


def compiled(*changes: tuple[tuple[Any, ...], Any]) -> dict[str, Any]:
    return compile_resources(parse_spec(changed(*changes)), host_from_options({"envoy": "/opt/envoy"}))


def test_without_it_nothing_speaks_of_it() -> None:
    text = json.dumps(compiled((CORS, REMOVED)))
    assert "cors" not in text
    assert "access-control" not in text


def test_origins_change_the_routes_and_nothing_else() -> None:
    before, after = compiled(), compiled(((*CORS, "allow_origins"), ["https://other.example"]))
    assert [name for name, found in before.items() if after[name] != found] == ["rds-gateway.json"]


def test_only_its_listener_has_the_filter() -> None:
    filters = {
        listener["name"]: [
            each["name"] for each in listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
        ]
        for listener in compiled()["lds.json"]
        if listener["name"].startswith("listener:")
    }
    # That of TCP tells of HTTP/3 first.
    assert filters["listener:public"] == ["alt_svc", *filters["listener:public:http3"]]
    assert filters["listener:local"] == ["cors:local", *filters["listener:public:http3"]]


@pytest.mark.parametrize(
    ("pattern", "origin", "matches"),
    [
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b-1.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://aexample.com", False),
        ("https://*.example.com", "https://a.exampleXcom", False),
        ("https://*.example.com", "https://a.example.com.evil", False),
        ("https://*.example.com", "https://evil/.example.com", False),
        ("https://*.example.com", "http://a.example.com", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("https://*.example.com:8443", "https://a.example.com", False),
    ],
)
def test_patterns(pattern: str, origin: str, matches: bool) -> None:
    (configuration,) = compiled(((*CORS, "allow_origins"), [pattern]))["rds-gateway.json"]
    (found,) = configuration["virtual_hosts"][0]["typed_per_filter_config"]["cors:local"]["allow_origin_string_match"]
    # Envoy matches the whole of it.
    assert (re.fullmatch(found["safe_regex"]["regex"], origin) is not None) is matches


@pytest.mark.parametrize("consumers", [{}, {"x": {"api_keys": ["env://X"], "models": ["*"]}}])
def test_every_step_to_another_release_has_it(consumers: Any) -> None:
    def files(*changes: tuple[tuple[Any, ...], Any]) -> dict[str, bytes]:
        return {
            f"envoy/{name}": json.dumps({"resources": found, "version_info": str(changes)}).encode()
            for name, found in compiled(*changes).items()
        }

    one, other = files(), files((("gateway_consumers",), consumers))
    for steps in (transition(one, other), transition(other, one)):
        assert steps
        for step in steps:
            (configuration,) = json.loads(step["envoy/rds-gateway.json"])["resources"]
            (host,) = configuration["virtual_hosts"]
            assert "cors:local" in host["typed_per_filter_config"]
            last = host["matcher"]
            while "matcher" in last.get("on_no_match", {}):
                last = last["on_no_match"]["matcher"]
            assert last["on_no_match"]["action"]["typed_config"]["name"] == "before_the_key"

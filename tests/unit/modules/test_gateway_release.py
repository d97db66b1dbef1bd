# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile, encode_files
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request

pytest.importorskip("ansible.module_utils.basic")

from ansible_collections.gatewayops.openai.plugins.modules import gateway_info, gateway_release

HOST = {"envoy": "/opt/envoy/1.40.0/envoy"}
FILES = (BundleFile("envoy/lds.json", b"{}"),)


class Answer(Exception):  # noqa: N818
    """What the module answered; `failed` when it did with fail_json."""

    def __init__(self, result: dict[str, Any], *, failed: bool) -> None:
        super().__init__()
        self.result = result
        self.failed = failed


def answer(monkeypatch: pytest.MonkeyPatch, plugin: Any, *, check: bool = False, **params: Any) -> Answer:
    """Run a module with these parameters and its own defaults."""

    class Module:
        def __init__(self, argument_spec: dict[str, Any], supports_check_mode: bool, **_: Any) -> None:
            assert supports_check_mode
            self.params = {name: params.get(name, option.get("default")) for name, option in argument_spec.items()}
            self.check_mode = check

        def exit_json(self, **result: Any) -> NoReturn:
            raise Answer(result, failed=False)

        def fail_json(self, **result: Any) -> NoReturn:
            raise Answer(result, failed=True)

    monkeypatch.setattr(plugin, "AnsibleModule", Module)
    with pytest.raises(Answer) as found:
        plugin.main()
    return found.value


@pytest.mark.parametrize("check", [False, True])
def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    asked: list[Any] = []

    def run(*arguments: Any, **options: Any) -> dict[str, Any]:
        asked.append((*arguments, options))
        return {"changed": True, "digest": "d"}

    monkeypatch.setattr(gateway_release, "run", run)
    result = answer(
        monkeypatch,
        gateway_release,
        check=check,
        host=HOST,
        digest="d",
        bundle=encode_files(FILES),
        secrets={"a.json": "{}", "b.json": {"resources": []}},
        meta={"applied_by": "me", "inventory_commit": None},
        keep=3,
    )
    assert (result.result, result.failed) == ({"changed": True, "digest": "d"}, False)
    request = Request(
        digest="d",
        files=FILES,
        secrets={"a.json": "{}", "b.json": '{"resources": []}'},
        facts={"applied_by": "me"},
        keep=3,
    )
    assert asked == [(host_from_options(HOST), "active", request, {"check": check})]


def test_what_is_not_given_is_left_alone() -> None:
    params = {name: option.get("default") for name, option in gateway_release.ARGUMENT_SPEC.items()}
    assert gateway_release.request_of({**params, "digest": "previous"}) == Request(digest="previous", facts={})


def test_defaults_are_those_of_the_request() -> None:
    defaults = {name: option.get("default") for name, option in gateway_release.ARGUMENT_SPEC.items()}
    assert Request() == Request(**{name: defaults[name] for name in ("keep", "validate", "prune_wait", "drain_wait")})


def test_secrets_and_the_bundle_are_not_logged() -> None:
    assert gateway_release.ARGUMENT_SPEC["secrets"]["no_log"]
    assert gateway_release.ARGUMENT_SPEC["bundle"]["no_log"]


def refuse(*arguments: Any, **options: Any) -> NoReturn:
    raise ReleaseError("Envoy refuses it")


@pytest.mark.parametrize(("plugin", "name"), [(gateway_release, "run"), (gateway_info, "info")])
def test_errors_are_told(monkeypatch: pytest.MonkeyPatch, plugin: Any, name: str) -> None:
    monkeypatch.setattr(plugin, name, refuse)
    result = answer(monkeypatch, plugin, host=HOST, digest="d")
    assert (result.result, result.failed) == ({"msg": "Envoy refuses it"}, True)


@pytest.mark.parametrize("plugin", [gateway_release, gateway_info])
def test_a_host_that_is_none(monkeypatch: pytest.MonkeyPatch, plugin: Any) -> None:
    result = answer(monkeypatch, plugin, digest="d")
    assert result.failed
    assert result.result["msg"].startswith("host.envoy must be a plain absolute path")


def test_a_bundle_that_was_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    result = answer(monkeypatch, gateway_release, host=HOST, bundle="x")
    assert result.failed
    assert "the bundle cannot be read" in result.result["msg"]


@pytest.mark.parametrize("plugin", [gateway_release, gateway_info])
def test_an_old_python(monkeypatch: pytest.MonkeyPatch, plugin: Any) -> None:
    old = SimpleNamespace(version_info=(3, 8, 18), executable="/usr/bin/python3.8", version="3.8.18 (main)")
    monkeypatch.setattr(plugin, "sys", old)
    result = answer(monkeypatch, plugin, host=HOST, digest="d")
    message = "a gateway host needs Python 3.9 or newer, /usr/bin/python3.8 is 3.8.18"
    assert (result.result, result.failed) == ({"msg": message}, True)


def test_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_info, "info", lambda host: {"active": "d"})
    result = answer(monkeypatch, gateway_info, host=HOST)
    assert (result.result, result.failed) == ({"changed": False, "active": "d"}, False)

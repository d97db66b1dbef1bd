# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import getpass
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._release import secrets

pytest.importorskip("ansible.module_utils.basic")

from ansible_collections.gatewayops.openai.plugins.modules import gateway_secrets

CANARY = "canary-b7c8"
CONTENT = {"resources": [{"name": "provider-a", "generic_secret": {"secret": {"inline_string": CANARY}}}]}


class Answer(Exception):  # noqa: N818
    """What the module answered; `failed` when it did with fail_json."""

    def __init__(self, result: dict[str, Any], *, failed: bool) -> None:
        super().__init__()
        self.result = result
        self.failed = failed


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(secrets, "_MEMORY", ("ext4", "overlay", "tmpfs", "btrfs", "xfs"))
    return {
        "service_manager": "supervisor",
        "config_dir": str(tmp_path / "config"),
        "secrets_dir": str(tmp_path / "secrets"),
        "envoy": "/usr/bin/env",
        "supervisord": "/usr/bin/env",
        "user": getpass.getuser(),
    }


def run(monkeypatch: pytest.MonkeyPatch, host: dict[str, Any], *, check: bool = False, **params: Any) -> Answer:
    class Module:
        def __init__(
            self, argument_spec: dict[str, Any], supports_check_mode: bool, required_one_of: list[tuple[str, ...]]
        ) -> None:
            assert supports_check_mode
            assert argument_spec["secrets"]["no_log"]
            assert required_one_of == [("secrets", "spec_digest")]
            defaults = {name: option.get("default") for name, option in argument_spec.items()}
            self.params = {**defaults, "host": host, **params}
            self.check_mode = check

        def exit_json(self, **result: Any) -> NoReturn:
            raise Answer(result, failed=False)

        def fail_json(self, **result: Any) -> NoReturn:
            raise Answer(result, failed=True)

    monkeypatch.setattr(gateway_secrets, "AnsibleModule", Module)
    with pytest.raises(Answer) as caught:
        gateway_secrets.main()
    assert CANARY not in json.dumps(caught.value.result)
    return caught.value


def test_content_may_come_as_text_or_as_what_it_means(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {
        "changed": True,
        "changed_names": ["provider-a-0123abcd.json"],
        "removed": [],
        "rotated": {"consumers": [], "providers": ["a"], "listeners": [], "issuers": [], "collector_headers": []},
        "repaired": [],
        "message": "providers: a",
    }
    first = run(monkeypatch, host, secrets={"provider-a-0123abcd.json": json.dumps(CONTENT)}, check=True)
    assert (first.failed, first.result) == (False, wanted)
    assert run(monkeypatch, host, secrets={"provider-a-0123abcd.json": json.dumps(CONTENT)}).result == wanted
    again = run(monkeypatch, host, secrets={"provider-a-0123abcd.json": CONTENT})
    nothing = {"consumers": [], "providers": [], "listeners": [], "issuers": [], "collector_headers": []}
    assert again.result == {
        **wanted,
        "changed": False,
        "changed_names": [],
        "rotated": nothing,
        "message": "nothing changed",
    }


def test_to_rotate_takes_a_gateway(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for check in (True, False):
        answer = run(monkeypatch, host, secrets={"provider-a.json": CONTENT}, spec_digest="0" * 64, check=check)
        assert answer.failed
        assert "there is no gateway on this host whose secrets could be rotated" in answer.result["msg"]
    assert not Path(host["secrets_dir"]).exists()


def test_an_old_python(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(version_info=(3, 8, 18), executable="/usr/bin/python3.8", version="3.8.18 (main)")
    monkeypatch.setattr(gateway_secrets, "sys", old)
    answer = run(monkeypatch, host, secrets={"provider-a.json": CONTENT})
    assert answer.failed
    assert answer.result["msg"] == "a gateway host needs Python 3.9 or newer, /usr/bin/python3.8 is 3.8.18"


def test_the_host_is_not_touched_while_a_release_changes_it(
    host: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Path(host["config_dir"]) / ".lock"
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for check in (True, False):
            answer = run(monkeypatch, host, secrets={"provider-a.json": CONTENT}, check=check)
            assert answer.failed
            assert "another run is applying to this host" in answer.result["msg"]
    assert not Path(host["secrets_dir"]).exists()
    assert run(monkeypatch, host, secrets={"provider-a.json": CONTENT}).result["changed"]


@pytest.mark.parametrize(
    ("changes", "files", "message"),
    [
        ({}, {"../x.json": CONTENT}, "is no name of a secret file"),
        ({}, {"x.json": CANARY}, "x.json is not a JSON object with a list of resources"),
        ({}, {"x.json": {"inline": CANARY}}, "x.json is not a JSON object with a list of resources"),
        ({"user": "nobody-of-that-name"}, {"x.json": CONTENT}, "there is no user nobody-of-that-name on this host"),
        ({"secrets_dir": "relative"}, {"x.json": CONTENT}, "host.secrets_dir must be a plain absolute path"),
    ],
)
def test_what_is_wrong_is_said_without_a_value(
    host: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], files: Any, message: str
) -> None:
    answer = run(monkeypatch, {**host, **changes}, secrets=files)
    assert answer.failed
    assert message in answer.result["msg"]


def test_an_error_of_the_system_is_one_line(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Path(host["config_dir"]) / ".lock"
    lock.parent.mkdir()
    lock.symlink_to("elsewhere")
    answer = run(monkeypatch, host, secrets={"provider-a.json": CONTENT})
    assert answer.failed
    assert answer.result["msg"].startswith(f"{lock}: ")

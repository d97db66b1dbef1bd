from __future__ import annotations

import json
import socket
from typing import Any

import pytest

basic = pytest.importorskip("ansible.module_utils.basic")

from ansible_collections.gatewayops.openai.plugins.modules import gateway_probe  # noqa: E402

KEY = "sk-canary-probe"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    with pytest.raises(SystemExit):
        gateway_probe.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_gateway_that_does_not_listen_fails_and_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://gateway.example:{unused.getsockname()[1]}"
        result = run(monkeypatch, capsys, url=url, address="127.0.0.1", key=KEY, models=["gpt-5"], chat_model="gpt-5")
    assert result["failed"]
    assert result["msg"].splitlines()[0] == f"6 of 8 checks of {url} failed:"
    assert [check["name"] for check in result["checks"] if check["skipped"]] == ["embeddings", "forbidden model"]
    assert KEY not in json.dumps(result)


def test_what_is_no_url(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(monkeypatch, capsys, url="gateway", key=KEY, models=[])
    assert result["failed"]
    assert "is not the URL of a gateway" in result["msg"]

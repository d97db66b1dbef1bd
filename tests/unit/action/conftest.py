from __future__ import annotations

import posixpath
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar


class Host:
    """Stands in for the host: answers modules one after the other, and remembers what they were told."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        self.calls.append((module_name.rpartition(".")[2], module_args))
        return {**self.answers.pop(0), "invocation": {"module_args": module_args}}


class Connection:
    """Stands in for a connection that can pipeline, but is not configured to."""

    has_pipelining = True
    always_pipeline_modules = False
    become = None

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self._shell = SimpleNamespace(tmpdir=None, join_path=posixpath.join)
        self.options: dict[str, Any] = {"pipelining": False}

    def get_option(self, name: str) -> Any:
        return self.options[name]

    def set_option(self, name: str, value: Any) -> None:
        self.options[name] = value

    def is_pipelining_enabled(self, wrap_async: bool = False) -> bool:
        return self.has_pipelining and bool(self.get_option("pipelining"))


Run = Callable[..., dict[str, Any]]


def failed(run: Run, action: type[ActionBase], **options: Any) -> str:
    """Run an action that has to fail, and return what it says."""
    result = run(action, **options)
    assert set(result) - {"cannot_ask"} == {"failed", "changed", "msg"}
    assert result["failed"]
    assert not result["changed"]
    return str(result["msg"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run an action as a task with `arguments` on a host with `variables`; modules are answered by `host`."""

    def _run(
        action: type[ActionBase],
        *,
        arguments: dict[str, Any] | None = None,
        variables: dict[str, Any] | None = None,
        host: Host | None = None,
        diff: bool = False,
        check: bool = False,
        transport: str = "ssh",
    ) -> dict[str, Any]:
        loader = DataLoader()
        task = SimpleNamespace(
            args=arguments or {}, action="test", async_val=0, diff=diff, check_mode=check, environment=None
        )
        connection = Connection(transport)
        plugin = action(
            task=task,
            connection=connection,
            play_context=SimpleNamespace(remote_user="ada", port=None, check_mode=check, diff=diff),
            loader=loader,
            templar=Templar(loader=loader, variables=variables or {}),
            shared_loader_obj=None,
        )
        monkeypatch.setattr(plugin, "_execute_module", host or Host())
        result: dict[str, Any] = plugin.run(task_vars=variables or {})
        return result

    return _run


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The variables of a small gateway, with secrets from the environment."""
    monkeypatch.setenv("PROVIDER_KEY", "sk-provider-canary")
    monkeypatch.setenv("CONSUMER_KEY", "sk-consumer-canary")
    return {
        "inventory_hostname": "gw1.example",
        "gateway_envoy": "/opt/envoy/1.40.0/envoy",
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": 8080}},
        "gateway_providers": {
            "openai": {"type": "openai", "base_url": "https://api.openai.com/v1", "api_key": "env://PROVIDER_KEY"}
        },
        "gateway_models": {
            "gpt-5": {"targets": [{"provider": "openai", "model": "gpt-5"}]},
            "text-embedding-3-small": {"targets": [{"provider": "openai", "model": "text-embedding-3-small"}]},
        },
        "gateway_consumers": {
            "search": {
                "api_keys": ["env://CONSUMER_KEY"],
                "models": ["*"],
                "limits": {"requests_per_minute": 600},
            }
        },
    }

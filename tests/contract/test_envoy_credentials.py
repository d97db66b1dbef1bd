"""A provider's credential goes to that provider, and no request goes without: whatever is missing, nothing is sent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from contract.gateway_process import Gateway, Provider, free_port, host_below, xds_of
from contract.test_envoy_requests import call, chat

NAMES = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def up() -> Iterator[dict[str, Provider]]:
    with ExitStack() as stack:
        # They take any key, and remember what they got.
        found = {name: Provider(name) for name in NAMES}
        for provider in found.values():
            stack.callback(provider.stop)
        yield found


@pytest.fixture(autouse=True)
def forget(up: dict[str, Provider]) -> None:
    for provider in up.values():
        provider.reset()


def spec(port: int, up: dict[str, Provider]) -> dict[str, Any]:
    def target(name: str, model: str) -> dict[str, str]:
        return {"provider": name, "model": model}

    return {
        "gateway_listeners": {"local": {"address": "127.0.0.1", "port": port}},
        "gateway_metrics": {"port": free_port()},
        "gateway_providers": {
            name: {
                "type": "openai",
                "base_url": f"{provider.url}/v1",
                "api_key": f"env://{name.upper()}",
                "headers": {f"x-{name}": f"only-{name}"},
            }
            for name, provider in up.items()
        },
        "gateway_models": {
            **{name: {"targets": [target(name, "m")]} for name in NAMES},
            "all": {
                "targets": [target("alpha", "fail-429")],
                "fallbacks": [target("beta", "fail-500"), target("gamma", "m")],
                "retries": {"attempts": 1, "max_wait": "1s"},
            },
            # The first is asked in one hop, with its filters in the model's own cluster.
            "one-hop": {"targets": [target("alpha", "fail-429")], "fallbacks": [target("beta", "m")]},
        },
        "gateway_consumers": {"all": {"api_keys": ["env://ALL"], "models": ["*"]}},
    }


@contextlib.contextmanager
def started(folder: Path, raw: dict[str, Any], without: str = "") -> Iterator[Gateway]:
    """A gateway that may lack a secret file, and whose start may fail for it."""
    running = Gateway(folder, host_below(folder))
    deliver = running.deliver

    def deliver_the_others(*given: Any, **options: Any) -> tuple[str, ...]:
        delivered = deliver(*given, **options)
        for path in Path(running.host.secrets_dir).glob(without) if without else ():
            path.unlink()
        return delivered

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "deliver", deliver_the_others)
            with contextlib.suppress(AssertionError) if without else contextlib.nullcontext():
                running.start(raw)
        yield running
    finally:
        running.stop()


def own(name: str, seen: dict[str, Any]) -> bool:
    """Whether a request has all that is its provider's, and nothing that is another's."""
    text = json.dumps(seen)
    others = [each for each in NAMES if each != name]
    headers = seen["headers"]
    has_all = headers.get("authorization") == f"Bearer sk-{name}" and headers.get(f"x-{name}") == f"only-{name}"
    return has_all and not any(f"sk-{other}" in text or f"only-{other}" in text for other in others)


def test_each_attempt_has_its_own_and_no_other(tmp_path: Path, up: dict[str, Provider]) -> None:
    port = free_port()
    with started(tmp_path, spec(port, up)):
        assert call(port, body=chat("all")).json["system_fingerprint"] == "gamma"
        up["gamma"].control(status=429, retry_after="0")
        assert call(port, body=chat("all")).status == 429
        assert call(port, body=chat("one-hop")).json["system_fingerprint"] == "beta"
    assert [len(up[name].seen()) for name in NAMES] == [2 + 1, 2 + 1, 1 + 2]
    assert all(own(name, seen) for name in NAMES for seen in up[name].seen())


@pytest.mark.parametrize("name", ["alpha", "gamma"])
def test_without_the_file_of_a_key_nothing_is_sent_there(tmp_path: Path, up: dict[str, Provider], name: str) -> None:
    port = free_port()
    with started(tmp_path, spec(port, up), without=f"provider-{name}-*"):
        for model in (name, "all", "one-hop"):
            with contextlib.suppress(OSError):
                call(port, body=chat(model))
    assert up[name].seen() == []
    assert all(own(each, seen) for each in NAMES for seen in up[each].seen())


@pytest.mark.parametrize("lost", ["routes", "header"])
def test_without_a_deployment_nothing_is_sent(tmp_path: Path, up: dict[str, Provider], lost: str) -> None:
    port = free_port()
    raw = spec(port, up)
    with started(tmp_path, raw) as running:
        files = {path: json.loads(content) for path, content in xds_of(running.active).items()}
        if lost == "routes":
            host = files["envoy/rds-egress.json"]["resources"][0]["virtual_hosts"][0]
            entries = host["matcher"]["matcher_tree"]["exact_match_map"]["map"]
            for name in [name for name in entries if name != "none"]:
                del entries[name]
        else:
            models = [each for each in files["envoy/cds.json"]["resources"] if each["name"].startswith("model:")]
            for rank in [rank for cluster in models for rank in cluster["load_assignment"]["endpoints"]]:
                for endpoint in rank["lb_endpoints"]:
                    endpoint["metadata"]["filter_metadata"]["gw"].pop("deployment", None)
        changed = {path: json.dumps({**content, "version_info": lost}).encode() for path, content in files.items()}
        running.activate(lost, changed, running.active)
        for _turn in range(100):
            answer = call(port, body=chat("all"))
            if answer.status == 503 and answer.error["code"] == "unavailable":
                break
        for provider in up.values():
            provider.reset()
        for _turn in range(10):
            answer = call(port, body=chat("all"))
            assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert not any(provider.seen() for provider in up.values())
        for _turn in range(10):
            assert call(port, body=chat("one-hop")).status == 503
    assert not up["beta"].seen()
    assert not up["gamma"].seen()
    assert all(own("alpha", seen) for seen in up["alpha"].seen())

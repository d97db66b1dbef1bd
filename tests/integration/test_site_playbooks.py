"""The playbooks as a user runs them, on a real Envoy with a real OpenBao and providers that check their keys."""

from __future__ import annotations

import fcntl
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from integration.site_gateway import CANARY, Gateway, Ran, a_gateway, restored


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    """A gateway that serves."""
    with a_gateway() as gateway:
        first = gateway.play("site")
        assert first.status == 0, first.output
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Iterator[Gateway]:
    """The gateway that serves; what a test changes in its variables is taken back, and applied by who needs it."""
    with restored(running):
        yield running


def ask(gateway: Gateway, model: str = "gpt-5", key: str = f"sk-{CANARY}-search") -> dict[str, Any]:
    """Ask as an application would; the answer's `status` is the HTTP status."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
        json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {"status": answer.status, **json.loads(answer.read())}
    except urllib.error.HTTPError as error:
        with error:
            return {"status": error.code}


def succeed(ran: Ran, *, changed: int) -> Ran:
    assert ran.status == 0, ran.output
    assert ran.recap["changed"] == changed, ran.output
    return ran


def test_a_new_host_is_as_check_mode_said_and_a_second_run_changes_nothing() -> None:
    with a_gateway() as gateway:
        predicted = succeed(gateway.play("site", "--check", "--diff"), changed=1)
        assert not gateway.root.exists()
        assert not gateway.secrets.exists()
        made = succeed(gateway.play("site", "--diff"), changed=1)
        assert predicted.plan == made.plan
        assert made.plan[-1] == "Plan: 12 to add, 0 to change, 0 to remove"
        assert ask(gateway)["system_fingerprint"] == "a"
        before = gateway.snapshot()
        succeed(gateway.play("site", "--diff"), changed=0)
        succeed(gateway.play("site", "--check", "--diff"), changed=0)
        assert gateway.snapshot() == before
        succeed(gateway.play("site", "-e", "gateway_state=absent"), changed=1)
        assert not (gateway.root / "config" / "releases").exists()
        assert not gateway.secrets.exists()
        with pytest.raises(urllib.error.URLError):
            ask(gateway)
        succeed(gateway.play("site", "-e", "gateway_state=absent"), changed=0)


@pytest.mark.parametrize("side", ["controller", "host"])
def test_a_gateway_that_serves_is_verified(gateway: Gateway, side: str) -> None:
    gateway.variables.update(gateway_verify_from=side, gateway_verify_consumer="search")
    verified = succeed(gateway.play("verify"), changed=0)
    assert (
        f"http://127.0.0.1:{gateway.port}: healthy, models, chat completion, stream, embeddings, wrong key, "
        "forbidden model, unknown model" in verified.output
    )
    gateway.variables["gateway_verify_profile"] = "contract"
    kept = succeed(gateway.play("verify"), changed=0)
    assert "malformed JSON, no model, too large, chat completion, stream, stream with usage, " in kept.output
    assert "; skipped: response, stream of a response" in kept.output


def test_a_change_is_as_check_mode_said_is_reloaded_and_can_be_taken_back(gateway: Gateway) -> None:
    before = gateway.release
    gateway.variables["gateway_models"]["gpt-5"]["targets"] = [{"provider": "b", "model": "gpt-5-b"}]
    predicted = succeed(gateway.play("site", "--check", "--diff"), changed=1)
    assert gateway.release == before
    assert ask(gateway)["system_fingerprint"] == "a"
    made = succeed(gateway.play("site", "--diff"), changed=1)
    assert predicted.plan == made.plan
    assert made.plan == [
        "  ~ gateway_models.gpt-5",
        "      targets[0].model: gpt-5 -> gpt-5-b",
        "      targets[0].provider: a -> b",
        "Plan: 0 to add, 1 to change, 0 to remove",
    ]
    assert "the process reads its files again" in made.output
    assert ask(gateway)["system_fingerprint"] == "b"

    back = succeed(gateway.play("rollback"), changed=1)
    assert f"{before} is active" in back.output
    assert gateway.release == before
    assert ask(gateway)["system_fingerprint"] == "a"
    succeed(gateway.play("rollback", "-e", f"gateway_digest={before}"), changed=0)


def test_a_release_that_is_not_there_is_not_gone_back_to(gateway: Gateway) -> None:
    before = gateway.release
    refused = gateway.play("rollback", "-e", "gateway_digest=0123456789abcdef")
    assert refused.status != 0
    assert "release 0123456789abcdef is not on this host" in refused.output
    assert "is active" not in refused.output
    assert gateway.release == before


def test_what_a_process_cannot_read_again_is_changed_by_another_process(gateway: Gateway) -> None:
    gateway.variables["gateway_size"] = {"concurrency": 2}
    made = succeed(gateway.play("site", "--diff"), changed=1)
    assert "      concurrency: 1 -> 2" in made.plan
    assert "another process takes over" in made.output
    assert ask(gateway)["status"] == 200
    succeed(gateway.play("rollback"), changed=1)


def test_a_rotated_key_is_delivered_and_nothing_else_changes(gateway: Gateway) -> None:
    release = gateway.release
    gateway.bao.put("kv/consumers/batch", current=f"sk-{CANARY}-rotated")
    predicted = succeed(gateway.play("site", "--check", "--diff"), changed=1)
    made = succeed(gateway.play("site", "--diff"), changed=1)
    assert made.plan == predicted.plan
    assert made.plan == ["  ~ key of consumer batch (not shown)", "Plan: 0 to add, 0 to change, 0 to remove"]
    assert gateway.release == release
    assert ask(gateway, "gpt-5-mini", f"sk-{CANARY}-rotated")["status"] == 200
    assert ask(gateway, "gpt-5-mini", f"sk-{CANARY}-batch")["status"] == 401
    succeed(gateway.play("site"), changed=0)


def test_a_provider_that_refuses_fails_the_verification_with_its_words(gateway: Gateway) -> None:
    gateway.bao.put("kv/providers/a", api_key=f"sk-{CANARY}-wrong")
    gateway.variables["gateway_models"]["gpt-5"]["fallbacks"] = []
    succeed(gateway.play("site", "-e", "gateway_rollout_verify=off"), changed=1)
    gateway.variables["gateway_verify_consumer"] = "search"
    verified = gateway.play("verify")
    gateway.bao.put("kv/providers/a", api_key=f"sk-{CANARY}-a")
    del gateway.variables["gateway_models"]["gpt-5"]["fallbacks"]
    succeed(gateway.play("site"), changed=1)
    assert verified.status != 0
    assert f"2 of 8 checks of http://127.0.0.1:{gateway.port} failed:" in verified.output
    assert "chat completion, stream: status 502, expected 200: The model's provider refused" in verified.output
    assert CANARY not in verified.output


def test_no_secret_shows_however_much_is_shown(gateway: Gateway) -> None:
    gateway.variables["gateway_consumers"]["search"]["limits"]["requests_per_minute"] = 99999
    for name in ("site", "verify", "rollback"):
        ran = gateway.play(name, "-vvv", "--diff", ANSIBLE_INJECT_INVOCATION="1", ANSIBLE_DISPLAY_ARGS_TO_STDOUT="1")
        assert ran.status == 0, ran.output
        assert CANARY not in ran.output.replace(gateway.bao.address, "")
    assert CANARY not in gateway.log.read_text()
    assert all(CANARY.encode() not in content for content in gateway.snapshot().values())


def wrong(gateway: Gateway, playbook: str = "site") -> str:
    """Run a playbook that has to fail and to change nothing; return what it printed."""
    before = gateway.snapshot()
    ran = gateway.play(playbook)
    assert ran.status != 0, ran.output
    assert ran.recap["changed"] == 0
    assert ran.recap["failed"] == 1
    assert gateway.snapshot() == before
    assert "Traceback" not in ran.output
    assert CANARY not in ran.output
    return ran.output


def test_everything_that_is_wrong_with_a_specification_is_said_at_once(gateway: Gateway) -> None:
    gateway.variables["gateway_models"]["gpt-5"]["targets"] = [{"provider": "openay", "model": "x"}]
    gateway.variables["gateway_models"]["empty"] = {"targets": []}
    gateway.variables["gateway_listeners"]["local"]["port"] = 0
    output = wrong(gateway)
    assert "the specification has 3 errors; nothing was changed" in output
    assert "gateway_models.gpt-5.targets[0].provider: no provider named 'openay'" in output
    assert "gateway_models.empty.targets: needs at least one target" in output
    assert "PLAY [See which gateways" not in output


def test_one_host_with_a_wrong_specification_stops_all(gateway: Gateway) -> None:
    hosts = gateway.directory / "inventory" / "hosts.yml"
    right = hosts.read_text()
    hosts.write_text('gateways: {hosts: {gw1: , gw2: {gateway_size: "enormous"}}}\n')
    before = gateway.snapshot()
    try:
        ran = gateway.play("site")
    finally:
        hosts.write_text(right)
    assert ran.status != 0
    assert "gateway_size: 'enormous' is not one of small, medium, large" in ran.output
    assert "PLAY [See which gateways" not in ran.output
    assert gateway.snapshot() == before


def test_a_gateway_that_is_to_go_needs_no_right_specification(gateway: Gateway) -> None:
    gateway.variables["gateway_size"] = "enormous"
    gateway.variables["gateway_models"]["gpt-5"]["targets"] = []
    before = gateway.snapshot()
    ran = succeed(gateway.play("site", "--check", "-e", "gateway_state=absent"), changed=1)
    assert "Rollout of 1 gateway: 1 would change" in ran.output
    assert gateway.snapshot() == before


def test_every_secret_that_is_missing_is_named(gateway: Gateway) -> None:
    gateway.variables["gateway_providers"]["a"]["api_key"] = "vault://kv/providers/missing#api_key"
    gateway.variables["gateway_consumers"]["batch"]["api_keys"] = ["vault://kv/consumers/batch#missing"]
    output = wrong(gateway)
    assert "secrets cannot be had; nothing was changed" in output
    assert f"vault://kv/providers/missing#api_key: Vault at {gateway.bao.address} has no secret" in output
    assert "vault://kv/consumers/batch#missing: " in output


def test_a_store_that_is_down_is_named(gateway: Gateway) -> None:
    gateway.variables["gateway_vault_addr"] = "http://127.0.0.1:1"
    assert "Vault at http://127.0.0.1:1 cannot be reached: Connection refused" in wrong(gateway)


def test_one_run_at_a_time(gateway: Gateway) -> None:
    with (gateway.root / "config" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is applying to this host" in wrong(gateway)


def test_an_address_in_use_is_found_before_anything_changes(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway.variables["gateway_listeners"]["local"]["port"] = port
        assert f"127.0.0.1:{port} is in use by" in wrong(gateway)
    assert ask(gateway)["status"] == 200


def test_another_version_of_envoy_than_asked_for(gateway: Gateway) -> None:
    gateway.variables["envoy_version"] = "1.39.0"
    assert "is Envoy 1.40.0, expected 1.39.0" in wrong(gateway)


def test_an_artifact_that_is_not_the_pinned_one(gateway: Gateway) -> None:
    artifact = gateway.directory / "artifact"
    artifact.write_text("not Envoy")
    gateway.variables.update(
        envoy_method="url",
        envoy_urls=dict.fromkeys(("x86_64", "aarch64"), artifact.as_uri()),
        envoy_checksums=dict.fromkeys(("x86_64", "aarch64"), "0" * 64),
        envoy_root=str(gateway.directory / "opt"),
        envoy_cache_dir=str(gateway.directory / "cache"),
    )
    del gateway.variables["envoy_path"]
    output = wrong(gateway)
    assert "expected SHA-256 " + "0" * 64 + ", got " in output
    assert not (gateway.directory / "opt").exists()


def test_nothing_to_go_back_to() -> None:
    with a_gateway() as gateway:
        ran = gateway.play("rollback")
    assert ran.status != 0
    assert "there is no release before the active one on this host to go back to" in ran.output

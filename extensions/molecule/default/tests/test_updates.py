"""Changes of a gateway that serves: what they cost its clients, and what happens when they go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import client
import pytest
import scenario
from client import ask, chat
from hosts import Gateway
from scenario import Site
from store import Store

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile, encode_files

SEARCH = scenario.stored("consumers/search", "current")


@pytest.fixture
def load() -> client.Load:
    return client.Load("gw1", SEARCH, ["gpt-5", "small"])


@pytest.fixture
def unharmed(gw1: Gateway, load: client.Load) -> Iterator[None]:
    """A failed change: the same process serves the same release, and no client noticed."""
    before = (gw1.pid(), gw1.release())
    with load:
        yield
    assert load.failures == []
    assert load.answered > 40
    assert (gw1.pid(), gw1.release()) == before
    assert gw1.out("find /etc/openai-gateway -name '.stage*' -o -name '.trash*' -o -name '*.[0-9]'") == ""


@pytest.fixture
def more_models(spec: dict[str, Any]) -> dict[str, Any]:
    """The models and one more."""
    return {**spec["gateway_models"], "new": {"targets": [{"provider": "b", "model": "qwen3-4b"}]}}


def test_check_mode_predicts_and_writes_nothing(site: Site, more_models: dict[str, Any], gw1: Gateway) -> None:
    before = gw1.snapshot()
    predicted = site("--check", "--diff", gateway_models=more_models)
    assert predicted.rc == 0, predicted.output
    assert gw1.snapshot() ^ before == set()
    assert "gateway_models.new" in predicted.output
    applied = site.changes("--diff", gateway_models=more_models)
    # What is changed is also verified, which check mode cannot do: more tasks are ok.
    assert predicted.recap["gw1"]["changed"] == applied["changed"] > 0
    assert site.changes(gateway_models=more_models)["changed"] == 0


def test_reload_loses_no_request(
    site: Site, spec: dict[str, Any], more_models: dict[str, Any], gw1: Gateway, load: client.Load
) -> None:
    pid = gw1.pid()
    models = more_models
    models["gpt-5"] = {"targets": [{"provider": "a", "model": "gpt-5-mini"}, {"provider": "b", "model": "qwen3-32b"}]}
    del models["text-embedding-3-small"]
    consumers = spec["gateway_consumers"]
    consumers["batch-team"]["models"] = ["small"]
    with load:
        site.changes(gateway_models=models, gateway_consumers=consumers)
        assert ask("gw1", SEARCH, chat("new")).status == 200
        site.changes()
        assert ask("gw1", SEARCH, chat("new")).status == 404
    assert load.failures == []
    assert load.answered > 100
    assert load.streamed > 1
    assert gw1.pid() == pid


def test_replacing_the_process_loses_no_request(site: Site, gw1: Gateway, load: client.Load) -> None:
    before = (gw1.instance(), gw1.pid())
    with load:
        site.changes(gateway_size="medium")
        assert gw1.instance() != before[0]
        unit = f"openai-gateway@{gw1.instance()}"
        assert gw1.out(f"systemctl show --property MemoryMax --value {unit}") == str(2 * 1024**3)
        assert gw1.pid() != before[1]
        site.changes()
        assert gw1.instance() == before[0]
    assert load.failures == []
    assert load.answered > 100
    assert load.streamed > 1


def test_missing_certificate_file(site: Site, spec: dict[str, Any], unharmed: None) -> None:
    listeners = spec["gateway_listeners"]
    listeners["public"]["tls"]["certificate"] = "/etc/ssl/none.pem"
    listeners["public"]["tls"]["private_key"] = "/etc/ssl/none.key"
    assert "/etc/ssl/none." in site.refused(gateway_listeners=listeners)


def test_key_of_another_certificate(site: Site, spec: dict[str, Any], unharmed: None) -> None:
    secrets = scenario.DIRECTORY / "secrets"
    pair = {"certificate": (secrets / "gateway.pem").read_text(), "private_key": (secrets / "gw1.key").read_text()}
    Store().put("tls/mismatch", **pair)
    listeners = spec["gateway_listeners"]
    listeners["public"]["tls"] = {name: f"vault://kv/tls/mismatch#{name}" for name in pair}
    output = site.refused(gateway_listeners=listeners)
    assert "KEY_VALUES_MISMATCH" in output or "do not belong together" in output


@pytest.mark.parametrize(
    ("validate", "reason"), [(True, "refuses this release, nothing was switched"), (False, "serves as before")]
)
def test_release_that_envoy_refuses(gw1: Gateway, validate: bool, reason: str, unharmed: None) -> None:
    """Broken by hand. Without the check beforehand it is the running process that refuses it."""
    found = gw1.files_of_release()
    old = json.loads(found["envoy/lds.json"][1])["version_info"].encode()
    found = {path: (mode, content.replace(old, b"0123456789abcdef")) for path, (mode, content) in found.items()}
    mode, listeners = found["envoy/lds.json"]
    found["envoy/lds.json"] = (mode, listeners.replace(b'"address"', b'"adress"', 1))
    bundle = Bundle(tuple(BundleFile(path, content, mode) for path, (mode, content) in sorted(found.items())), ())
    variables = {"test_digest": bundle.digest, "test_bundle": encode_files(bundle.files), "test_validate": validate}
    played = scenario.play(str(scenario.SCENARIO / "release.yml"), "--limit", "gw1", variables=variables)
    assert played.rc == 2, played.output
    output = " ".join(played.output.split())
    assert "Traceback" not in output
    assert reason in output
    assert "adress" in output, "the reason, in Envoy's words"


def test_address_in_use(site: Site, spec: dict[str, Any], gw1: Gateway, unharmed: None) -> None:
    gw1.out("systemd-run --quiet --unit occupant python3 -m http.server --bind 127.0.0.1 8081")
    listeners = {**spec["gateway_listeners"], "second": {"address": "127.0.0.1", "port": 8081}}
    try:
        gw1.out("for i in $(seq 50); do ss -Hltn sport = 8081 | grep -q . && exit 0; sleep 0.1; done; exit 1")
        output = site.refused(gateway_listeners=listeners)
    finally:
        gw1.out("systemctl stop occupant")
    assert "127.0.0.1:8081" in output
    assert "in use" in output


def test_policy_stops_the_run_before_any_host(site: Site, spec: dict[str, Any], unharmed: None) -> None:
    listeners = {**spec["gateway_listeners"], "plain": {"address": "0.0.0.0", "port": 80}}
    output = site.refused(gateway_listeners=listeners)
    assert "gateway_listeners.plain" in output
    assert "plain_http_outside_loopback" in output


def test_second_run_at_the_same_time(site: Site, more_models: dict[str, Any], gw1: Gateway, unharmed: None) -> None:
    gw1.out("systemd-run --quiet --unit other-run flock /etc/openai-gateway/.lock sleep 60")
    try:
        output = site.refused(gateway_models=more_models)
    finally:
        gw1.out("systemctl stop other-run")
    assert "another run is applying to this host" in output


def test_rollback(site: Site, more_models: dict[str, Any], gw1: Gateway, load: client.Load) -> None:
    before = gw1.release()
    with load:
        site.changes(gateway_models=more_models)
        assert gw1.release() != before
        rolled_back = scenario.play("gatewayops.openai.rollback", "--limit", "gw1")
    assert rolled_back.rc == 0, rolled_back.output
    assert gw1.release() == before
    assert load.failures == []
    assert ask("gw1", SEARCH, chat("new")).status == 404


def test_killed_process_comes_back(gw1: Gateway) -> None:
    killed, unit = gw1.pid(), f"openai-gateway@{gw1.instance()}"
    gw1.out(f"kill -KILL {killed}")
    back = f"test $(systemctl show -P MainPID {unit}) -gt 1 && test $(systemctl show -P MainPID {unit}) != {killed}"
    back += f" && systemctl -q is-active {unit}"
    gw1.out(f"for i in $(seq 100); do {back} && exit 0; sleep 0.1; done; exit 1")
    assert ask("gw1", SEARCH, chat("gpt-5")).status == 200


def test_killed_run_leaves_the_old_release_and_the_next_one_finishes(
    site: Site, more_models: dict[str, Any], gw1: Gateway, load: client.Load
) -> None:
    with load:
        process = scenario.start(scenario.SITE, "--limit", "gw1", variables={"gateway_models": more_models})
        watch = "for i in $(seq 200); do ls /etc/openai-gateway/releases/.stage* 2>/dev/null && break; sleep 0.02; done"
        gw1.out(watch)
        gw1.run("kill -KILL $(cut -d ' ' -f 1 /etc/openai-gateway/.lock)")
        process.kill()
        process.communicate()
        site.changes(gateway_models=more_models)
    assert ask("gw1", SEARCH, chat("new")).status == 200
    assert load.failures == []
    assert gw1.out("find /etc/openai-gateway -name '.stage*' -o -name '.trash*'") == ""


def test_what_others_changed_on_the_host_is_put_right(site: Site, gw1: Gateway, load: client.Load) -> None:
    before = (gw1.pid(), gw1.release())
    unit = "/etc/systemd/system/openai-gateway@.service"
    as_it_was = gw1.out(f"cat {unit}")
    with load:
        gw1.out(f"sed -i /NoNewPrivileges/d {unit}; systemctl daemon-reload")
        gw1.out("rm /run/openai-gateway/secrets/provider-b-*.json")
        assert site("--check").recap["gw1"]["changed"] == 1
        assert site.changes()["changed"] == 1
    assert gw1.out(f"cat {unit}") == as_it_was
    assert gw1.out("test -s /run/openai-gateway/secrets/provider-b-*.json") == ""
    assert load.failures == []
    assert gw1.release() == before[1]


def test_memory_that_is_lost(site: Site, gw1: Gateway) -> None:
    """The service brings the secrets back from the disk when it starts: a run finds nothing to do."""
    unit, pid = f"openai-gateway@{gw1.instance()}", gw1.pid()
    gw1.out(f"systemctl stop --no-block {unit}; kill -KILL {pid}; systemctl stop {unit}")
    gw1.out(f"rm -r /run/openai-gateway; systemd-tmpfiles --create; systemctl start {unit}")
    assert site.changes()["changed"] == 0
    assert ask("gw1", SEARCH, chat("gpt-5")).status == 200


@pytest.mark.parametrize("side", ["controller", "host"])
def test_verify_playbook(side: str) -> None:
    variables = {"gateway_verify_from": side}
    if side == "controller":
        variables["gateway_verify_url"] = "https://{{ _test_addresses[inventory_hostname] }}"
        variables["gateway_verify_ca_file"] = str(scenario.CA_FILE)
    verified = scenario.play("gatewayops.openai.verify", variables=variables)
    assert verified.rc == 0, verified.output

"""The playbook `plan` as a user runs it: no store, no change, and what `site` does afterwards."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from integration.site_gateway import CANARY, Gateway, a_gateway, restored


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    """A gateway that serves, and whose plan was made before it did."""
    with a_gateway() as gateway:
        before = gateway.directory / "first.json"
        ran = gateway.play("plan", "-e", f"gateway_plan={before}", **NO_STORE)
        assert ran.status == 0, ran.output
        assert ran.recap["changed"] == 0
        assert not gateway.root.exists()
        done = gateway.play("site")
        assert done.status == 0, done.output
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Iterator[Gateway]:
    """The gateway; what a test changes in its variables is taken back."""
    with restored(running):
        yield running


NO_STORE = {"VAULT_ADDR": "http://127.0.0.1:1"}


def plan_of(gateway: Gateway, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What `plan` prints, without a store to ask, and the plan that it writes."""
    gateway.variables["gateway_vault_addr"] = "http://127.0.0.1:1"
    ran = gateway.play("plan", *arguments)
    assert ran.status == 0, ran.output
    assert ran.recap["changed"] == 0
    document: dict[str, Any] = json.loads((gateway.directory / "plan.json").read_text())
    return ran.output, document


def test_the_first_plan_is_what_the_first_run_did(gateway: Gateway) -> None:
    document = json.loads((gateway.directory / "first.json").read_text())
    host = document["gateway"]["hosts"]["gw1"]
    assert (host["active"], host["process"]) == ("", "start")
    assert host["release"] == gateway.release
    assert {change["change"]["actions"][0] for change in document["resource_changes"]} == {"create"}


def test_nothing_to_do(gateway: Gateway) -> None:
    before = gateway.snapshot()
    output, document = plan_of(gateway)
    assert "No changes. 1 host as specified\n" in output
    assert not document["applyable"]
    assert gateway.snapshot() == before


def test_a_change_is_what_check_mode_and_a_run_say(gateway: Gateway) -> None:
    store = gateway.variables["gateway_vault_addr"]
    gateway.variables["gateway_models"]["new"] = gateway.variables["gateway_models"]["gpt-5"]
    gateway.variables["gateway_consumers"]["search"]["models"] = ["new"]
    # A secret that the host does not have yet.
    gateway.variables["gateway_providers"]["b"]["api_key"] = "vault://kv/providers/a#api_key"
    gateway.variables["gateway_providers"]["b"]["base_url"] = "http://127.0.0.1:9/v1"
    before = gateway.snapshot()
    output, document = plan_of(gateway)
    assert "Plan: 1 to add, 2 to change, 0 to remove, on 1 host\n" in output
    assert gateway.snapshot() == before
    comment = (gateway.directory / "plan.md").read_text()
    assert "it may no longer use gpt-5, text-embedding-\\*" in comment
    assert "requests, with their prompts, go elsewhere" in comment
    page = (gateway.directory / "plan.html").read_text()
    assert "with their prompts, go elsewhere" in page
    assert CANARY not in (gateway.directory / "plan.json").read_text() + comment + page + output
    gateway.variables["gateway_vault_addr"] = store
    checked = gateway.play("site", "--check", "--diff")
    assert checked.plan[-1] == "Plan: 1 to add, 2 to change, 0 to remove"
    done = gateway.play("site")
    assert done.status == 0, done.output
    assert gateway.release == document["gateway"]["hosts"]["gw1"]["release"]
    assert "No changes." in plan_of(gateway)[0]


def test_what_somebody_changed_on_the_host_is_drift(gateway: Gateway) -> None:
    assert gateway.play("site").status == 0
    damaged = gateway.root / "config" / "releases" / gateway.release / "envoy" / "cds.json"
    damaged.write_bytes(damaged.read_bytes() + b"\n")
    output, document = plan_of(gateway)
    assert "changed on the host: " in output
    assert [each["index"] for each in document["resource_drift"]] == ["envoy/cds.json"]


def test_hosts_that_cannot_be_reached_are_named(gateway: Gateway) -> None:
    hosts = "gateways: {hosts: {gw1: {ansible_connection: local}, gw2: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n"
    inventory = gateway.directory / "inventory" / "hosts.yml"
    kept = inventory.read_text()
    gateway.variables.pop("ansible_connection")
    inventory.write_text(hosts)
    try:
        ran = gateway.play("plan")
        document = json.loads((gateway.directory / "plan.json").read_text())
        assert "nothing is known of 1 host" in ran.output
        assert document["gateway"]["unknown"]["gw2"].startswith("cannot be reached: ")
        assert document["errored"]
        assert not document["complete"]
        assert "- `gw2`: cannot be reached: " in (gateway.directory / "plan.md").read_text()
        tagged = gateway.play("plan", "--tags", "none-of-ours", "--limit", "gw1")
        assert tagged.status == 0, tagged.output
        assert "Nothing is known of 2 hosts\n" in tagged.output
        document = json.loads((gateway.directory / "plan.json").read_text())
        assert document["gateway"]["unknown"] == {"gw1": "left out by --tags", "gw2": "left out by --limit"}
        assert (document["errored"], document["complete"], document["applyable"]) == (False, False, False)
        drift = gateway.play("drift", "--limit", "gw2")
        assert drift.status == 2
        assert "nothing is known of gw2" in drift.output
        limited = gateway.play("plan", "--limit", "gw1")
        assert limited.status == 0, limited.output
        document = json.loads((gateway.directory / "plan.json").read_text())
        assert document["gateway"]["unknown"] == {"gw2": "left out by --limit"}
    finally:
        inventory.write_text(kept)


def test_a_wrong_spec_is_told_and_fails(gateway: Gateway) -> None:
    gateway.variables["gateway_models"]["gpt-5"]["targets"][0]["provider"] = "absent"
    ran = gateway.play("plan")
    assert ran.status == 2
    assert "gateway_models.gpt-5.targets[0].provider: no provider named 'absent'" in ran.output


def test_what_is_protected_or_too_much_is_not_removed(gateway: Gateway) -> None:
    models = gateway.variables["gateway_models"]
    models["gpt-5-mini"]["protected"] = True
    assert gateway.play("site").status == 0
    before = gateway.snapshot()
    kept = models.pop("gpt-5-mini")
    gateway.variables["gateway_consumers"]["batch"]["models"] = ["gpt-5"]
    for playbook in ("plan", "site"):
        refused = gateway.play(playbook)
        assert refused.status == 2
        assert "gateway_models.gpt-5-mini is protected; take `protected` from it" in refused.output
    models["gpt-5-mini"] = {**kept, "protected": False}
    assert gateway.play("site").status == 0
    del models["gpt-5-mini"]
    refused = gateway.play("site", "-e", "gateway_removals_max=0")
    assert "1 resources would be removed, and gateway_removals_max is 0" in refused.output
    assert gateway.snapshot() != before
    assert gateway.play("site", "-e", "gateway_removals_max=1").status == 0


def test_a_consumer_that_is_removed_while_it_asks_is_named(gateway: Gateway) -> None:
    assert gateway.play("site").status == 0
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
        b'{"model": "gpt-5-mini", "messages": []}',
        {"authorization": f"Bearer sk-{CANARY}-batch", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    del gateway.variables["gateway_consumers"]["batch"]
    deadline = time.monotonic() + 15
    output, document = plan_of(gateway)
    # Envoy writes its log every few seconds.
    # The run may have asked as this consumer as well, to verify.
    sent = re.compile(r"gateway_consumers\.batch is removed and sent (\d+) requests? within the last hour")
    while not (found := sent.search(" ".join(output.split()))):
        assert time.monotonic() < deadline, output
        output, document = plan_of(gateway)
    count = int(found.group(1))
    assert document["gateway"]["hosts"]["gw1"]["in_use"] == {"batch": count}
    assert f"it sent {count} request" in (gateway.directory / "plan.md").read_text()

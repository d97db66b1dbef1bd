"""The playbook `drift` as a user runs it: what differs in which way, and that it can be brought back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from integration.site_gateway import CANARY, Gateway, Ran, a_gateway, restored


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with a_gateway() as gateway:
        done = gateway.play("site")
        assert done.status == 0, done.output
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Iterator[Gateway]:
    with restored(running):
        yield running
    running.bao.put("kv/consumers/batch", current=f"sk-{CANARY}-batch")
    assert running.play("site").status == 0


def drift(gateway: Gateway, *arguments: str) -> tuple[Ran, dict[str, Any]]:
    """What `drift` prints and what it says of the one host."""
    files = ("-e", "gateway_drift_file=drift.json", "-e", "gateway_drift_metrics=drift.prom")
    ran = gateway.play("drift", *files, *arguments)
    document = json.loads((gateway.directory / "drift.json").read_text())
    assert document["drift"] == document["hosts"]["gw1"]["drift"]
    return ran, document["hosts"]["gw1"]


def test_no_drift(gateway: Gateway) -> None:
    ran, host = drift(gateway)
    assert ran.status == 0, ran.output
    assert "No changes. 1 host as specified" in ran.output
    assert host["secrets"] == []
    metrics = (gateway.directory / "drift.prom").read_text().splitlines()
    assert 'gateway_drift{environment="inventory",host="gw1"} 0' in metrics
    assert 'gateway_drift_known{environment="inventory",host="gw1"} 1' in metrics


def test_every_class_of_it_and_its_repair(gateway: Gateway) -> None:
    models = gateway.variables["gateway_models"]
    models["new"] = models["gpt-5"]
    del models["text-embedding-3-small"]
    gateway.variables["gateway_consumers"]["search"]["models"] = ["gpt-5"]
    gateway.bao.put("kv/consumers/batch", current=f"sk-{CANARY}-other")
    damaged = gateway.root / "config" / "current" / "envoy" / "cds.json"
    damaged.write_bytes(damaged.read_bytes() + b" ")
    before = gateway.snapshot()
    ran, host = drift(gateway)
    assert ran.status == 2
    assert "not as specified: gw1" in ran.output
    assert "Drift: 1 to add, 1 to change, 1 to remove, on 1 host\n" in ran.output
    assert gateway.snapshot() == before
    assert host["only_in_git"] == [{"address": "gateway_models.new"}]
    assert host["only_live"] == [{"address": "gateway_models.text-embedding-3-small"}]
    assert [(each["address"], [field["path"] for field in each["fields"]]) for each in host["different"]] == [
        ("gateway_consumers.search", ["models"])
    ]
    assert host["files"] == ["envoy/cds.json (content)"]
    assert host["secrets"] == ["key of consumer batch"]
    metrics = (gateway.directory / "drift.prom").read_text().splitlines()
    assert 'gateway_drift_resources{environment="inventory",host="gw1",class="only_live"} 1' in metrics
    assert 'gateway_drift_secrets{environment="inventory",host="gw1"} 1' in metrics
    assert CANARY not in ran.output + json.dumps(host)
    repaired = gateway.play("drift", "-e", "gateway_drift_repair=true")
    assert repaired.status == 0, repaired.output
    assert drift(gateway)[0].status == 0


def test_drift_can_be_told_without_a_failure(gateway: Gateway) -> None:
    gateway.variables["gateway_size"] = "medium"
    ran, host = drift(gateway, "-e", "gateway_drift_fail=false")
    assert ran.status == 0, ran.output
    assert host["drift"]
    assert host["process"] == "replace"

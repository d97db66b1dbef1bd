"""The packet filter of a gateway host, and the settings of its kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scenario
from hosts import Gateway, Host
from scenario import Site

LISTED = "nft list table inet openai_gateway"


@pytest.fixture
def other_service(gw1: Gateway) -> Iterator[int]:
    """A port of the host that has nothing to do with the gateway."""
    gw1.out("systemd-run --quiet --unit other-service --collect python3 -m http.server 7777")
    gw1.out("until ss -Hltn sport = 7777 | grep -q 7777; do sleep 0.1; done")
    yield 7777
    gw1.out("systemctl stop other-service")


def reached(url: str) -> bool:
    """Whether another host gets an answer."""
    return Host("upstream1").run(f"curl --silent --insecure --max-time 2 --output /dev/null {url}").returncode == 0


def test_others_reach_the_listeners_and_nothing_else(gw1: Gateway, other_service: int) -> None:
    address = scenario.addresses()["gw1"]
    assert "policy drop" in gw1.out(LISTED)
    gw1.out(f"curl --silent --fail --output /dev/null http://127.0.0.1:{other_service}")
    assert reached(f"https://{address}/healthz")
    assert not reached(f"http://{address}:{other_service}")


def test_what_others_changed_is_brought_back(gw1: Gateway, site: Site) -> None:
    gw1.out("nft flush ruleset && sysctl --quiet net.core.somaxconn=128")
    predicted, done = site("--check"), site("-v")
    for played in (predicted, done):
        assert "nftables (in the kernel), net.core.somaxconn (in the kernel)" in " ".join(played.output.split())
    assert predicted.recap["gw1"]["changed"] == done.recap["gw1"]["changed"] == 1
    assert "policy drop" in gw1.out(LISTED)
    assert gw1.out("cat /proc/sys/net/core/somaxconn") == "8192"
    assert site.changes()["changed"] == 0


def test_what_the_kernel_does_not_have_is_told_before_anything_changes(gw1: Gateway, site: Site) -> None:
    release = gw1.release()
    said = site.refused(gateway_sysctls={"net.core.somaxcon": "1"})
    assert "the kernel has no setting net.core.somaxcon, or it cannot be set here" in said
    assert gw1.release() == release


def test_a_filter_that_shuts_the_run_out_is_refused(site: Site) -> None:
    said = site.refused(gateway_nftables={"others": "drop", "ports": [2222]})
    assert "gateway_nftables.ports: does not have 22, the port that this run has connected to" in said


def test_rules_go_with_the_variable(gw1: Gateway, site: Site) -> None:
    site.changes(gateway_nftables=None)
    assert gw1.run(LISTED).returncode != 0
    assert gw1.run("ls /etc/nftables.d/openai-gateway.nft").returncode != 0
    site.restore()
    assert "policy drop" in gw1.out(LISTED)

"""Everything that operators do to gateways behind a load balancer, and no client notices any of it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scenario
from balancer import balancer
from contract.certificates import Authority
from hosts import Gateway
from load.driver import Driver

UPSTREAM = Path(__file__).resolve().parents[4] / "tests" / "upstream" / "upstream.py"
OLD_ENVOY = {
    "envoy_version": "1.39.3",
    "envoy_checksums": {"x86_64": "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6"},
}
NAMES = ("gw1", "gw2")
SERVER = "gateway.example.com"
#: Requests a second, and how long a stream takes: some are open whatever happens.
RATE, STREAM_SECONDS = 120.0, 6.0


def random_key() -> str:
    return f"key-{secrets.token_urlsafe(24)}"


class World:
    """The gateways under load. Their secrets are in the environment, where `rotate` finds what has changed."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "ca")
        self.provider_keys = [random_key(), random_key()]
        self.consumer_keys = [random_key(), random_key()]
        self.secret(PROVIDER_KEY=self.provider_keys[0], CONSUMER_KEY=self.consumer_keys[0], CONSUMER_KEY_BEFORE="gone")
        self.certify("first")
        self.load: Driver | None = None

    def secret(self, **values: str) -> None:
        os.environ.update({f"TEST_{name}": value for name, value in values.items()})

    def certify(self, name: str) -> None:
        certificate, key = self.authority.sign(name, SERVER)
        self.secret(CERTIFICATE=certificate.read_text(), CERTIFICATE_KEY=key.read_text())

    def start_provider(self) -> None:
        host = Gateway("gw1")
        host.out("cat >/usr/local/bin/upstream", stdin=UPSTREAM.read_text())
        keys = " ".join(f"--api-key {key}" for key in self.provider_keys)
        serve = f"python3 /usr/local/bin/upstream --address 0.0.0.0 --name a --port 9080 {keys}"
        host.out(f"systemctl stop upstream || true; systemd-run --quiet --unit upstream {serve}")

    def play(self, playbook: str, *options: str, **variables: Any) -> str:
        """A playbook that has to succeed, and that costs nobody a request: what it printed."""
        process = scenario.start(playbook, *options, variables=variables)
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 0, output
        assert not [key for key in (*self.provider_keys, *self.consumer_keys) if key in output]
        self.see_nothing_lost()
        return output

    def see_nothing_lost(self, **changes: Any) -> None:
        if self.load:
            counts = self.load.change(**changes)
            assert counts["lost"] == 0, json.dumps(counts, indent=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    made = World(folder)
    made.start_provider()
    made.play(scenario.SITE, **OLD_ENVOY)
    addresses = scenario.addresses()
    with balancer(folder, [addresses[name] for name in NAMES]) as port:
        where = {"tls_port": port, "ca": str(made.authority.certificate), "server_name": SERVER}
        asked = {"key": made.consumer_keys[0], "models": ["gpt-5"], "stream_model": "gpt-5"}
        with Driver(**where, **asked, rate=RATE, stream_seconds=STREAM_SECONDS, streams=2, clients=4) as load:
            made.load = load
            yield made


def processes() -> list[tuple[str, str]]:
    """The instance that serves on each host, and its process."""
    return [(host.instance(), host.pid()) for host in map(Gateway, NAMES)]


def programs() -> list[str]:
    return [host.out(f"ps -o args= -p {host.pid()}").split()[0] for host in map(Gateway, NAMES)]


def other_instances(before: list[tuple[str, str]]) -> bool:
    return all(old[0] != new[0] for old, new in zip(before, processes(), strict=True))


def test_another_version_of_envoy(world: World) -> None:
    assert programs() == ["/opt/envoy/1.39.3/envoy"] * 2
    before = processes()
    assert "replace the process: " in world.play(scenario.SITE, "--diff")
    assert other_instances(before)
    assert programs() == ["/opt/envoy/1.40.0/envoy"] * 2


def test_keys_and_a_certificate(world: World) -> None:
    before, (old, new) = processes(), world.consumer_keys
    world.secret(PROVIDER_KEY=world.provider_keys[1], CONSUMER_KEY=new, CONSUMER_KEY_BEFORE=old)
    world.certify("second")
    world.play("gatewayops.openai.rotate")
    world.see_nothing_lost(key=new)
    assert processes() == before


def test_another_size_and_back(world: World) -> None:
    before = processes()
    assert "replace the process: " in world.play(scenario.SITE, "--diff", gateway_size="large")
    assert other_instances(before)
    between = processes()
    world.play("gatewayops.openai.rollback")
    assert other_instances(between)


def test_restart_of_one_host_after_the_other(world: World) -> None:
    before = processes()
    world.play("gatewayops.openai.restart", gateway_serial=1, gateway_restart_pause=3)
    after = processes()
    assert [instance for instance, _pid in after] == [instance for instance, _pid in before]
    assert not set(after) & set(before)


def test_reboot_of_a_host(world: World) -> None:
    host = Gateway("gw2")
    began, before = host.out("cut -d' ' -f22 /proc/1/stat"), host.instance()
    host.restart(seconds=90)
    assert host.out("cut -d' ' -f22 /proc/1/stat") != began
    assert host.instance() == before
    world.see_nothing_lost()


def test_no_request_was_lost(world: World, record_property: Callable[[str, object], None]) -> None:
    assert world.load
    world.load.end()
    report = world.load.report
    record_property("figure requests_sent", f"{report['requests']} requests")
    record_property("figure requests_lost", f"{report['lost']} requests")
    record_property("figure streams", f"{report['streams']} streams")
    assert report["lost"] == 0, json.dumps(report, indent=1)
    assert report["requests"] > 3000
    assert report["streams"] > 20

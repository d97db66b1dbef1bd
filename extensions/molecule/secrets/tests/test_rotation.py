"""Keys and a certificate are rotated while clients send ten thousand requests: none of them may fail."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import client
import make_secrets
import pytest
import scenario
from client import Upstream, ask, chat
from hosts import Gateway, Host
from store import Store

ROTATE = "gatewayops.openai.rotate"
REQUESTS = 10_000
SECONDS = 240.0
CONSUMER = "consumers/search"
OLD = scenario.stored(CONSUMER, "current")
PREVIOUS = scenario.stored(CONSUMER, "previous")
NEW = f"gw-next-{PREVIOUS[3:]}"
PROVIDER_KEYS = {name: f"sk-next-{scenario.stored(f'providers/{name}', 'api_key')[3:]}" for name in ("a", "b")}


@pytest.fixture
def store() -> Iterator[Store]:
    """The store, where everything is put right again, and the host with it."""
    made = Store()
    yield made
    kept = json.loads((scenario.DIRECTORY / "secrets" / "kv.json").read_text())
    for path in (CONSUMER, "tls/gateway", *(f"providers/{name}" for name in PROVIDER_KEYS)):
        made.put(path, **kept[path])
    rotate()


@pytest.fixture
def providers() -> Iterator[Host]:
    """The providers admit their keys and the ones that come next, as they do while a key is rotated there."""
    upstream1 = Host("upstream1")
    for name, key in PROVIDER_KEYS.items():
        upstream1.out(f"umask 077; cat >/etc/upstream/{name}-next.key", stdin=f"{key}\n")
        upstream1.out(f"cp /etc/upstream/{name}.env /etc/upstream/{name}.env.before")
        upstream1.out(f"sed -i 's|^OPTIONS=|&--api-key-file /etc/upstream/{name}-next.key |' /etc/upstream/{name}.env")
        upstream1.out(f"systemctl restart upstream@{name}")
        wait_for(Upstream(name))
    yield upstream1
    for name in PROVIDER_KEYS:
        upstream1.out(f"mv /etc/upstream/{name}.env.before /etc/upstream/{name}.env; rm /etc/upstream/{name}-next.key")
        upstream1.out(f"systemctl restart upstream@{name}")
        wait_for(Upstream(name))


def wait_for(upstream: Upstream) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            upstream.reset()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return


def rotate() -> str:
    """Rotate on gw1; what was printed, in one line and without a key that this test made."""
    played = scenario.play(ROTATE, "--limit", "gw1", "--diff")
    assert played.rc == 0, played.output
    assert not [key for key in (NEW, *PROVIDER_KEYS.values()) if key in played.output]
    return " ".join(played.output.split())


def new_certificate() -> dict[str, Any]:
    """Another certificate for the same names, by the authority that clients trust."""
    directory = scenario.DIRECTORY / "secrets"
    addresses = scenario.addresses()
    gateways = [host for host in addresses if host.startswith("gw")]
    names = [f"DNS:{host}" for host in gateways] + [f"IP:{addresses[host]}" for host in gateways]
    make_secrets.certificate(directory, "gateway-next", names)
    certificate, key = (Path(directory, f"gateway-next.{end}").read_text() for end in ("pem", "key"))
    return {"certificate": certificate, "private_key": key}


def sent_to(name: str) -> set[str]:
    """The keys that the provider got with the last requests."""
    return {request["headers"]["authorization"].removeprefix("Bearer ") for request in Upstream(name).seen()}


def test_rotation_under_load_loses_no_request(
    store: Store, providers: Host, gw1: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (gw1.pid(), gw1.release())
    began = time.monotonic()
    with client.Load("gw1", OLD, ["gpt-5", "small"], rate=100_000, kept=8, new=1, streams=2) as load:
        for name, key in PROVIDER_KEYS.items():
            store.put(f"providers/{name}", api_key=key)
        assert "msg: 'providers: a, b'" in rotate()
        for name, key in PROVIDER_KEYS.items():
            Upstream(name).reset()
            ask("gw1", OLD, chat({"a": "gpt-5", "b": "small"}[name]))
            assert sent_to(name) == {key}

        store.put(CONSUMER, current=NEW, previous=OLD)
        assert "msg: 'consumers: search-team'" in rotate()
        load.key = NEW
        store.put("tls/gateway", **new_certificate())
        assert "msg: 'listeners: public'" in rotate()
        store.put(CONSUMER, current=NEW, previous=NEW)
        assert "msg: 'consumers: search-team'" in rotate()
        while load.answered + load.streamed < REQUESTS and time.monotonic() < began + SECONDS:
            time.sleep(0.2)
    sent, lost = load.answered + load.streamed + len(load.failures), len(load.failures)
    with capsys.disabled():
        print(f"\nfigure requests_sent {sent} requests\nfigure requests_lost {lost} requests")
        print(f"figure requests_rate {sent / (time.monotonic() - began):.0f} requests/s")
    assert load.failures == []
    assert sent >= REQUESTS
    assert load.streamed > 0
    assert [ask("gw1", key, chat("small")).status for key in (OLD, PREVIOUS, NEW)] == [401, 401, 200]
    assert (gw1.pid(), gw1.release()) == before, "no process and no release was replaced"

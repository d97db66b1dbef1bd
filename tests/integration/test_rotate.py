"""The playbook `rotate` as a user runs it, on a real Envoy with a real OpenBao and providers that check their keys."""

from __future__ import annotations

import copy
import json
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from integration import openbao
from integration.site_gateway import CANARY, Gateway, Ran, a_gateway

SEARCH = f"sk-{CANARY}-search"
OLD = f"sk-{CANARY}-search-old"
BATCH = f"sk-{CANARY}-batch"
NEXT = f"sk-{CANARY}-next"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[Gateway]:
    """A gateway that serves, with a TLS listener."""
    with a_gateway() as gateway:
        put_certificate(gateway, authority, "first")
        gateway.variables["gateway_listeners"]["public"] = {
            "address": "127.0.0.1",
            "port": openbao.free_port(),
            "tls": {
                "certificate": "vault://kv/tls/public#certificate",
                "private_key": "vault://kv/tls/public#private_key",
            },
        }
        first = gateway.play("site")
        assert first.status == 0, first.output
        yield gateway


@pytest.fixture
def gateway(running: Gateway, authority: Authority) -> Iterator[Gateway]:
    """The gateway that serves; variables and store are put right again, and the host with them."""
    variables = copy.deepcopy(running.variables)
    yield running
    running.variables.clear()
    running.variables.update(variables)
    for name in running.providers:
        running.bao.put(f"kv/providers/{name}", api_key=f"sk-{CANARY}-{name}")
    running.bao.put("kv/consumers/search", current=SEARCH, previous=OLD)
    running.bao.put("kv/consumers/batch", current=BATCH)
    put_certificate(running, authority, "first")
    restored = running.play("rotate")
    assert restored.status == 0, restored.output


def put_certificate(gateway: Gateway, authority: Authority, name: str, key_of: str = "") -> Path:
    """Store a certificate; its key, or that of another."""
    certificate, private_key = authority.sign(name, "127.0.0.1")
    if key_of:
        private_key = authority.sign(key_of, "127.0.0.1")[1]
    gateway.bao.put("kv/tls/public", certificate=certificate.read_text(), private_key=private_key.read_text())
    return certificate


def status(gateway: Gateway, key: str, model: str = "gpt-5") -> int:
    """What a client with this key is answered."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
        json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def key_sent(gateway: Gateway, provider: str) -> str:
    """The key that the last request to a provider had."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.providers[provider].port}/_seen", timeout=10) as answer:
        return str(json.loads(answer.read())[-1]["headers"]["authorization"]).removeprefix("Bearer ")


def subject(gateway: Gateway, authority: Authority) -> str:
    """The name in the certificate that clients are shown."""
    port = gateway.variables["gateway_listeners"]["public"]["port"]
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        certificate: Any = tls.getpeercert()
        return str(dict(pair for part in certificate["subject"] for pair in part)["commonName"])


def pids(gateway: Gateway) -> set[str]:
    """The processes of the gateway."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(gateway.root).encode() in (entry / "cmdline").read_bytes():
                found.add(entry.name)
        except OSError:
            continue
    return found


def rotate(gateway: Gateway, line: str, *arguments: str) -> Ran:
    """Rotate: check mode predicts it, nothing but secrets is touched, and a second run changes nothing."""
    release, processes, secrets = gateway.snapshot(), pids(gateway), contents(gateway)
    predicted = gateway.play("rotate", "--check", "--diff", *arguments)
    assert contents(gateway) == secrets
    done = gateway.play("rotate", "--diff", *arguments)
    changed = int("nothing changed" not in line)
    for ran in (predicted, done):
        assert ran.status == 0, ran.output
        assert (ran.recap["ok"], ran.recap["changed"]) == (2, changed), ran.output
        assert f"msg: {line}" in ran.output.replace('"', ""), ran.output
        assert CANARY not in ran.output.replace(str(gateway.bao.address), "")
    assert shown(predicted) == shown(done)
    assert (gateway.snapshot(), pids(gateway)) == (release, processes)
    again = gateway.play("rotate", *arguments)
    assert (again.status, again.recap["changed"]) == (0, 0), again.output
    return done


def shown(ran: Ran) -> list[str]:
    """The lines of the diff."""
    return [text for text in ran.output.splitlines() if text.startswith(("  ~ ", "  - "))]


def contents(gateway: Gateway) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in gateway.secrets.iterdir()}


def changed_files(gateway: Gateway, before: dict[str, bytes]) -> set[str]:
    return {name for name, content in contents(gateway).items() if before.get(name) != content}


def test_nothing_changed(gateway: Gateway) -> None:
    before = contents(gateway)
    assert shown(rotate(gateway, "nothing changed")) == []
    assert contents(gateway) == before


def test_the_key_of_a_provider(gateway: Gateway) -> None:
    before = contents(gateway)
    gateway.bao.put("kv/providers/a", api_key=f"sk-{CANARY}-a-next")
    assert shown(rotate(gateway, "providers: a")) == ["  ~ key of provider a (not shown)"]
    assert status(gateway, SEARCH) == 200
    assert key_sent(gateway, "a") == f"sk-{CANARY}-a-next"
    (name,) = changed_files(gateway, before)
    assert name.startswith("provider-a-")


def test_a_client_moves_from_the_old_key_to_the_new_one_without_a_gap(gateway: Gateway) -> None:
    assert (status(gateway, SEARCH), status(gateway, NEXT)) == (200, 401)
    gateway.bao.put("kv/consumers/search", current=NEXT, previous=SEARCH)
    assert shown(rotate(gateway, "consumers: search")) == ["  ~ key of consumer search (not shown)"]
    assert (status(gateway, SEARCH), status(gateway, NEXT)) == (200, 200), "both, while clients move"
    assert status(gateway, OLD) == 401
    gateway.bao.put("kv/consumers/search", current=NEXT, previous="")
    rotate(gateway, "consumers: search")
    assert (status(gateway, SEARCH), status(gateway, NEXT)) == (401, 200)
    assert status(gateway, BATCH, "gpt-5-mini") == 200


def test_the_certificate_of_a_listener(gateway: Gateway, authority: Authority) -> None:
    assert subject(gateway, authority) == "first"
    put_certificate(gateway, authority, "second")
    assert shown(rotate(gateway, "listeners: public")) == ["  ~ certificate of listener public (not shown)"]
    assert subject(gateway, authority) == "second"


def test_several_at_once(gateway: Gateway) -> None:
    gateway.bao.put("kv/providers/a", api_key=f"sk-{CANARY}-a-next")
    gateway.bao.put("kv/providers/b", api_key=f"sk-{CANARY}-b-next")
    gateway.bao.put("kv/consumers/batch", current=NEXT)
    rotate(gateway, "consumers: batch; providers: a, b", "-e", "gateway_serial=1")


def test_what_git_has_and_the_host_does_not_is_not_delivered(gateway: Gateway) -> None:
    """Git is ahead: a consumer more, another one less, a provider elsewhere; and a rotation goes on nevertheless."""
    release = gateway.release
    gateway.bao.put("kv/consumers/later", current=f"sk-{CANARY}-later")
    gateway.variables["gateway_consumers"]["later"] = {
        "api_keys": ["vault://kv/consumers/later#current"],
        "models": ["gpt-5"],
        "limits": {"requests_per_minute": 100000},
    }
    del gateway.variables["gateway_consumers"]["batch"]
    gateway.variables["gateway_providers"]["b"]["base_url"] = "http://127.0.0.1:1/v1"
    gateway.bao.put("kv/consumers/search", current=NEXT, previous=SEARCH)
    gateway.bao.put("kv/providers/b", api_key=f"sk-{CANARY}-b-next")
    ahead = f"(the specification is not what release {release} on the host is made of)"
    done = rotate(gateway, f"consumers: search; providers: b {ahead}")
    told = " ".join(done.output.split())
    assert "the keys of consumer batch stay as they are: the host names vault://kv/consumers/batch#current" in told
    assert gateway.release == release
    assert (status(gateway, NEXT), status(gateway, f"sk-{CANARY}-later")) == (200, 401)
    assert status(gateway, BATCH, "gpt-5-mini") == 200
    assert all(f"sk-{CANARY}-later".encode() not in content for content in contents(gateway).values())


@pytest.mark.parametrize("wrong", ["invalid", "missing", "policy"])
def test_a_change_that_cannot_be_released_stops_no_rotation(gateway: Gateway, wrong: str) -> None:
    if wrong == "invalid":
        gateway.variables["gateway_models"]["gpt-5"]["targets"] = [{"provider": "nobody", "model": "x"}]
    elif wrong == "missing":
        gateway.variables["gateway_providers"]["a"]["api_key"] = "vault://kv/providers/missing#api_key"
    else:
        gateway.variables["gateway_listeners"]["open"] = {"address": "0.0.0.0", "port": openbao.free_port()}
    gateway.bao.put("kv/consumers/batch", current=NEXT)
    rotate(
        gateway, f"consumers: batch (the specification is not what release {gateway.release} on the host is made of)"
    )
    assert status(gateway, NEXT, "gpt-5-mini") == 200


def test_a_host_has_no_secret_read_that_the_variables_do_not_lead_to(gateway: Gateway) -> None:
    """The host serves a release with another place in the store than the variables know: nothing is read from there."""
    gateway.bao.put("kv/elsewhere/batch", current=BATCH)
    keys = gateway.variables["gateway_consumers"]["batch"]["api_keys"]
    gateway.variables["gateway_consumers"]["batch"]["api_keys"] = ["vault://kv/elsewhere/batch#current"]
    assert gateway.play("site").status == 0
    gateway.variables["gateway_consumers"]["batch"]["api_keys"] = keys
    gateway.bao.put("kv/providers/a", api_key=f"sk-{CANARY}-a-next")
    began = gateway.bao.position()
    ran = gateway.play("rotate")
    assert ran.status == 0, ran.output
    assert "kv/data/elsewhere/batch" not in gateway.bao.requests(began)
    told = " ".join(ran.output.split())
    assert "the keys of consumer batch stay as they are: the host names vault://kv/elsewhere/batch#current" in told
    assert status(gateway, BATCH, "gpt-5-mini") == 200
    assert "providers: a" in ran.output
    assert gateway.play("site").status == 0


@pytest.mark.parametrize("how", ["deleted", "edited", "edited in place", "mode", "version"])
def test_what_somebody_changed_on_the_host_is_brought_back(gateway: Gateway, how: str) -> None:
    (path,) = gateway.secrets.glob("provider-a-*.json")
    before = path.read_text()
    line = "providers: a"
    if how == "deleted":
        path.unlink()
    elif how == "edited":
        other = path.with_name(".other")
        other.write_text(before.replace(f"sk-{CANARY}-a", "sk-other"))
        other.rename(path)
    elif how == "edited in place":
        path.write_text(before.replace(f"sk-{CANARY}-a", "sk-other"))
    elif how == "mode":
        path.chmod(0o640)
        line = f"files: {path.name}"
    else:
        document = json.loads(before)
        path.write_text(json.dumps({**document, "version_info": "mine"}))
        line = f"files: {path.name}"
    rotate(gateway, line)
    assert status(gateway, SEARCH) == 200
    assert key_sent(gateway, "a") == f"sk-{CANARY}-a"
    assert path.stat().st_mode & 0o777 == 0o600
    restored = json.loads(path.read_text())
    assert restored["resources"] == json.loads(before)["resources"]
    assert restored["version_info"] != "mine"


def fail(gateway: Gateway) -> str:
    """Rotate, which has to fail and to change nothing; what was printed."""
    before, release = contents(gateway), gateway.snapshot()
    ran = gateway.play("rotate", "--diff")
    assert ran.status != 0, ran.output
    assert (ran.recap["failed"], ran.recap["changed"]) == (1, 0)
    assert "Traceback" not in ran.output
    assert CANARY not in ran.output
    assert gateway.snapshot() == release
    assert {name: json.loads(text)["resources"] for name, text in contents(gateway).items()} == {
        name: json.loads(text)["resources"] for name, text in before.items()
    }
    return ran.output


def test_a_store_that_is_down_is_named_and_the_gateway_serves_on(gateway: Gateway) -> None:
    gateway.variables["gateway_vault_addr"] = "http://127.0.0.1:1"
    output = fail(gateway)
    assert "secrets cannot be had; nothing was changed" in output
    assert "Vault at http://127.0.0.1:1 cannot be reached" in output
    assert status(gateway, SEARCH) == 200


def test_every_secret_that_is_missing_has_a_line(gateway: Gateway) -> None:
    gateway.bao.call("DELETE", "kv/metadata/consumers/batch")
    gateway.bao.call("DELETE", "kv/metadata/providers/b")
    lines = fail(gateway).splitlines()
    for reference in ("vault://kv/consumers/batch#current", "vault://kv/providers/b#api_key"):
        (line,) = [each for each in lines if each.strip().startswith(f"{reference}: ")]
        assert gateway.bao.address in line
    assert status(gateway, BATCH, "gpt-5-mini") == 200


def test_what_envoy_refuses_is_put_back(gateway: Gateway, authority: Authority) -> None:
    """A certificate whose key was not rotated with it, and a consumer's key that comes along."""
    put_certificate(gateway, authority, "third", key_of="fourth")
    gateway.bao.put("kv/consumers/batch", current=NEXT)
    output = fail(gateway)
    assert "Envoy refuses a secret, those that were there are put back: " in output
    assert subject(gateway, authority) == "first"
    assert (status(gateway, BATCH, "gpt-5-mini"), status(gateway, NEXT, "gpt-5-mini")) == (200, 401)


def test_a_process_that_cannot_read_new_secrets_is_found_and_another_takes_over(gateway: Gateway) -> None:
    """Envoy watches a directory, not its name: of one that was replaced it learns nothing."""
    shutil.rmtree(gateway.secrets)
    gateway.bao.put("kv/consumers/batch", current=NEXT)
    for _again in range(2):
        ran = gateway.play("rotate")
        assert ran.status != 0, ran.output
        told = " ".join(ran.output.split())
        assert "the new secrets are on this host, but" in told
        assert "has not read them (extension_config_discovery.http_filter.consumer_keys, sds." in told
        assert "run gatewayops.openai.site, which has another process take over" in told
        assert status(gateway, BATCH, "gpt-5-mini") == 200, "the process serves on with what it has"
    made = gateway.play("site")
    assert made.status == 0, made.output
    assert "another process takes over" in made.output
    assert status(gateway, NEXT, "gpt-5-mini") == 200
    for name in ("rotate", "site"):
        assert gateway.play(name).recap["changed"] == 0


def test_no_gateway_is_a_failure_that_says_what_to_do() -> None:
    with a_gateway() as gateway:
        for arguments in ((), ("--check",)):
            ran = gateway.play("rotate", *arguments)
            assert ran.status != 0
            assert (
                "there is no gateway on this host whose secrets could be rotated: run gatewayops.openai.site first"
                in (" ".join(ran.output.split()))
            )
        assert not gateway.root.exists()
        assert not gateway.secrets.exists()

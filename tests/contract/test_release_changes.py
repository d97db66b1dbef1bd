"""A gateway under supervisor with a real Envoy: changed, refused, rolled back, replaced, and no request is lost."""

from __future__ import annotations

import copy
import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from contract.gateway_process import Provider, free_port
from contract.release_host import Load, Site, migrating_requests, occupied, site

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import ports
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import Request
from ansible_collections.gatewayops.openai.plugins.module_utils._release.run import run


def with_second_listener(gateway: Site, port: int) -> dict[str, Any]:
    """A spec with one more listener."""
    raw = gateway.spec("a", "b")
    raw["gateway_listeners"]["second"] = {"address": "127.0.0.1", "port": port}
    return raw


def with_content(request: Request, path: str, content: bytes) -> Request:
    """The request with another content of one file."""
    files = tuple(BundleFile(path, content, file.mode) if file.path == path else file for file in request.files or ())
    return replace(request, files=files, digest="")


def without_version(content: bytes) -> dict[str, Any]:
    """A secret file but for the nonce."""
    document: dict[str, Any] = json.loads(content)
    del document["version_info"]
    return document


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    with site() as made, migrating_requests():
        yield made


@pytest.fixture
def gateway(shared: Site) -> Site:
    """The gateway, serving the models a and b."""
    shared.apply(shared.spec("a", "b"))
    shared.settle()
    return shared


@pytest.fixture
def unharmed(gateway: Site) -> Iterator[Load]:
    """A change that fails: nothing is different afterwards, and no client has noticed."""
    before = (gateway.active, gateway.process())
    with Load(gateway, "a") as load:
        yield load
    assert load.failures == []
    assert load.answered > 20
    assert gateway.leftovers() == []
    assert (gateway.active, gateway.process()) == before
    assert not gateway.apply(gateway.spec("a", "b"))["changed"]


def test_second_run_changes_nothing(gateway: Site) -> None:
    before = gateway.snapshot()
    result = gateway.apply(gateway.spec("a", "b"))
    assert (result["changed"], result["process"], result["steps"]) == (False, "none", [])
    assert gateway.snapshot() == before


def test_reload_loses_no_request(gateway: Site) -> None:
    process = gateway.process()
    with Load(gateway, "a") as load:
        for _turn in range(3):
            result = gateway.apply(gateway.spec("a", "c"))
            assert result["process"] == "reload"
            assert [gateway.ask(model) for model in "abc"] == [200, 404, 200]
            gateway.apply(gateway.spec("a", "b"))
            assert [gateway.ask(model) for model in "abc"] == [200, 200, 404]
    assert load.failures == []
    assert load.answered > 200
    assert load.streamed > 1
    assert gateway.process() == process
    assert gateway.leftovers() == []


def test_changed_targets_of_the_model_that_is_asked_for(gateway: Site) -> None:
    other = gateway.spec("a", "b")
    other["gateway_models"]["a"]["targets"][0]["model"] = "z"
    with Load(gateway, "a") as load:
        for _turn in range(3):
            assert gateway.apply(other, prune_wait=10.0)["steps"]
            gateway.apply(gateway.spec("a", "b"))
    assert load.failures == []


def test_replacing_the_process_loses_no_request(gateway: Site) -> None:
    instance = gateway.process()[0]
    with Load(gateway, "a") as load:
        result = gateway.apply(gateway.spec("a", "c", gateway_size="medium"))
        assert result["process"] == "replace"
        assert gateway.process()[0] != instance
        assert gateway.ask("c") == 200
        # It waits until the first one has gone, and then takes its place.
        assert gateway.apply(gateway.spec("a", "b"))["process"] == "replace"
    assert load.failures == []
    assert load.answered > 200
    assert load.streamed > 1
    assert gateway.process()[0] == instance


def test_reload_while_the_process_that_was_replaced_drains(gateway: Site) -> None:
    port = free_port()
    with Load(gateway, "a") as load, gateway.slow_request(8):
        gateway.apply(gateway.spec("a", "b", gateway_size="medium"))
        for models in (("a", "c"), ("a", "d")):
            raw = {**with_second_listener(gateway, port), "gateway_size": "medium"}
            raw["gateway_models"] = gateway.spec(*models)["gateway_models"]
            assert gateway.apply(raw)["process"] == "reload"
            assert "draining" in gateway.info()["service"]["instances"].values()
    # This one waits until the first process has gone.
    assert gateway.apply(gateway.spec("a", "b"))["process"] == "replace"
    assert load.failures == []


def test_check_mode_predicts_and_writes_nothing(gateway: Site) -> None:
    for raw in (gateway.spec("a", "b"), gateway.spec("a", "c"), gateway.spec("a", "b", gateway_size="medium")):
        gateway.settle()
        before = gateway.snapshot()
        predicted = gateway.apply(raw, check=True, keep=2)
        assert gateway.snapshot() == before
        done = gateway.apply(raw, keep=2)
        assert {**predicted, "steps": []} == {**done, "steps": []}


def test_going_back_and_forth(gateway: Site) -> None:
    first = gateway.active
    second = gateway.apply(gateway.spec("a", "c"))["digest"]
    with Load(gateway, "a") as load:
        assert gateway.back(check=True)["digest"] == first
        assert gateway.back()["digest"] == first
        assert gateway.ask("b") == 200
        assert gateway.back()["digest"] == second
        assert gateway.ask("c") == 200
    assert load.failures == []


def test_key_is_never_sent_to_the_url_of_another(gateway: Site) -> None:
    """URL and key change together: each key goes to its own URL only, also when going back without a store."""
    other = Provider("q", "--api-key", "sk-beta")
    moved = {"p": {"type": "openai_compatible", "base_url": f"{other.url}/v1", "api_key": "env://BETA"}}
    try:
        gateway.provider.reset()
        with Load(gateway, "a") as load:
            result = gateway.apply(gateway.spec("a", "b", gateway_providers=moved))
            assert gateway.back()["digest"] == result["previous"]
        keys = [{seen["headers"]["authorization"] for seen in each.seen()} for each in (gateway.provider, other)]
    finally:
        other.stop()
    assert load.failures == []
    assert keys == [{"Bearer sk-alpha"}, {"Bearer sk-beta"}]


def test_refused_by_validation(gateway: Site, unharmed: Load) -> None:
    def change(content: Any) -> None:
        content["resources"][0]["virtual_hosts"][0]["no_such_field"] = 1

    request = gateway.with_file(gateway.spec("a", "c"), "envoy/rds-gateway.json", change)
    for check in (True, False):
        with pytest.raises(ReleaseError) as error:
            run(gateway.host, "active", request, check=check)
        assert "no such field: 'no_such_field'" in str(error.value)
        assert "nothing was switched" in str(error.value)


def test_refused_by_the_process_that_runs(gateway: Site, unharmed: Load) -> None:
    def change(content: Any) -> None:
        content["resources"][0]["virtual_hosts"][0]["no_such_field"] = 1

    request = gateway.with_file(gateway.spec("a", "c"), "envoy/rds-gateway.json", change)
    with pytest.raises(ReleaseError) as error:
        run(gateway.host, "active", replace(request, validate=False), check=False)
    assert "no such field: 'no_such_field'" in str(error.value)
    assert f"{gateway.active} serves as before" in str(error.value)
    assert "http.gateway.rds.gateway.update_rejected" in str(error.value)


def test_refused_by_the_process_that_starts(gateway: Site, unharmed: Load) -> None:
    def change(content: Any) -> None:
        content["resources"][0]["no_such_field"] = 1

    request = gateway.with_file(gateway.spec("a", "c", gateway_size="medium"), "envoy/lds.json", change)
    with pytest.raises(ReleaseError) as error:
        run(gateway.host, "active", replace(request, validate=False), check=False)
    assert "no such field: 'no_such_field'" in str(error.value)
    assert f"{gateway.active} serves as before" in str(error.value)


def test_bootstrap_that_is_refused_by_the_process_that_starts(gateway: Site, unharmed: Load) -> None:
    request = gateway.request(gateway.spec("a", "b"))
    for name in ("blue", "green"):
        request = with_content(request, f"envoy/bootstrap-{name}.json", b'{"static_resources": {"no_such_field": 1}}')
    with pytest.raises(ReleaseError) as error:
        run(gateway.host, "active", replace(request, validate=False), check=False)
    assert "no_such_field" in str(error.value)
    assert f"{gateway.active} serves as before" in str(error.value)


def test_address_in_use_is_told_before(gateway: Site, unharmed: Load) -> None:
    before = gateway.snapshot()
    port = free_port()
    with occupied(port) as pid:
        raw = with_second_listener(gateway, port)
        for check in (True, False):
            with pytest.raises(ReleaseError) as error:
                gateway.apply(raw, check=check)
            assert f"127.0.0.1:{port} is in use by {pid}/python" in str(error.value)
    assert gateway.snapshot() == before


def test_address_in_use_that_was_not_seen_before(
    gateway: Site, unharmed: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "conflicts", lambda wanted, ours: ())
    port = free_port()
    with occupied(port):
        for size in ("small", "medium"):  # by the process that runs, and by one that starts
            raw = {**with_second_listener(gateway, port), "gateway_size": size}
            with pytest.raises(ReleaseError) as error:
                gateway.apply(raw)
            assert f"cannot bind '127.0.0.1:{port}': Address already in use" in str(error.value)
            assert f"{gateway.active} serves as before" in str(error.value)


def test_key_of_another_certificate(gateway: Site, unharmed: Load, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    certificate, key = (authority.sign(name, "localhost")[number] for number, name in enumerate(("one", "two")))
    raw = with_second_listener(gateway, free_port())
    pair = {"certificate": certificate.read_text(), "private_key": key.read_text()}
    raw["gateway_listeners"]["second"]["tls"] = pair
    raw["gateway_policies"] = {"plain_secret": "off"}
    before = {path: entry for path, entry in gateway.snapshot().items() if "/secrets/" in path}
    with pytest.raises(ReleaseError) as error:
        gateway.apply(raw)
    assert "KEY_VALUES_MISMATCH" in str(error.value)
    assert "PRIVATE KEY" not in str(error.value)
    after = {path: entry for path, entry in gateway.snapshot().items() if "/secrets/" in path}
    assert after == before


def test_secret_that_a_running_process_refuses_is_put_back(gateway: Site, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    (certificate, key), (_unused, other) = authority.sign("one", "localhost"), authority.sign("two", "localhost")
    raw = with_second_listener(gateway, free_port())
    raw["gateway_policies"] = {"plain_secret": "off"}
    raw["gateway_listeners"]["second"]["tls"] = {"certificate": certificate.read_text(), "private_key": key.read_text()}
    gateway.apply(raw)
    before = {path: entry[3] for path, entry in gateway.snapshot().items() if "listener-second" in path}
    raw = copy.deepcopy(raw)
    raw["gateway_listeners"]["second"]["tls"]["private_key"] = other.read_text()
    with pytest.raises(ReleaseError) as error:
        gateway.apply(raw)
    assert "Envoy refuses a secret" in str(error.value)
    assert "KEY_VALUES_MISMATCH" in str(error.value)
    after = {path: entry[3] for path, entry in gateway.snapshot().items() if "listener-second" in path}
    assert [without_version(each) for each in after.values()] == [without_version(each) for each in before.values()]


def test_certificate_that_is_not_there(gateway: Site, unharmed: Load) -> None:
    raw = with_second_listener(gateway, free_port())
    raw["gateway_listeners"]["second"]["tls"] = {"certificate": "/etc/ssl/none.pem", "private_key": "/etc/ssl/none.key"}
    with pytest.raises(ReleaseError, match=r"/etc/ssl/none\.key is not on this host; .*/etc/ssl/none\.pem"):
        gateway.apply(raw)


def test_another_run_at_the_same_time(gateway: Site, unharmed: Load) -> None:
    with Path(gateway.host.config_dir, ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for check in (True, False):
            with pytest.raises(ReleaseError, match="another run is applying to this host"):
                gateway.apply(gateway.spec("a", "c"), check=check)


def test_damage_is_brought_back(gateway: Site) -> None:
    release = Path(gateway.host.releases, gateway.active)
    (release / "envoy/lds.json").write_text("{}")
    (release / "envoy/cds.json").chmod(0o600)
    Path(gateway.host.secrets_dir, "consumers.json").unlink()
    with Load(gateway, "a") as load:
        result = gateway.apply(gateway.spec("a", "b"))
    assert result["repaired"] == ["envoy/cds.json (mode)", "envoy/lds.json (content)"]
    assert result["secrets_changed"] == ["consumers.json"]
    assert result["process"] == "none"
    assert load.failures == []
    assert not gateway.apply(gateway.spec("a", "b"))["changed"]


def test_info(gateway: Site) -> None:
    assert gateway.ask("a") == 200
    found = gateway.info()
    assert found["active"] == gateway.active
    assert found["history"][0]["digest"] == gateway.active
    assert found["envoy_version"] == "1.40.0"
    assert found["service"]["running"]
    ((provider, endpoint),) = [(each["name"], each["endpoints"][0]) for each in found["providers"]]
    assert (provider, endpoint["healthy"]) == ("p", True)
    assert endpoint["address"] == f"127.0.0.1:{gateway.provider.port}"
    assert endpoint["requests"] > 0
    assert "sk-" not in json.dumps(found)


def test_requests_to_what_is_removed_end_first(gateway: Site) -> None:
    """A stream of a model that a change removes is not cut, and what it needs stays until it is over."""
    with Load(gateway, "b") as load:
        while not load.answered:
            time.sleep(0.01)
    streaming = Load(gateway, "b")
    thread_failures: list[str] = []
    with streaming:
        started = time.monotonic()
        result = gateway.apply(gateway.spec("a"), prune_wait=0.0)
        assert time.monotonic() - started < 5
        thread_failures = [each for each in streaming.failures if "404" not in each]
    assert thread_failures == []
    assert result["changed"]
    gateway.apply(gateway.spec("a"))
    assert gateway.leftovers() == []

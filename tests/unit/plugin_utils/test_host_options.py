from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import (
    HOST_OPTIONS,
    HostOptionsError,
    host_from,
)

SUPERVISOR = {"service_manager": "supervisor", "envoy": "/opt/envoy", "supervisord": "/usr/bin/supervisord"}


def host(login: str = "ada", **options: Any) -> Host:
    return host_from(options, login=login)


def test_every_option_but_the_root_is_a_field_of_a_host() -> None:
    assert set(HOST_OPTIONS) - {"root"} == set(Host.__dataclass_fields__)


def test_systemd_has_its_places() -> None:
    built = host(envoy="/opt/envoy/1.40.0/envoy")
    assert (built.config_dir, built.user, built.fleet_size) == ("/etc/openai-gateway", "openai-gateway", 1)


def test_supervisor_keeps_everything_below_the_root_but_secrets_in_memory() -> None:
    built = host(**SUPERVISOR, root="/srv/gateway")
    assert (built.config_dir, built.runtime_dir, built.log_dir) == (
        "/srv/gateway/config",
        "/srv/gateway/run",
        "/srv/gateway/log",
    )
    assert built.secrets_dir.startswith("/dev/shm/openai-gateway-")
    assert built.user == "ada"
    assert (built.secrets_persist, built.state_dir) == ("never", "/srv/gateway/state")


def test_secrets_of_different_gateways_and_users_do_not_meet() -> None:
    places = {
        host(login=login, **SUPERVISOR, root=root).secrets_dir
        for login in ("ada", "bob")
        for root in ("/srv/a", "/srv/b")
    }
    assert len(places) == 4
    assert host(**SUPERVISOR, root="/srv/a").secrets_dir == host(**SUPERVISOR, root="/srv/a").secrets_dir


def test_what_is_given_wins_over_the_root() -> None:
    directories = {f"{name}_dir": f"/elsewhere/{name}" for name in ("config", "runtime", "secrets", "log")}
    assert host(**SUPERVISOR, root="/srv/gateway", log_dir="/var/log/gw").log_dir == "/var/log/gw"
    assert host(**SUPERVISOR, **directories).config_dir == "/elsewhere/config"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SUPERVISOR, "^gateway_root: say which directory"),
        ({"envoy": "/usr/bin/envoy", "root": "/srv"}, "^gateway_root is for the service manager supervisor"),
        ({"envoy": "envoy"}, "^gateway_envoy must be a plain absolute path, not 'envoy'$"),
        ({"envoy": "/opt/envoy", "fleet_size": 0}, "^gateway_fleet_size must be at least 1$"),
        (
            {**SUPERVISOR, "root": "/srv/gw", "secrets_persist": "encrypted"},
            "^gateway_secrets_persist must be never under supervisor",
        ),
        ({**SUPERVISOR, "root": "/srv/" + "long" * 25}, "^gateway_runtime_dir is too long for the path of a socket"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_variables(options: dict[str, Any], message: str) -> None:
    with pytest.raises(HostOptionsError, match=message):
        host(**options)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(HostOptionsError) as error:
        host(envoy="envoy", log_dir="log")
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["gateway_log_dir", "gateway_envoy"]

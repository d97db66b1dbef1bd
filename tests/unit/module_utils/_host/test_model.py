# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import (
    DEFAULTS,
    Host,
    host_from_options,
    host_to_options,
)

ENVOY = "/opt/envoy/1.40.0/envoy"


def test_defaults_are_those_of_systemd() -> None:
    host = host_from_options({"envoy": ENVOY, "user": None})
    assert {name: value for name, value in host_to_options(host).items() if name != "envoy"} == DEFAULTS
    assert host.current == "/etc/openai-gateway/current"
    assert host.admin_socket("blue") == "/run/openai-gateway/blue.sock"


def test_options_and_back() -> None:
    host = host_from_options({"envoy": ENVOY, "fleet_size": "3", "service_manager": "supervisor", "supervisord": "/s"})
    assert (host.fleet_size, host.service_manager, host.secrets_persist) == (3, "supervisor", "never")
    assert host_from_options(host_to_options(host)) == host


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "host.envoy must be a plain absolute path, not ''"),
        ({"envoy": "envoy"}, "host.envoy must be a plain absolute path, not 'envoy'"),
        ({"config_dir": "/"}, "host.config_dir must be a plain absolute path"),
        ({"config_dir": "/etc/../root"}, "host.config_dir must be a plain absolute path"),
        ({"log_dir": "/var/log/a b"}, "host.log_dir must not contain blanks"),
        ({"log_dir": "/var/log/100%"}, "host.log_dir must not contain blanks"),
        ({"secrets_dir": "/run/x;reboot"}, "host.secrets_dir must not contain blanks"),
        ({"secrets_dir": "/run/x\nUser=root"}, "host.secrets_dir must not contain blanks"),
        ({"runtime_dir": "/run/" + "x" * 100}, "host.runtime_dir is too long for the path of a socket"),
        ({"fleet_size": 0}, "host.fleet_size must be at least 1"),
        ({"fleet_size": "many"}, "host.fleet_size must be a whole number"),
        ({"runtime_dir": "/run/a`reboot`"}, "host.runtime_dir must not contain blanks"),
        ({"runtime_dir": "/run/a&b"}, "host.runtime_dir must not contain blanks"),
        ({"log_dir": "/var/log/[a-z]*"}, "host.log_dir must not contain blanks"),
        ({"log_dir": "/var/log/a\0b"}, "host.log_dir must not contain blanks"),
        ({"user": "a/../b"}, "host.user must be the name of a user"),
        ({"user": "-x"}, "host.user must be the name of a user"),
        ({"user": "a:b"}, "host.user must be the name of a user"),
        ({"user": ""}, "host.user must be the name of a user"),
        ({"user": "a b"}, "host.user must be the name of a user"),
        ({"state_dir": "state"}, "host.state_dir must be a plain absolute path"),
        ({"secrets_persist": "plain"}, "host.secrets_persist must be encrypted or never"),
        ({"service_manager": "supervisor", "secrets_persist": "encrypted"}, "host.secrets_persist must be never under"),
        ({"service_manager": "runit"}, "host.service_manager must be systemd or supervisor"),
        ({"service_manager": "supervisor"}, "host.supervisord must be the path of supervisord"),
        ({"colour": "blue"}, "host.colour is not an option of a host"),
    ],
)
def test_what_is_wrong_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="host") as error:
        host_from_options({"envoy": ENVOY, **options} if options else {})
    assert str(error.value).startswith(message)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="host") as error:
        host_from_options({"envoy": "x", "fleet_size": -1, "colour": "blue"})
    assert len(str(error.value).splitlines()) == 3


def test_a_host_is_a_value() -> None:
    host = host_from_options({"envoy": ENVOY})
    assert hash(host) == hash(Host(**host_to_options(host)))

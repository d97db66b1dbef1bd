# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a process reads its files again or is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._release import causes

from .world import World, spec

UNIT = "host/etc/systemd/system/openai-gateway@.service"
BOOTSTRAP = "envoy/bootstrap-blue.json"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_only_what_differs_is_read_again() -> None:
    old = {"envoy/lds.json": as_json({"version_info": "1", "resources": []}), "envoy/gone.json": b"{}", UNIT: b"A=1"}
    new = {
        "envoy/lds.json": as_json({"version_info": "2", "resources": []}),
        "envoy/cds.json": as_json({"version_info": "2", "resources": [1]}),
    }
    assert causes.of_reload(old, new) == ("envoy/cds.json", "envoy/gone.json")


def test_settings_of_a_unit_and_options_of_its_command() -> None:
    old = b"[Service]\nExecStart=/opt/1/envoy \\\n  -c x.json \\\n  --concurrency 1 \\\n  --flag\nMemoryMax=1\nUser=a\n"
    new = b"[Service]\nExecStart=/opt/2/envoy \\\n  -c x.json \\\n  --concurrency 2 \\\n  --flag\nCPUQuota=5%\nUser=a\n"
    assert causes.of_replacement({UNIT: old}, {UNIT: new}) == (
        "/etc/systemd/system/openai-gateway@.service (CPUQuota, ExecStart, ExecStart --concurrency, MemoryMax)",
    )


def test_places_in_a_bootstrap() -> None:
    def bootstrap(port: int, **more: Any) -> bytes:
        listener = {"name": "metrics", "address": {"socket_address": {"port_value": port}}}
        return as_json({"static_resources": {"listeners": [listener]}, **more})

    assert causes.of_replacement({BOOTSTRAP: bootstrap(1)}, {BOOTSTRAP: bootstrap(2, overload_manager={})}) == (
        f"{BOOTSTRAP} (overload_manager, static_resources.listeners[metrics].address.socket_address.port_value)",
    )
    assert causes.of_replacement({BOOTSTRAP: b"no JSON"}, {BOOTSTRAP: bootstrap(1)}) == (BOOTSTRAP,)


def test_many_places_are_not_all_told() -> None:
    old, new = (dict.fromkeys("abcdef", number) for number in (1, 2))
    assert causes.of_replacement({BOOTSTRAP: as_json(old)}, {BOOTSTRAP: as_json(new)}) == (
        f"{BOOTSTRAP} (a, b, c, d, …)",
    )


def test_files_that_come_and_go() -> None:
    assert causes.of_replacement({"libexec/a": b""}, {"libexec/b": b""}) == ("libexec/a (gone)", "libexec/b (new)")


@pytest.mark.parametrize(
    ("running", "told"),
    [
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/1.39.3/Clean/RELEASE", ("Envoy 1.39.3 -> 1.40.0",)),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/1.40.0/Modified/RELEASE", ("another build of 1.40.0",)),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/1.40.0/Clean/RELEASE", ()),
        ("", ()),
    ],
)
def test_another_binary(running: str, told: tuple[str, ...]) -> None:
    assert causes.of_binary({running}, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/1.40.0/Clean/RELEASE") == told


def test_a_release_that_is_not_there(tmp_path: Path) -> None:
    assert causes.released(tmp_path / "none") == {}


def test_a_run_says_why(world: World) -> None:
    first = world.run(world.request(spec("a")))
    assert (first["process"], first["process_why"]) == ("start", [])
    again = world.run(world.request(spec("a")))
    assert (again["process"], again["process_why"]) == ("none", [])
    more = world.request(spec("a", "b"))
    predicted = world.run(more, check=True)
    assert (predicted["process"], predicted["process_why"]) == (
        "reload",
        ["envoy/cds.json", "envoy/rds-egress.json", "envoy/rds-gateway.json"],
    )
    assert world.run(more)["process_why"] == predicted["process_why"]
    larger = world.run(world.request(spec("a", "b", size="large")))
    assert larger["process"] == "replace"
    assert larger["process_why"]

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping an instance: the host leaves its load balancer first, unless the other instance goes on serving."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin

from .test_admin import Envoy

FAIL = "POST /healthcheck/fail"
DRAIN = "POST /drain_listeners"


@contextmanager
def serving(path: Path) -> Iterator[Envoy]:
    """An instance that serves."""
    server = Envoy(str(path))
    server.answers = {
        "/stats": "listener_manager.workers_started: 1\nhttp.gateway.downstream_cx_active: 0\n",
        "/healthcheck/fail": "OK\n",
        "/drain_listeners": "OK\n",
    }
    path.with_suffix(".release").write_text("0123456789abcdef\n")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def instances(directory: Path) -> Iterator[dict[str, Envoy]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving(directory / f"{name}.sock")) for name in INSTANCES}


def stop(directory: Path, name: str) -> int | None:
    return admin.stop(str(directory / f"{name}.sock"), 0.0, 5.0)


@pytest.mark.parametrize("name", INSTANCES)
def test_one_that_is_replaced_answers_health_checks_as_before(
    instances: dict[str, Envoy], directory: Path, name: str
) -> None:
    assert stop(directory, name) == 0
    assert DRAIN in instances[name].asked
    assert FAIL not in instances[name].asked
    assert {asked.partition("?")[0] for each in instances if each != name for asked in instances[each].asked} == {
        "GET /stats"
    }


def test_the_only_one_fails_health_checks_and_drains_then(directory: Path) -> None:
    with serving(directory / "green.sock") as green:
        assert stop(directory, "green") == 0
    asked = [each for each in green.asked if each.startswith("POST")]
    assert asked[0] == FAIL
    assert asked[-1] == DRAIN


def test_both_at_once_leave_the_load_balancer(instances: dict[str, Envoy], directory: Path) -> None:
    """As when the machine goes down while one takes over: neither may count on the other."""
    with (directory / "blue.release").open() as blue:
        fcntl.flock(blue, fcntl.LOCK_SH)  # what the program that stops blue does
        stop(directory, "green")
    assert FAIL in instances["green"].asked


def test_one_that_never_served_is_not_waited_for(instances: dict[str, Envoy], directory: Path) -> None:
    for envoy in instances.values():
        envoy.answers["/stats"] = "listener_manager.workers_started: 0\nhttp.gateway.downstream_cx_active: 0\n"
    assert stop(directory, "blue") == 0
    assert FAIL not in instances["blue"].asked


def test_one_that_is_gone(directory: Path) -> None:
    assert stop(directory, "blue") is None

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which something is not as it was left: it is found, told and put right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import history
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import temporary_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import DRAINING, RUNNING, STOPPED

from .world import World, spec

UNIT = "host/etc/systemd/system/openai-gateway@.service"
A = spec("a", "b")
B = spec("b", "c")
LARGE = spec("a", "b", size="large")


@pytest.mark.parametrize("change", [{"build": "f" * 40 + "/1.39.0/Clean/RELEASE/BoringSSL"}, {"record": "unknown"}])
def test_a_process_of_something_else_is_replaced(world: World, change: dict[str, Any]) -> None:
    world.run(world.request(A))
    world.change("blue", **change)
    assert world.run(world.request(A))["process"] == "replace"


def test_a_process_that_is_gone_is_started(world: World) -> None:
    world.run(world.request(A))
    world.run(world.request(LARGE))
    world.change("blue", state=STOPPED)
    world.change("green", state=STOPPED)
    result = world.run(world.request(LARGE))
    assert result["process"] == "start"
    assert world.states()["green"] == RUNNING, "the one that starts with the machine"


def test_a_second_process_beside_the_right_one_is_drained(world: World) -> None:
    world.run(world.request(A))
    world.start("green")
    world.change("green", record="unknown")
    result = world.run(world.request(A))
    assert (result["changed"], result["process"]) == (True, "none")
    assert world.states() == {"blue": RUNNING, "green": DRAINING}


def test_the_wrong_process_starting_with_the_machine_is_corrected(world: World) -> None:
    world.run(world.request(A))
    world.change("green", at_boot=True)
    assert world.run(world.request(A))["changed"]
    assert not world.load()["green"]["at_boot"]


def test_metrics_that_cannot_be_read_replace_the_process(world: World) -> None:
    world.run(world.request(A))
    world.change("blue", metrics="no answer")
    with pytest.raises(ReleaseError, match="is served, but its metrics are not: no answer"):
        world.run(world.request(A))


@pytest.mark.parametrize("name", ["envoy/cds.json", "libexec/gateway-admin", "resources.json", "manifest.json"])
def test_a_file_of_the_release_that_was_changed_is_brought_back(world: World, name: str) -> None:
    world.run(world.request(A))
    file = world.layout.release(world.request(A).digest) / name
    content, mode = file.read_bytes(), file.stat().st_mode
    file.write_text("something else")
    file.chmod(0o600)
    assert world.run(world.request(A, files=None))["needs_bundle"]
    result = world.run(world.request(A))
    assert (result["changed"], result["process"]) == (True, "none")
    assert result["repaired"] == [f"{name} (content)"]
    if name != "manifest.json":  # it does not tell any more who staged the release
        assert (file.read_bytes(), file.stat().st_mode) == (content, mode)
    assert not world.run(world.request(A))["changed"]


@pytest.mark.parametrize("state", ["mode", "missing", "unexpected"])
def test_other_damage_of_the_release_is_brought_back(world: World, state: str) -> None:
    world.run(world.request(A))
    release = world.layout.release(world.request(A).digest)
    name = "envoy/lds.json"
    if state == "mode":
        (release / name).chmod(0o666)
    elif state == "missing":
        (release / name).unlink()
    else:
        name = "envoy/more.json"
        (release / name).write_text("{}")
    result = world.run(world.request(A))
    assert result["repaired"] == [f"{name} ({state})"]
    assert not world.run(world.request(A))["changed"]


def test_a_file_on_the_system_that_was_changed_is_brought_back(world: World) -> None:
    world.run(world.request(A))
    sysctl = world.layout.outside("host/etc/sysctl.d/60-openai-gateway.conf")
    sysctl.write_text("x")
    result = world.run(world.request(A, files=None))
    assert (result["process"], result["repaired"]) == ("none", ["/etc/sysctl.d/60-openai-gateway.conf"])
    assert b"tcp_migrate_req" in sysctl.read_bytes()


def test_a_unit_that_was_changed_is_brought_back_and_the_process_with_it(world: World) -> None:
    world.run(world.request(A))
    world.layout.outside(UNIT).write_text("[Service]\n")
    assert world.run(world.request(A))["process"] == "replace"
    assert not world.run(world.request(A))["changed"]


@pytest.mark.parametrize("what", ["current", "active"])
def test_a_link_that_was_removed_is_brought_back(world: World, what: str) -> None:
    world.run(world.request(A))
    getattr(world.layout, what).unlink()
    result = world.run(world.request(A))
    assert (result["changed"], result["process"]) == (True, "none")
    assert world.layout.current.resolve() == world.layout.release(world.request(A).digest)


def test_a_directory_that_is_open_to_others_is_closed(world: World) -> None:
    world.run(world.request(A))
    Path(world.host.log_dir).chmod(0o777)
    result = world.run(world.request(A))
    assert result["repaired"] == [f"{world.host.log_dir} (directory)"]
    assert not world.run(world.request(A))["changed"]


def test_a_file_that_the_new_release_does_not_have_is_removed(world: World) -> None:
    request = world.request(A)
    world.run(request)
    fewer = tuple(file for file in request.files or () if "logrotate" not in file.path)
    world.run(world.request(A, files=fewer, digest=""))
    assert not world.layout.outside("host/etc/logrotate.d/openai-gateway").exists()
    world.run(world.request(A))
    assert world.layout.outside("host/etc/logrotate.d/openai-gateway").exists()


def _unnoted(world: World) -> None:
    noted = history.read(world.layout.history)
    world.layout.history.write_bytes(history.to_bytes(noted[:-1]))


@pytest.mark.parametrize(
    "left",
    [
        _unnoted,
        lambda world: (world.layout.releases / ".stage-0123456789abcdef-1").mkdir(),
        lambda world: temporary_of(world.layout.current).symlink_to("releases/active"),
    ],
    ids=["not noted", "half staged", "half linked"],
)
def test_what_a_killed_run_has_left_to_do_is_a_change(world: World, left: Callable[[World], None]) -> None:
    """`site` leaves alone a host that a look tells no change of."""
    world.run(world.request(A))
    world.run(world.request(B))
    left(world)
    assert world.run(world.request(B), check=True)["changed"]
    assert world.run(world.request(B))["changed"]
    assert history.active(history.read(world.layout.history)) == world.request(B).digest
    assert not world.run(world.request(B), check=True)["changed"]

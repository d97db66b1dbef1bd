# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run is killed at every single change that it makes: what served before serves on, and the next run ends well."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError, ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin, history, secrets, store
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import digest_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import told
from ansible_collections.gatewayops.openai.plugins.module_utils._release.restore_secrets import unpack

from .world import REFUSED_MODEL, TAKEN_PORT, World, WorldOps, spec

KILLED = 17

OLD = spec("a", "b")
RELOAD = spec("b", "c")
REPLACE = spec("b", "c", size="large")
OTHER_PORT = spec("a", "b", port=9443)
REFUSED = spec("a", REFUSED_MODEL)
REFUSED_AT_START = spec("a", "c", port=TAKEN_PORT)


def killed_at(world: World, step: int, work: Callable[[WorldOps], object]) -> bool:
    """Do the work in another process that ends without any ado ahead of change number `step`; whether it got there."""
    child = os.fork()
    if not child:
        left = [step]

        def before(verb: str, path: str) -> None:
            if not left[0]:
                os._exit(KILLED)
            left[0] -= 1

        try:
            work(WorldOps(world, before))
        except GatewayError:
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, 1, KILLED)
    return os.waitstatus_to_exitcode(status) == KILLED


def every_kill(
    directory: Path, prepare: Callable[[World], object], work: Callable[[World, WorldOps], object]
) -> Iterator[World]:
    """The host as each kill leaves it."""
    prepare(World(directory / "host"))
    shutil.copytree(directory / "host", directory / "copy", symlinks=True)

    def again() -> World:
        """At the same path, as that is in the files of a release."""
        shutil.rmtree(directory / "host")
        shutil.copytree(directory / "copy", directory / "host", symlinks=True)
        return World(directory / "host")

    steps: list[tuple[str, Path]] = []
    world = again()
    with suppress(GatewayError):
        work(world, WorldOps(world, lambda verb, path: steps.append((verb, Path(path).parent))))
    assert len(steps) > 5, "there is something to kill"
    for number, step in enumerate(steps):
        if number and step == steps[number - 1] and number + 1 < len(steps) and step == steps[number + 1]:
            continue  # one of many files in one directory
        world = again()
        assert killed_at(world, number, lambda ops, world=world: work(world, ops))
        yield world
    world = again()
    assert not killed_at(world, len(steps), lambda ops: work(world, ops))


def versions_of(world: World, digest: str) -> str:
    files = admin.xds_files(str(world.layout.release(digest)))
    return admin.expectation(files)["listener_manager.lds"]


def assert_settled(world: World, raw: dict[str, Any]) -> None:
    """The release of a spec is served, by one process, and nothing is left over."""
    request = world.request(raw)
    world.load()
    site = world.site()
    site.manager.instances()
    again = world.run(request)
    assert not again["changed"], again
    assert again["process"] == "none"
    assert store.linked(world.layout) == request.digest
    assert store.leftovers(world.layout, request.digest) == ()
    assert world.serving() == {next(iter(world.serving())): versions_of(world, request.digest)}
    (name,) = world.serving()
    assert world.load()[name]["at_boot"]
    unit = world.layout.outside("host/etc/systemd/system/openai-gateway@.service")
    wanted = world.layout.release(request.digest) / "host/etc/systemd/system/openai-gateway@.service"
    assert unit.read_bytes() == wanted.read_bytes()
    assert not site.manager.is_stale()
    assert not list((world.directory / "root").rglob(".*"))
    assert not list(world.layout.config.glob(".current*"))
    kept = unpack(world.layout.sealed_secrets.read_bytes(), site.sealer.decrypt)
    assert kept == secrets.current(world.host.secrets_dir)
    assert [path.name for path in world.layout.sealed_secrets.parent.iterdir()] == [world.layout.sealed_secrets.name]


pytestmark = pytest.mark.usefixtures("world")


@pytest.mark.parametrize("afterwards", [OLD, RELOAD], ids=["same", "another"])
def test_first_start(directory: Path, afterwards: dict[str, Any]) -> None:
    for world in every_kill(directory, lambda world: None, lambda world, ops: world.run(world.request(OLD), ops=ops)):
        world.run(world.request(afterwards))
        assert_settled(world, afterwards)


@pytest.mark.parametrize(
    ("change", "afterwards"),
    [(RELOAD, RELOAD), (RELOAD, OLD), (RELOAD, REPLACE), (REPLACE, REPLACE), (REPLACE, OLD), (OTHER_PORT, RELOAD)],
    ids=["reload", "reload-back", "reload-replace", "replace", "replace-back", "replace-reload"],
)
def test_change(directory: Path, change: dict[str, Any], afterwards: dict[str, Any]) -> None:
    def prepare(world: World) -> None:
        world.run(world.request(OLD))

    for world in every_kill(directory, prepare, lambda world, ops: world.run(world.request(change), ops=ops)):
        assert world.serving(), "somebody serves, whenever it was killed"
        name = store.linked(world.layout)
        assert digest_of(name) in {world.request(OLD).digest, world.request(change).digest}
        assert admin.hashes(str(world.layout.release(name))), "a process that starts now would find its files"
        world.run(world.request(afterwards))
        assert_settled(world, afterwards)


@pytest.mark.parametrize("afterwards", [OLD, RELOAD], ids=["same", "another"])
@pytest.mark.parametrize("change", [REFUSED, REFUSED_AT_START], ids=["reload", "replace"])
def test_refused_change(directory: Path, change: dict[str, Any], afterwards: dict[str, Any]) -> None:
    def prepare(world: World) -> None:
        world.run(world.request(OLD))

    for world in every_kill(directory, prepare, lambda world, ops: world.run(world.request(change), ops=ops)):
        assert world.serving()
        world.run(world.request(afterwards))
        assert_settled(world, afterwards)


def test_going_back(directory: Path) -> None:
    def prepare(world: World) -> None:
        world.run(world.request(OLD))
        world.run(world.request(RELOAD))

    def work(world: World, ops: WorldOps) -> None:
        world.run(world.request(OLD, files=None, digest="previous", secrets=None), ops=ops)

    for world in every_kill(directory, prepare, work):
        assert world.serving()
        world.run(world.request(OLD))
        assert_settled(world, OLD)


def test_going_back_from_a_release_that_was_not_noted(directory: Path) -> None:
    """The one before it was killed ahead of that: it is the one to go back to afterwards, and keeps its secrets."""
    world = World(directory / "host")
    for each in (OLD, RELOAD):
        world.run(world.request(each))
    noted = history.read(world.layout.history)
    world.layout.history.write_bytes(history.to_bytes(noted[:-1]))
    world.run(world.request(OLD, keep=1))
    assert [entry.digest for entry in history.read(world.layout.history)[-2:]] == [
        world.request(RELOAD).digest,
        world.request(OLD).digest,
    ]
    assert not world.run(world.request(OLD, keep=1))["changed"]
    assert world.layout.release(world.request(RELOAD).digest).is_dir()


def test_mending(directory: Path) -> None:
    def prepare(world: World) -> None:
        world.run(world.request(OLD))
        release = world.layout.release(world.request(OLD).digest)
        (release / "envoy/cds.json").write_text("{}")
        (release / "unexpected").write_text("x")
        world.layout.outside("host/etc/systemd/system/openai-gateway@.service").write_text("x")

    for world in every_kill(directory, prepare, lambda world, ops: world.run(world.request(OLD), ops=ops)):
        assert world.serving()
        world.run(world.request(OLD))
        assert_settled(world, OLD)


def test_removal(directory: Path) -> None:
    def prepare(world: World) -> None:
        world.run(world.request(OLD))

    def work(world: World, ops: WorldOps) -> None:
        world.run(world.request(OLD), "absent", ops=ops)

    for world in every_kill(directory, prepare, work):
        assert world.run(world.request(OLD), "absent")["changed"]
        assert not world.run(world.request(OLD), "absent")["changed"]
        assert not world.layout.config.exists()
        assert not [path for path in (world.directory / "root").rglob("*") if path.is_file()]


def run_in_little_room(world: World, change: dict[str, Any], room: int) -> str:
    """A run that can make so many files and directories; what it is told when that is too few."""
    left = [room]

    def full(verb: str, path: str) -> None:
        if verb in ("create", "mkdir", "symlink"):
            if not left[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            left[0] -= 1

    try:
        world.run(world.request(change), ops=WorldOps(world, full))
    except OSError as error:
        return str(told(error, world.layout.config))
    except ReleaseError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("change", [RELOAD, REPLACE], ids=["reload", "replace"])
def test_disk_full(directory: Path, change: dict[str, Any]) -> None:
    """Nothing can be written from some point on: the run fails with a word about the disk, and harms nothing."""
    world = World(directory / "host")
    world.run(world.request(OLD))
    for room in range(1000):
        message = run_in_little_room(world, change, room)
        if not message:
            break
        assert "no space left" in message
        assert "kB free" in message
        assert len(set(world.serving().values())) == 1, "one release is served"
        assert not list(world.layout.releases.glob(".stage-*"))
        world.run(world.request(OLD))
        assert_settled(world, OLD)
    else:
        pytest.fail("it never had room enough")
    assert_settled(world, change)

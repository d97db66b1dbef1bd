"""What a host can do to a run: no room, no inodes, read-only, Envoy that dies as it starts, another run meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from contract.faults import Killer, State, Sweep, answers, killer, require_settled, sweeps
from contract.release_host import Load, Site, migrating_requests, site

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="mounts small file systems")


@pytest.fixture(scope="module")
def program() -> Iterator[Killer]:
    with killer() as made:
        yield made


@pytest.fixture
def gateway() -> Iterator[Site]:
    with site() as made, migrating_requests():
        yield made


def mount(path: Path, *options: str) -> None:
    path.mkdir(0o750, parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(("mode=0750", *options)), "tmpfs", str(path)]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("may not mount")


@contextmanager
def mounted(gateway: Site, *options: str) -> Iterator[dict[str, Path]]:
    """A gateway whose directories are small file systems."""
    places = {"config": Path(gateway.host.config_dir), "secrets": Path(gateway.host.secrets_dir)}
    for place in places.values():
        mount(place, *options)
    try:
        yield places
    finally:
        gateway.kill()
        time.sleep(0.5)
        for place in places.values():
            subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def filled(place: Path, what: str) -> Iterator[None]:
    """Nothing more can be written there."""
    filler = place / "filler"
    filler.mkdir()
    with suppress(OSError):
        if what == "space":
            with (filler / "f").open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        for number in range(100000):
            (filler / str(number)).touch()
    yield
    subprocess.run(["rm", "-r", str(filler)], check=True)


def at_point(points: list[str], pattern: str) -> int:
    """The first point that matches, past the middle of those that do where there are many."""
    found = [number for number, point in enumerate(points) if re.search(pattern, point)]
    assert found, (pattern, points)
    return found[len(found) // 2]


def recorded(gateway: Site, program: Killer, old: State, new: State) -> list[str]:
    """The points of a run from one state to the other, which is as new as the one that is to come."""
    for state in (old, new, old):  # so that both have brought their secrets
        state.bring(gateway)
        gateway.settle()
    points: list[str] = program.run(new.anew(1).order(gateway))["points"]
    gateway.settle()
    old.bring(gateway)
    gateway.settle()
    return points


def is_served(gateway: Site, plan: Sweep) -> None:
    assert answers(gateway, plan.questions) in {state.answers for state in plan.states}


def heals(gateway: Site, plan: Sweep, state: State) -> None:
    state.bring(gateway)
    require_settled(gateway, state, plan)


def is_told(answer: dict[str, Any], *words: str) -> None:
    """It failed with one line that says so."""
    assert answer.get("failed"), answer
    assert "exception" not in answer, answer
    assert "\n" not in answer["msg"]
    for word in words:
        assert word in answer["msg"]


#: (what runs out, at which point)
FULL = [
    ("space", r"^mkdir .*/\.stage-"),
    ("space", r"^write .*/\.stage-"),
    ("space", r"^write .*\.\d/"),
    ("space", r"^write .*history"),
    ("inodes", r"^openat .*/\.stage-"),
    ("inodes", r"^symlink .*/\.active"),
    ("inodes", r"^symlink .*/\.current"),
]


@needs_mounts
def test_full_at_every_stage(gateway: Site, program: Killer) -> None:
    plan = sweeps(gateway)["change"]
    old, new = plan.states
    with mounted(gateway, "size=2m", "nr_inodes=400") as places:
        points = recorded(gateway, program, old, new)
        with Load(gateway, "a") as load:
            for turn, (what, pattern) in enumerate(FULL, 2):
                program.hold(new.anew(turn).order(gateway), at_point(points, pattern))
                with filled(places["config"], what):
                    answer = program.go_on()
                    is_told(answer, "no space left to write", "run this again")
                    assert re.search(r"\d+ kB free in .*, \d+ inodes", answer["msg"])
                    is_served(gateway, plan)
                heals(gateway, plan, old)
        assert load.failures == []


@needs_mounts
def test_secrets_that_cannot_be_written(gateway: Site, program: Killer) -> None:
    """No room, no inodes, read-only: the old ones stay where they were, and what they are is not told."""
    plan = sweeps(gateway)["rotate"]
    old, new = plan.states
    with mounted(gateway, "size=1m", "nr_inodes=100") as places:
        State.bring(old, gateway)
        points = program.run(new.order(gateway))["points"]
        old.bring(gateway)
        at = at_point(points, r"^openat \.consumers")
        for hindered in (
            filled(places["secrets"], "space"),
            filled(places["secrets"], "inodes"),
            remounted(places["secrets"]),
        ):
            program.hold(new.order(gateway), at)
            with hindered:
                answer = program.go_on()
                is_told(answer, "cannot write", "run this again")
                assert "sk-" not in answer["msg"]
                assert answers(gateway, plan.questions) == old.answers
            heals(gateway, plan, new)
            heals(gateway, plan, old)


@needs_mounts
def test_read_only(gateway: Site, program: Killer) -> None:
    plan = sweeps(gateway)["change"]
    old, new = plan.states
    with mounted(gateway) as places:
        points = recorded(gateway, program, old, new)
        program.hold(new.anew(2).order(gateway), at_point(points, r"^openat .*/\.lock"))
        with remounted(places["config"]):
            is_told(program.go_on(), "on a file system that is read-only", "run this again")
            assert answers(gateway, plan.questions) == old.answers
        heals(gateway, plan, new)


@contextmanager
def remounted(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


def test_envoy_is_killed_as_it_starts(gateway: Site, program: Killer) -> None:
    """The one that is to take over; the run is held meanwhile."""
    plan = sweeps(gateway)["replace"]
    old, new = plan.states
    points = recorded(gateway, program, old, new)
    name = "green" if gateway.process()[0] == "blue" else "blue"
    with Load(gateway, "a") as load:
        program.hold(new.anew(2).order(gateway), at_point(points, "startProcess"), "after")
        os.kill(envoy_of(gateway, name), signal.SIGKILL)
        is_served(gateway, plan)
        answer = program.go_on()
        assert "exception" not in answer
        is_served(gateway, plan)
        heals(gateway, plan, new)
    assert load.failures == []


def envoy_of(gateway: Site, name: str) -> int:
    """Envoy of an instance that was just told to start."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(ValueError, OSError):
            return gateway.envoy_pid(name)
        time.sleep(0.005)
    raise AssertionError("it does not start")


def test_second_run_is_told_or_waits(gateway: Site, program: Killer) -> None:
    plan = sweeps(gateway)["change"]
    old, new = plan.states
    old.bring(gateway)
    program.hold(new.order(gateway), 10)
    with pytest.raises(ReleaseError, match=r"another run is applying .*nothing was changed.*gateway_lock_wait"):
        old.bring(gateway)
    with killer() as second, ThreadPoolExecutor(1) as pool:
        order = old.order(gateway)
        order["arguments"]["lock_wait"] = 20
        waiting = pool.submit(second.run, order)
        time.sleep(0.5)
        assert program.go_on()["changed"]
        assert waiting.result()["answer"]["changed"]
    require_settled(gateway, old, plan)


def test_run_that_waits_while_the_gateway_is_removed_holds_the_lock_that_is_there(
    gateway: Site, program: Killer
) -> None:
    plan = sweeps(gateway)["change"]
    old, new = plan.states
    old.bring(gateway)
    program.hold(State(None).order(gateway), 4)
    with killer() as second, ThreadPoolExecutor(1) as pool:
        order = new.order(gateway)
        order["arguments"]["lock_wait"] = 20
        waiting = pool.submit(second.run, order)
        time.sleep(0.5)
        program.go_on()
        said = waiting.result()["answer"]
    if said.get("failed"):
        is_told(said, "was just removed", "Run this again")
    else:
        require_settled(gateway, new, plan)
    heals(gateway, plan, old)


def test_races_end_with_one_of_them_whole(gateway: Site, program: Killer) -> None:
    plan = sweeps(gateway)["change"]
    plan.states[0].bring(gateway)
    with killer() as second, ThreadPoolExecutor(2) as pool:
        for turn in range(4):
            orders = [state.anew(turn).order(gateway) for state in plan.states]
            for order in orders:
                order["arguments"]["lock_wait"] = 20
            said = list(pool.map(lambda each, order: each.run(order)["answer"], (program, second), orders))
            assert [answer.get("msg") for answer in said] == [None, None]
            last = next(state.anew(turn) for state in plan.states if is_active(gateway, state.anew(turn)))
            require_settled(gateway, last, plan)


def is_active(gateway: Site, state: State) -> bool:
    return gateway.bundle(state.raw or {}).digest == gateway.active


def test_link_to_nothing_does_not_hinder_the_next_run(gateway: Site) -> None:
    """As after a power loss that a file system without a journal forgot half of."""
    plan = sweeps(gateway)["change"]
    old, new = plan.states
    old.bring(gateway)
    Path(gateway.host.releases, "active").unlink()
    Path(gateway.host.releases, "active").symlink_to("0123456789abcdef")
    Path(gateway.host.releases, "history.json").write_text('[{"digest": ')
    is_served(gateway, plan)
    heals(gateway, plan, new)

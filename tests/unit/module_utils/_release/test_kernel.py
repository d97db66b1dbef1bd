# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter and the settings of the kernel: what is wrong is found, said, and put right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.nftables import mark_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release import kernel

from .world import World, WorldOps, spec

PLAIN = spec("a")
SET = spec("a", gateway_nftables={}, gateway_sysctls={"net.core.somaxconn": "8192", "vm.overcommit": "2 3"})


class Kernel:
    """Its table of rules, '' when there is none, and its settings below a directory."""

    def __init__(self, proc: Path) -> None:
        self.rules = ""
        self.proc = proc
        self.complaint = ""
        for name, value in (("net/core/somaxconn", "4096"), ("vm/overcommit", "2\t3")):
            (proc / name).parent.mkdir(parents=True, exist_ok=True)
            (proc / name).write_text(value + "\n")

    def outcome(self, argv: list[str], content: bytes = b"") -> tuple[int, str, str]:
        if argv == ["nft", "--check", "--file", "-"]:
            assert content.startswith(b"#")
            if "cannot run" in self.complaint:
                raise ReleaseError(self.complaint)
            return (1 if self.complaint else 0), "", self.complaint
        assert argv == ["nft", "list", "table", "inet", "openai_gateway"]
        return (0, self.rules, "") if self.rules else (1, "", "No such file or directory")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    machine = Kernel(tmp_path / "proc")
    monkeypatch.setattr(kernel, "outcome", machine.outcome)
    monkeypatch.setattr(kernel, "_PROC", machine.proc)
    return machine


def play(world: World, machine: Kernel, raw: dict[str, Any], **options: Any) -> tuple[dict[str, Any], list[str]]:
    """A run whose commands have an effect on the kernel: its result, and the commands."""
    request = world.request(raw)
    rules = next((file.content.decode() for file in request.files or () if file.path.endswith(".nft")), "")
    done: list[str] = []

    def note(verb: str, what: str) -> None:
        if verb != "run":
            return
        done.append(what)
        if what == "systemctl restart openai-gateway-nftables.service":
            machine.rules = f'table inet openai_gateway {{ iif "lo" accept comment "{mark_of(rules)}" }}'
        elif what.startswith("nft delete"):
            machine.rules = ""
        elif what.startswith("sysctl --quiet --load"):
            (machine.proc / "net/core/somaxconn").write_text("8192\n")

    result: dict[str, Any] = world.run(request, ops=WorldOps(world, note), **options)
    return result, done


def test_the_kernel_follows_the_release(world: World, machine: Kernel) -> None:
    play(world, machine, PLAIN)
    _result, done = play(world, machine, SET)
    assert done[-2:] == [
        "systemctl restart openai-gateway-nftables.service",
        "sysctl --quiet --load /etc/sysctl.d/60-openai-gateway.conf",
    ]
    assert play(world, machine, SET)[0]["changed"] is False

    _result, done = play(world, machine, PLAIN)
    at = done.index("systemctl stop openai-gateway-nftables.service")
    assert done[at + 1] == "nft delete table inet openai_gateway"
    assert play(world, machine, PLAIN)[0]["changed"] is False


def test_what_others_changed_is_brought_back(world: World, machine: Kernel) -> None:
    play(world, machine, SET)
    machine.rules = ""  # nft flush ruleset
    result, done = play(world, machine, SET)
    assert result["repaired"] == ["nftables (in the kernel)"]
    assert done == ["systemctl restart openai-gateway-nftables.service"]
    (machine.proc / "net/core/somaxconn").write_text("128\n")
    result, _done = play(world, machine, SET)
    assert (result["changed"], result["repaired"]) == (True, ["net.core.somaxconn (in the kernel)"])
    assert play(world, machine, SET)[0]["changed"] is False


def test_a_kernel_that_cannot_is_told_before_anything_changes(world: World, machine: Kernel) -> None:
    play(world, machine, PLAIN)
    machine.complaint = "cannot run nft: No such file or directory"
    (machine.proc / "vm/overcommit").unlink()
    with pytest.raises(ReleaseError) as error:
        play(world, machine, SET)
    assert str(error.value).endswith(
        "cannot be served, nothing was changed: the kernel has no setting vm.overcommit, or it cannot be set here; "
        "gateway_nftables: cannot run nft: No such file or directory"
    )


def test_rules_that_nft_refuses(world: World, machine: Kernel) -> None:
    machine.complaint = "/dev/stdin:4:1: Error: no such thing\n  thing\n  ^^^^^\n"
    with pytest.raises(ReleaseError, match=r"gateway_nftables: nft says: /dev/stdin:4:1: Error: no such thing\Z"):
        play(world, machine, SET)


def test_removal(world: World, machine: Kernel) -> None:
    play(world, machine, SET)
    done: list[str] = []

    def note(verb: str, what: str) -> None:
        done.append(what)
        if what.startswith("nft delete"):
            machine.rules = ""

    world.run(world.request(SET), "absent", ops=WorldOps(world, note))
    assert "nft delete table inet openai_gateway" in done
    assert not world.run(world.request(SET), "absent")["changed"]


def test_rules_without_a_unit_can_be_removed(world: World, machine: Kernel) -> None:
    play(world, machine, SET)

    class NoUnit(WorldOps):
        def run(self, argv: Any, timeout: float = 60.0) -> str:
            if argv == ["systemctl", "stop", "openai-gateway-nftables.service"]:
                raise ReleaseError("Unit openai-gateway-nftables.service not loaded.")
            if argv[0] == "nft":
                machine.rules = ""
            return super().run(argv, timeout)

    world.run(world.request(SET), "absent", ops=NoUnit(world))
    assert machine.rules == ""
    assert not world.run(world.request(SET), "absent")["changed"]

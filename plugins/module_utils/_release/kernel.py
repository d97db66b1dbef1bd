# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release has the kernel do: its packet filter and its settings, compared with what the kernel does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.nftables import mark_of
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import (
    NFTABLES_FILE,
    NFTABLES_TABLE,
    NFTABLES_UNIT,
    SYSCTL_FILE,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, outcome

_RULES = "host" + NFTABLES_FILE
_SETTINGS = "host" + SYSCTL_FILE
_PROC = Path("/proc/sys")


def faults(files: Mapping[str, BundleFile]) -> tuple[str, ...]:
    """What the kernel has not as a release says: `nftables`, and names of settings; see `load`."""
    found = ["nftables"] if _RULES in files and mark_of(_text(files[_RULES])) != _loaded() else []
    wrong = (name for name, value in _settings(files).items() if _words(_value(name)) != _words(value))
    return (*found, *wrong)


def problems(files: Mapping[str, BundleFile]) -> tuple[str, ...]:
    """Why the kernel cannot be had as a release says; nothing is changed."""
    found = [
        f"the kernel has no setting {name}, or it cannot be set here"
        for name in _settings(files)
        if not os.access(_place(name), os.W_OK)
    ]
    if _RULES in files:
        found += _refused(files[_RULES].content)
    return tuple(found)


def load(ops: Ops, wrong: tuple[str, ...]) -> None:
    """Have the kernel do what the files on the system say; `wrong` is what `faults` has found. Raises ReleaseError."""
    if "nftables" in wrong:
        ops.run(["systemctl", "restart", NFTABLES_UNIT])
    if set(wrong) - {"nftables"}:
        ops.run(["sysctl", "--quiet", "--load", SYSCTL_FILE])


def unload(ops: Ops) -> None:
    """Remove the packet filter. Settings stay as they are until the machine starts again: nobody knows the old ones."""
    # A run that was killed may have written the rules and not the unit, and it is the table that counts.
    with suppress(ReleaseError):
        ops.run(["systemctl", "stop", NFTABLES_UNIT])
    if _loaded():
        ops.run(["nft", "delete", "table", *NFTABLES_TABLE.split()])


def _refused(rules: bytes) -> list[str]:
    """Why the rules cannot be loaded; nft shows the place below the first line of what it says."""
    try:
        status, _output, errors = outcome(["nft", "--check", "--file", "-"], content=rules)
    except ReleaseError as error:
        return [f"gateway_nftables: {error}"]
    return [f"gateway_nftables: nft says: {errors.strip().splitlines()[0]}"] if status else []


def _loaded() -> str:
    """The mark of the rules that are loaded, '' when none are."""
    try:
        status, rules, _errors = outcome(["nft", "list", "table", *NFTABLES_TABLE.split()])
    except ReleaseError:  # there is no nft
        return ""
    return "" if status else mark_of(rules)


def _settings(files: Mapping[str, BundleFile]) -> dict[str, str]:
    """The settings that have to be as the release says; those that begin with `-` need not be, see sysctl.d(5)."""
    lines = _text(files[_SETTINGS]).splitlines() if _SETTINGS in files else ()
    pairs = (line.partition(" = ") for line in lines if not line.startswith(("#", "-")))
    return {name: value for name, found, value in pairs if found}


def _value(name: str) -> str:
    try:
        return _place(name).read_text()
    except OSError:
        return ""


def _place(name: str) -> Path:
    return _PROC.joinpath(*name.split("."))


def _words(value: str) -> list[str]:
    return value.split()


def _text(file: BundleFile) -> str:
    return file.content.decode()

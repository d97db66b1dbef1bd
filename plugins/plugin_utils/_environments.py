# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environments that a project has, each looked at by itself: its inventory, and what its hosts are to serve.

An environment is a workspace of the inventory that Ansible was called with, or another inventory: one file or directory
beside it, or below `inventories` in the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError, SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import did_you_mean, nearest
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import LAYERS, WORKSPACES, variables

GROUP = "gateways"
_WORKSPACE = "gateway_workspace"
_NAMES = (*(field.key for field in variables()), *LAYERS)
_Variables = Mapping[str, Any]


class ProjectError(GatewayError):
    """There is no such environment, or it cannot be read."""


@dataclass(frozen=True)
class Environment:
    """What the hosts of an environment are to serve, and the hosts whose variables make an exception to it."""

    name: str
    resources: Mapping[str, Mapping[str, Any]]
    exceptions: tuple[str, ...]
    #: The variables of its first host, and what renders them.
    templar: Templar
    given: _Variables

    def variable(self, name: str) -> Any:
        """The value of a variable; None for one that is not there. Raises ProjectError."""
        return _rendered(self.name, self.templar, self.given, name) if name in self.given else None


def find(name: str, *, sources: Sequence[str], loader: DataLoader, below: str | None) -> Environment:
    """Read an environment. `sources` are the inventories that Ansible was called with, `below` is where others are.

    Raises ProjectError.
    """
    here = _Inventory(sources, loader)
    workspaces = here.workspaces(name)
    if name in workspaces:
        return _environment(name, here, {_WORKSPACE: name})
    for path in _candidates(name, sources, below):
        if path.exists():
            return _environment(name, _Inventory([str(path)], loader), {})
    known = sorted({*workspaces, *_names_beside(sources, below)})
    near = did_you_mean(nearest(name, known)) or (f"; known are {', '.join(known)}" if known else "")
    raise ProjectError(f"no environment named '{name}', as a workspace or as an inventory{near}")


def _candidates(name: str, sources: Sequence[str], below: str | None) -> Iterator[Path]:
    if os.sep in name:
        yield Path(name).resolve()
        return
    # These would be the directory itself, or the one above.
    if name in ("", os.curdir, os.pardir):
        return
    for directory in _directories(sources, below):
        yield directory / name


def _directories(sources: Sequence[str], below: str | None) -> Iterator[Path]:
    """Where inventories are looked for."""
    if below:
        yield Path(below).resolve()
        return
    # A file such as hosts.yml stands for its directory.
    real = [Path(source) for source in sources if "," not in source and Path(source).exists()]
    yield from ((path if path.is_dir() else path.parent).resolve().parent for path in real)
    yield Path("inventories").resolve()


def _names_beside(sources: Sequence[str], below: str | None) -> Iterator[str]:
    for directory in _directories(sources, below):
        if directory.is_dir():
            yield from (path.name for path in directory.iterdir() if (path / "group_vars").is_dir())


class _Inventory:
    """An inventory with the variables of its gateways."""

    def __init__(self, sources: Sequence[str], loader: DataLoader) -> None:
        self.title = ", ".join(sources)
        self.loader = loader
        try:
            self.inventory = InventoryManager(loader=loader, sources=list(sources))
            self._manager = VariableManager(loader=loader, inventory=self.inventory)
        except AnsibleError as error:
            raise ProjectError(f"{self.title}: {error.message}") from None
        # So that templates of one host may look at another.
        HostVars(self.inventory, self._manager, loader)

    @property
    def hosts(self) -> list[str]:
        """The gateways, by name."""
        return sorted(self.inventory.get_groups_dict().get(GROUP, ()))

    def variables_of(self, host: str) -> dict[str, Any]:
        """The variables of a host, not rendered. Raises ProjectError."""
        try:
            found: dict[str, Any] = self._manager.get_vars(host=self.inventory.get_host(host))
        except AnsibleError as error:
            raise ProjectError(f"{self.title}: {error.message}") from None
        return found

    def workspaces(self, wanted: str) -> tuple[str, ...]:
        """The names of the workspaces that it has; templates in them may ask which is `wanted`."""
        for host in self.hosts[:1]:
            given = {**self.variables_of(host), _WORKSPACE: wanted}
            if WORKSPACES in given:
                layers = _rendered(self.title, Templar(self.loader, given), given, WORKSPACES)
                return tuple(map(str, layers)) if isinstance(layers, Mapping) else ()
        return ()


def _environment(name: str, inventory: _Inventory, more: _Variables) -> Environment:
    of_workspace = inventory.inventory.get_groups_dict().get(name) if more else None
    hosts = [host for host in inventory.hosts if of_workspace is None or host in of_workspace]
    if not hosts:
        raise ProjectError(f"{name}: {inventory.title} has no hosts in the group '{GROUP}'")
    given = {**inventory.variables_of(hosts[0]), **more}
    unlike = [host for host in hosts[1:] if _plain({**inventory.variables_of(host), **more}) != _plain(given)]
    templar = Templar(loader=inventory.loader, variables=given)
    raw = {key: _rendered(name, templar, given, key) for key in _plain(given)}
    try:
        resources = spec_resources(parse_spec(raw))
    except SpecError as error:
        lines = str(error).splitlines()
        count = f"{len(lines)} error{'' if len(lines) == 1 else 's'}"
        raise ProjectError("\n  ".join([f"the specification of {name} has {count}", *lines])) from None
    return Environment(name, resources, tuple(unlike), templar, given)


def _plain(given: _Variables) -> dict[str, Any]:
    return {key: given[key] for key in _NAMES if key in given}


def _rendered(title: str, templar: Templar, given: _Variables, name: str) -> Any:
    try:
        return templar.template(given[name])
    except AnsibleError as error:
        raise ProjectError(f"{title}: {name}: {error.message}") from None

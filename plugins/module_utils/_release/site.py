# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything through which a release reaches the machine, in one place, so that tests can put something else there."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import SYSTEMD, Host
from ansible_collections.gatewayops.openai.plugins.module_utils._release.binary import Binary
from ansible_collections.gatewayops.openai.plugins.module_utils._release.host_key import HostKey, Sealer
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import Layout
from ansible_collections.gatewayops.openai.plugins.module_utils._release.live import Live
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, Owner
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import Manager
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service_supervisor import Supervisor
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service_systemd import Systemd


class Validator(Protocol):
    """What knows Envoy's binary, see `binary.Binary`."""

    def build(self) -> str:
        """The whole text of its version."""

    def version(self) -> str:
        """Its version."""

    def validate(self, files: Mapping[str, bytes]) -> None:
        """Raise ReleaseError when Envoy does not take these files."""


@dataclass(frozen=True)
class Site:
    """One gateway host as it is worked on.

    `config_owner` is whom releases belong to, `private_owner` whom what Envoy writes and the secrets, `system_owner`
    whom files on the system: None leaves them with whoever runs this. `has_user` is False before the user is made.
    """

    layout: Layout
    ops: Ops
    manager: Manager
    live: Live
    envoy: Validator
    sealer: Sealer
    has_user: bool = True
    config_owner: Owner = None
    private_owner: Owner = None
    system_owner: Owner = None

    @property
    def host(self) -> Host:
        """The host."""
        return self.layout.host


def make_site(host: Host, ops: Ops) -> Site:
    """The site of the machine that this runs on. Raises ReleaseError when it may not be worked on by this user."""
    layout = Layout(host)
    live = Live(layout)
    if host.service_manager != SYSTEMD:
        return Site(layout, ops, Supervisor(layout, ops), live, Binary(host.envoy, None), HostKey(ops))
    if os.geteuid() != 0:
        raise ReleaseError("a gateway under systemd can only be managed as root: set become to true")
    envoy = Binary(host.envoy, None)
    return with_user(Site(layout, ops, Systemd(ops), live, envoy, HostKey(ops), has_user=False, system_owner=(0, 0)))


def with_user(site: Site) -> Site:
    """`site` as of now, its user having been made or not."""
    try:
        user = pwd.getpwnam(site.host.user)
        group = grp.getgrnam(site.host.user).gr_gid
    except KeyError:
        return site
    owner = (user.pw_uid, group)
    envoy = Binary(site.host.envoy, owner)
    return replace(site, has_user=True, config_owner=(0, group), private_owner=owner, envoy=envoy)

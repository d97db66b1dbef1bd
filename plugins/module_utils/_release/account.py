# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user that Envoy runs as, as far as a release made it."""

from __future__ import annotations

import grp
import pwd

from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import USER_HOME, USER_NAME
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site


def is_ours(site: Site) -> bool:
    """Whether there is such a user and it is the one that `systemd.sysusers` describes, not one of the operator's."""
    try:
        user = pwd.getpwnam(site.host.user)
    except KeyError:
        return False
    return site.layout.systemd and (user.pw_gecos, user.pw_dir) == (USER_NAME, USER_HOME)


def remove(site: Site) -> None:
    """Remove the user and its group. Raises ReleaseError, for instance when a process of it still runs."""
    name = site.host.user
    site.ops.run(["userdel", name])
    try:
        grp.getgrnam(name)
    except KeyError:
        return  # with USERGROUPS_ENAB in login.defs(5) userdel has removed it
    site.ops.run(["groupdel", name])

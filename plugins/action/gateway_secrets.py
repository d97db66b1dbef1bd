# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import ClassVar

from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import HostAction


class ActionModule(HostAction):
    """Deliver secrets to the host that the variables describe, without a file of the arguments on its disk."""

    MODULE = "gateway_secrets"
    ENVOY: ClassVar[str | None] = "/usr/bin/envoy"

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import HostAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._provenance import applied_by


class ActionModule(HostAction):
    """The worker with the host that the variables describe, for playbooks that name a release."""

    MODULE = "gateway_release"

    def arguments(self) -> dict[str, Any]:
        return {"meta": {"applied_by": applied_by()}, **super().arguments()}

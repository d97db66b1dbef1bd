# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.saved import PlanError, verify, what_moved
from ansible_collections.gatewayops.openai.plugins.module_utils._release.plan import NO_RELEASE
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._fleet import gather, plan_key, read_plan


class ActionModule(GatewayAction):
    """Hold a saved plan against the plan that would be made now, before anything is written anywhere."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "path": {"type": "path", "required": True},
        "environment": {"type": "str"},
        "key": {"type": "str", "required": True, "no_log": False},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {"path": "gateway_plan", "key": "gateway_plan_key"}
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        document = read_plan(self, Path(options["path"]))
        verify(document, plan_key(self, options["key"]))
        gathered = gather(self, options["environment"], timedelta())
        moved = what_moved(document, gathered.plan, gathered.unreachable)
        if moved:
            raise PlanError("\n  ".join(["the plan does not hold any more; nothing was changed", *moved]))
        ours = document["gateway"]
        self._display.display(ours["summary"])
        expected = {name: host["active"] or NO_RELEASE for name, host in ours["hosts"].items()}
        return {"changed": False, "summary": ours["summary"], "expected": expected}

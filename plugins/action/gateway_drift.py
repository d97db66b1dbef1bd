# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.drift import drift_document, render_metrics
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.terminal import render_terminal
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._fleet import gather, write_file


class ActionModule(GatewayAction):
    """Tell how what the hosts serve differs from the specification, and fail if it does."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "path": {"type": "path"},
        "metrics": {"type": "path"},
        "environment": {"type": "str"},
        "fail": {"type": "bool", "default": True},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {
        "path": "gateway_drift_file",
        "metrics": "gateway_drift_metrics",
        "fail": "gateway_drift_fail",
    }
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        gathered = gather(self, options["environment"], timedelta())
        plan = gathered.plan
        document = drift_document(plan)
        if options["path"]:
            write_file(Path(options["path"]), canonical_json(document) + b"\n", "report")
        if options["metrics"]:
            _replace(Path(options["metrics"]), render_metrics(plan, time.time()).encode())
        self._display.display(render_terminal(plan).replace("\nPlan: ", "\nDrift: "))
        result = {"changed": False, "drift": plan.changed, "hosts": document["hosts"], "unknown": document["unknown"]}
        differing = [name for name, host in document["hosts"].items() if host["drift"]]
        why = [f"not as specified: {', '.join(differing)}"] if differing else []
        # A schedule that cannot look must not be a green one.
        lost = (*gathered.failed, *gathered.unreachable)
        why += [f"nothing is known of {', '.join(lost)}"] if lost else []
        return {**result, "failed": True, "msg": "; ".join(why)} if why and options["fail"] else result


def _replace(path: Path, content: bytes) -> None:
    """Write a file that somebody else may be reading: the collector of metrics never sees a half of it."""
    written = path.with_name(f".{path.name}.new")
    write_file(written, content, "file of metrics")
    written.chmod(0o644)
    written.replace(path)

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, HostPlan, host_plan
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.markdown import render_markdown
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.terminal import render_terminal
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.tfjson import plan_document
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GROUP, GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._provenance import collection_version, inventory_commit
from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import time_text

_REGISTERED = "__gateway_plan"


class PlanFileError(GatewayError):
    """A file of a plan cannot be written."""


class ActionModule(GatewayAction):
    """Put the plans of all hosts together, tell them, and write them to files beside each other."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "path": {"type": "path", "default": "plan.json"},
        "environment": {"type": "str"},
        "register": {"type": "str", "default": _REGISTERED},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {"path": "gateway_plan"}
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        plan, failed = self._plan(options)
        document = plan_document(plan, errored=bool(failed))
        base = Path(options["path"])
        texts = {base: canonical_json(document) + b"\n", base.with_suffix(".md"): render_markdown(plan).encode()}
        for path, content in texts.items():
            _write(path, content)
        self._display.display(render_terminal(plan))
        return {
            "changed": False,
            "pending": plan.changed,
            "summary": plan.summary,
            "files": [str(path) for path in texts],
            "unknown": dict(plan.unknown),
        }

    def _plan(self, options: Mapping[str, Any]) -> tuple[FleetPlan, list[str]]:
        """The plan, and the hosts for which none could be made."""
        plans: list[HostPlan] = []
        unknown: dict[str, str] = {}
        failed = []
        in_play = set(self.variables.get("ansible_play_hosts_all", ()))
        for host in sorted({*self.variables.get("groups", {}).get(GROUP, ()), *in_play}):
            result = self._result(host, options["register"])
            if host not in in_play:
                unknown[host] = "left out by --limit"
            elif result.get("unreachable"):
                unknown[host] = f"cannot be reached: {_one_line(result)}"
            elif result.get("failed"):
                failed.append(host)
                unknown[host] = f"no plan could be made: {_one_line(result)}"
            elif "planned" not in result:
                unknown[host] = "was not looked at"
            else:
                plans.append(host_plan(host, result["planned"]))
        directory = self.variables.get("inventory_dir") or ""
        plan = FleetPlan(
            environment=options["environment"] or Path(directory).name,
            created_at=time_text(datetime.now(UTC)),
            collection_version=collection_version(),
            commit=inventory_commit(directory) or "",
            hosts=tuple(plans),
            unknown=tuple(sorted(unknown.items())),
        )
        return plan, failed

    def _result(self, host: str, name: str) -> Mapping[str, Any]:
        # Without rendering: a plan holds no template, and rendering one of thousands of models takes seconds.
        found = self.variables["hostvars"].raw_get(host).get(name, {})
        return found if isinstance(found, Mapping) else {}


def _one_line(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("msg", "")).split())


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise PlanFileError(f"the plan cannot be written: {path}: {error.strerror}") from None

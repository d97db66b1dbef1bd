# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._rollout import (
    HostRun,
    begin,
    judge,
    outcome,
    render,
    summarize,
    wrong,
)

#: The variables that the tasks of `playbooks/_rollout.yml` register on a host, by the field of HostRun.
_REGISTERED = {
    "plan": "__gateway_plan",
    "result": "__gateway_result",
    "verified": "__gateway_verified",
    "back": "__gateway_back",
}
_ERROR = "__gateway_error"
_BATCH = "__gateway_batch"


class ActionModule(GatewayAction):
    """Decide over all hosts of a play, by what was registered on each. Nothing is done on any host."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "step": {"type": "str", "choices": ["begin", "batch", "end"], "required": True},
        "rollback": {"type": "str", "choices": ["batch", "all", "none"], "default": "batch"},
        "max_unreachable": {"type": "str", "default": "50%"},
    }
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        return {"changed": False, **getattr(self, f"_{options['step']}")(options)}

    def _begin(self, options: Mapping[str, Any]) -> dict[str, Any]:
        begun = begin(self._runs(self.variables["ansible_play_hosts_all"]), options["max_unreachable"])
        self._display.display(begun.summary)
        return {
            "changing": list(begun.changing),
            "lost": list(begun.unreachable),
            "count": begun.hosts,
            "summary": begun.summary,
        }

    def _batch(self, options: Mapping[str, Any]) -> dict[str, Any]:
        runs = self._runs(self.variables["ansible_play_hosts_all"])
        here = set(self.variables["ansible_play_batch"])
        # One that Ansible itself gave up in this batch is not in its list any more.
        batch = [host for host, run in runs.items() if host in here or (run.result and not run.batch)]
        begun = self.variables["__gateway_rollout"]
        sizes = int(begun["count"]), len(begun["lost"])
        # What check mode has not changed does not go back.
        rollback = "none" if self._task.check_mode else options["rollback"]
        verdict = judge(runs, batch, sizes, rollback=rollback, most=options["max_unreachable"])
        return {"number": verdict.number, "reasons": dict(verdict.reasons), "roll_back": list(verdict.roll_back)}

    def _end(self, _options: Mapping[str, Any]) -> dict[str, Any]:
        runs = self._runs(self.variables["ansible_play_hosts_all"])
        outcomes = {host: outcome(run, check=self._task.check_mode) for host, run in runs.items()}
        self._display.display(render(outcomes))
        hosts = {
            host: {"outcome": one.kind, "reason": one.reason, "batch": one.batch} for host, one in outcomes.items()
        }
        return {"summary": summarize(outcomes), "hosts": hosts, "wrong": wrong(outcomes)}

    def _runs(self, hosts: list[str]) -> dict[str, HostRun]:
        return {str(host): self._run_of(host) for host in hosts}

    def _run_of(self, host: str) -> HostRun:
        # Without rendering: no result holds a template, and rendering a plan of thousands of models takes seconds.
        known = self.variables["hostvars"].raw_get(host)
        results = {name: known.get(variable) or {} for name, variable in _REGISTERED.items()}
        batch = known.get(_BATCH) or {}
        return HostRun(**results, error=str(known.get(_ERROR) or ""), batch=int(batch.get("number", 0)))

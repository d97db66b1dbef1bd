# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host, host_to_options
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import (
    ResourceChange,
    diff_resources,
    render_diff,
    summarize,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.terminal import process_note
from ansible_collections.gatewayops.openai.plugins.module_utils._release import rotation
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._activate import (
    GUARD_OPTIONS,
    activate,
    guard_of,
    in_use_warnings,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import Compiled, compile_gateway
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS


class ActionModule(GatewayAction):
    """Compile here, resolve secrets at the last moment, and let the host do the least that is needed."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **HOST_OPTIONS,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "lock_wait": {"type": "float", "default": 0.0},
        "expected": {"type": "str"},
        "keep_logs": {"type": "bool", "default": False},
        "envoy_root": {"type": "str"},
        **GUARD_OPTIONS,
    }

    def act(self) -> dict[str, Any]:
        options = self.options()
        host = self.host(options)
        if options["state"] == "absent":
            if options["expected"]:
                raise OptionsError(
                    "gateway_state: is absent, and a plan that is carried out removes no gateway; nothing was changed. "
                    "gatewayops.openai.site removes it"
                )
            return self._remove(host, keep_logs=options["keep_logs"], envoy_root=options["envoy_root"])
        compiled = compile_gateway(self.raw_spec, host)
        secrets = compiled.resolve(self.session())
        demands = {name: options[name] for name in ("lock_wait", "expected") if options[name]}
        demands["guard"] = guard_of(options)
        answer, before = activate(self, compiled, host, secrets.files, **demands)
        changes = diff_resources(before, compiled.resources)
        warnings = (
            *answer.get("warnings", ()),
            *in_use_warnings(answer),
            *secrets.warnings,
            *map(str, compiled.findings),
        )
        return {**self._result(answer, compiled, changes), "warnings": list(warnings)}

    def _remove(self, host: Host, *, keep_logs: bool, envoy_root: str | None) -> dict[str, Any]:
        """Remove the gateway, then Envoy, without which it could not be started again if anything goes wrong before."""
        what = {"state": "absent", "host": host_to_options(host), "keep_logs": keep_logs}
        answer = self.call("gateway_release", what)
        if answer.get("failed") or not envoy_root:
            return answer
        envoy = self.call("envoy_binary", {"state": "absent", "root": envoy_root})
        if envoy.get("failed"):
            return envoy
        removed = [*answer["removed"], *envoy["removed"]]
        return {**answer, "changed": bool(removed), "removed": removed}

    def _result(self, answer: dict[str, Any], compiled: Compiled, changes: Sequence[ResourceChange]) -> dict[str, Any]:
        if answer.get("failed"):
            return answer
        news = {
            name: value
            for name, value in answer.items()
            if name not in ("active", "drift", "in_use", "needs_bundle", "resources")
        }
        names, files = answer.get("rotated", {}), answer.get("secrets_changed", ())
        result = {
            **news,
            "changes": [change.as_dict() for change in changes],
            "plan": summarize(changes),
            "secrets": rotation.describe(names, files) if files else "",
        }
        if self._task.diff and answer.get("changed"):
            secrets = "".join(f"{line}\n" for line in rotation.lines(names, files))
            note = process_note(answer["process"], answer["process_why"])
            process = f"  {note}\n" if note else ""
            result["diff"] = {"prepared": secrets + render_diff(changes) + process}
        return result

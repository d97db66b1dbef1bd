# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import render_diff, summarize
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import HostPlan
from ansible_collections.gatewayops.openai.plugins.module_utils._release import rotation
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._activate import (
    GUARD_OPTIONS,
    activate,
    guard_of,
    in_use_warnings,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import compile_gateway
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS


class ActionModule(GatewayAction):
    """Hold the specification against what the host serves. Nothing is written."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **HOST_OPTIONS,
        **GUARD_OPTIONS,
        "lock_wait": {"type": "float", "default": 0.0},
        "secrets": {"type": "bool", "default": False, "no_log": False},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {"secrets": "gateway_plan_secrets"}

    def act(self) -> dict[str, Any]:
        self.warn_of_misspelled()
        options = self.options()
        host = self.host(options)
        compiled = compile_gateway(self.raw_spec, host)
        resolved = compiled.resolve(self.session()) if options["secrets"] else None
        # The module that would apply it is asked what it would do.
        self._task.check_mode = True
        demands = {"guard": guard_of(options), "lock_wait": options["lock_wait"]}
        answer, before = activate(self, compiled, host, resolved.files if resolved else None, **demands)
        if answer.get("failed"):
            return answer
        planned = HostPlan(
            host=self.variables.get("inventory_hostname", ""),
            active=answer["active"],
            release=answer["digest"],
            spec_digest=compiled.spec_digest,
            envoy_version=answer["envoy_version"],
            process=answer["process"],
            process_why=tuple(answer["process_why"]),
            changed=answer["changed"],
            before=before,
            after=compiled.resources,
            drift=tuple(answer["drift"]),
            in_use=answer["in_use"],
            findings=tuple(asdict(finding) for finding in compiled.findings),
            secrets=_names(answer) if resolved else None,
        )
        return {
            "changed": False,
            "summary": summarize(planned.changes),
            "planned": planned.as_dict(),
            "warnings": [
                *answer.get("warnings", ()),
                *in_use_warnings(answer),
                *(resolved.warnings if resolved else ()),
            ],
            **({"diff": {"prepared": render_diff(planned.changes)}} if self._task.diff and planned.changed else {}),
        }


def _names(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The secrets that differ, such as `key of consumer search`."""
    lines = rotation.lines(answer["rotated"], answer["secrets_changed"])
    return tuple(line.removeprefix("  ~ ").removesuffix(" (not shown)") for line in lines)

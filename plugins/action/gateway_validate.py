# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Limits, Spec
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GROUP, GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import compile_gateway
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS

#: AWX says nothing of slices to a job, but that it is one of a workflow.
_SLICED = (
    "gateway_fleet_size is not set, so that consumers have their limits shared by the {size} hosts of this inventory: "
    "set it, if this is a slice of a job"
)


class ActionModule(GatewayAction):
    """Parse, check and compile; the host is not even connected to."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = HOST_OPTIONS
    # A play that only checks has no role to say where Envoy is, and whether a spec is right does not depend on it.
    ENVOY: ClassVar[str | None] = "/usr/bin/envoy"

    def act(self) -> dict[str, Any]:
        self.warn_of_misspelled()
        options = self.options()
        compiled = compile_gateway(self.raw_spec, self.host(options))
        warnings = [str(finding) for finding in compiled.findings]
        if options["fleet_size"] is None and "awx_workflow_job_id" in self.variables and _shares(compiled.spec):
            warnings.append(_SLICED.format(size=len(self.variables.get("groups", {}).get(GROUP, ()))))
        return {
            "changed": False,
            "findings": [asdict(finding) for finding in compiled.findings],
            "resources": len(compiled.resources),
            "spec_digest": compiled.spec_digest,
            "warnings": warnings,
        }


def _shares(spec: Spec) -> bool:
    """Whether a limit is shared by the hosts of the fleet."""
    return spec.limits_scope == "fleet" and any(consumer.limits != Limits() for consumer in spec.consumers)

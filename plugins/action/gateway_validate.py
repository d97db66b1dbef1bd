# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import compile_gateway
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS


class ActionModule(GatewayAction):
    """Parse, check and compile; the host is not even connected to."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = HOST_OPTIONS
    # A play that only checks has no role to say where Envoy is, and whether a spec is right does not depend on it.
    ENVOY: ClassVar[str | None] = "/usr/bin/envoy"

    def act(self) -> dict[str, Any]:
        self.warn_of_misspelled()
        compiled = compile_gateway(self.raw_spec, self.host(self.options()))
        return {
            "changed": False,
            "findings": [asdict(finding) for finding in compiled.findings],
            "resources": len(compiled.resources),
            "spec_digest": compiled.spec_digest,
            "warnings": [str(finding) for finding in compiled.findings],
        }

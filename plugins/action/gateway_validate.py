# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import PREFIX, SPEC_OPTIONS, GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import compile_gateway
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS

_ALIKE = 0.8


class ActionModule(GatewayAction):
    """Parse, check and compile; the host is not even connected to."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = HOST_OPTIONS
    # A play that only checks has no role to say where Envoy is, and whether a spec is right does not depend on it.
    ENVOY: ClassVar[str | None] = "/usr/bin/envoy"

    def act(self) -> dict[str, Any]:
        for warning in self._misspelled():
            # At once, since it may be why the specification is wrong.
            self._display.warning(warning)
        compiled = compile_gateway(self.raw_spec, self.host(self.options()))
        return {
            "changed": False,
            "findings": [asdict(finding) for finding in compiled.findings],
            "resources": len(compiled.resources),
            "spec_digest": compiled.spec_digest,
            "warnings": [str(finding) for finding in compiled.findings],
        }

    def _misspelled(self) -> list[str]:
        """Variables that nothing reads and that look like one that something does."""
        known = {*SPEC_OPTIONS, *HOST_OPTIONS}
        given = {name.removeprefix(PREFIX) for name in self.variables if name.startswith(PREFIX)}
        return [
            f"{PREFIX}{name}: the collection has no such variable; did you mean {PREFIX}{alike}?"
            for name in sorted(given - known)
            for alike in difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
        ]

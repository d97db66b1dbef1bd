# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError, SecretError, SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_to_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release import rotation
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import HostAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import Compiled
from ansible_collections.gatewayops.openai.plugins.plugin_utils._host_options import HOST_OPTIONS
from ansible_collections.gatewayops.openai.plugins.plugin_utils._released import (
    only_secrets,
    references_of,
    released,
)


class ActionModule(HostAction):
    """Deliver secrets that the task gives, or those that the host's own release refers to."""

    MODULE = "gateway_secrets"
    # Nothing here depends on where Envoy is, nor do the secrets.
    ENVOY: ClassVar[str | None] = "/usr/bin/envoy"
    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **HOST_OPTIONS,
        "host": {"type": "dict"},
        "prune": {"type": "bool"},
    }

    def act(self) -> dict[str, Any]:
        if "secrets" in self._task.args:
            return self._shown(self.call(self.MODULE, self.arguments()), ())
        return self._rotate()

    def _rotate(self) -> dict[str, Any]:
        """Take it that the host serves what the variables say, which takes one round trip; else ask the host."""
        options = self.options()
        host = {"host": options["host"] or host_to_options(self.host(options))}
        specified = self._specified()
        order: dict[str, Any] = {**host, "spec_digest": specified.spec_digest if specified else ""}
        warnings: tuple[str, ...] = ()
        refusal: SecretError | None = None
        if specified is not None:
            try:
                secrets = specified.resolve(self.session())
                order, warnings = {**order, "secrets": secrets.files}, secrets.warnings
            except SecretError as error:
                refusal = error
        answer = self.call(self.MODULE, order)
        if not answer.get("needs_references"):
            return self._shown(answer, warnings)
        if refusal is not None and answer.get("spec_digest") == order["spec_digest"]:
            raise refusal
        return self._rotate_released(host, answer)

    def _rotate_released(self, host: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
        """Deliver what the release on the host refers to, the variables being ahead of it, or wrong."""
        found = released(answer.get("resources"), references_of(self.raw_spec))
        secrets = found.compiled.resolve(self.session())
        order = {**host, "spec_digest": str(answer.get("spec_digest")), "secrets": secrets.files}
        done = self.call(self.MODULE, {**order, "keep_clients": list(found.keep_clients)})
        if done.get("needs_references"):
            raise ReleaseError("another run switched this host to another release meanwhile; nothing was changed")
        if "message" in done:
            done["message"] += f" (the specification is not what release {answer.get('active')} on the host is made of)"
        return self._shown(done, (*secrets.warnings, *found.left))

    def _specified(self) -> Compiled | None:
        """What the variables say; None when they have errors, which are no concern of what the host serves."""
        try:
            return only_secrets(parse_spec(self.raw_spec))
        except SpecError:
            return None

    def _shown(self, answer: dict[str, Any], warnings: tuple[str, ...]) -> dict[str, Any]:
        """The answer, with names in place of a diff."""
        result = {**answer, "warnings": [*answer.get("warnings", ()), *warnings]}
        if self._task.diff and answer.get("changed"):
            shown = rotation.lines(answer.get("rotated", {}), answer.get("changed_names", ()))
            gone = (f"  - secret file {name}" for name in answer.get("removed", ()))
            result["diff"] = {"prepared": "".join(f"{line}\n" for line in (*shown, *gone))}
        return result

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.rate_limit_service import rate_limit_config
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import parse_and_check

_HEAD = "---\n# Written from the specification of the gateways: change that.\n"


class ConfigFileError(GatewayError):
    """The configuration cannot be written or read."""


class ActionModule(GatewayAction):
    """Write the limits on tokens as the rate limit service reads them, on the controller."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"dest": {"type": "path", "required": True}}
    VARIABLES: ClassVar[Mapping[str, str]] = {"dest": "dest"}
    _supports_check_mode = True
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        path = Path(self.options()["dest"])
        spec, _findings = parse_and_check(self.raw_spec)
        if spec.rate_limit_service is None:
            raise OptionsError("gateway_rate_limit_service: is not set, so no service keeps limits")
        after = _HEAD + yaml.safe_dump(rate_limit_config(spec, spec.rate_limit_service), sort_keys=False)
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            changed = before != after
            if changed and not self._task.check_mode:
                # A service that watches the file never sees a part of it.
                whole = path.with_name(f".{path.name}.new")
                whole.write_text(after, encoding="utf-8")
                whole.replace(path)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigFileError(f"the configuration cannot be written: {path}: {reason}") from None
        result: dict[str, Any] = {"changed": changed, "dest": str(path)}
        if changed and self._task.diff:
            result["diff"] = {
                "before": before,
                "after": after,
                "before_header": str(path),
                "after_header": str(path),
            }
        return result

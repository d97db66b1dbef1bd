# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.markdown import render_promotion_markdown
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.promotion import (
    promotion,
    promotion_document,
    render_promotion,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils import _environments
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._fleet import write_file

#: It may be a variable of the environment that is compared, where nobody is asked for it.
_EXPECTED = "gateway_promote_expected"


class ActionModule(GatewayAction):
    """Tell what it would bring to one environment to become as another is; no host and no secret is needed for that."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "from": {"type": "str", "required": True},
        "to": {"type": "str", "required": True},
        "expected": {"type": "list", "elements": "str"},
        "inventories": {"type": "path"},
        "path": {"type": "path"},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {
        "from": "from",
        "to": "to",
        "expected": _EXPECTED,
        "inventories": "gateway_inventories",
        "path": "gateway_promote_file",
    }
    _supports_check_mode = True
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        path = Path(options["path"] or "promote.json")
        if path.suffix == ".md":
            raise OptionsError(f"gateway_promote_file: {path} is the name of the comment beside it; name it .json")
        source, target = (self._environment(options[name], options["inventories"]) for name in ("from", "to"))
        expected = target.variable(_EXPECTED) if options["expected"] is None else options["expected"]
        if not isinstance(expected or [], (list, tuple)):
            raise OptionsError(f"{_EXPECTED}: must be a list of patterns such as gateway_consumers.*.limits")
        found = promotion(
            source.name,
            target.name,
            before=target.resources,
            after=source.resources,
            expected=[str(each) for each in expected or ()],
        )
        self._display.display(render_promotion(found))
        if options["path"]:
            write_file(path, canonical_json(promotion_document(found)) + b"\n", "promotion")
            write_file(path.with_suffix(".md"), render_promotion_markdown(found).encode(), "promotion")
        return {
            "changed": False,
            "pending": bool(found.brings),
            "summary": found.summary,
            "warnings": [
                f"{host} of {each.name} has variables of its own, which are not compared"
                for each in (source, target)
                for host in each.exceptions
            ],
        }

    def _environment(self, name: str, below: str | None) -> _environments.Environment:
        sources = [str(source) for source in self.variables.get("ansible_inventory_sources", ())]
        return _environments.find(name, sources=sources, loader=self._loader, below=below)

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.markdown import render_markdown
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.saved import signed
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.terminal import render_terminal
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.tfjson import plan_document
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._fleet import gather, plan_key, write_file, write_plan
from ansible_collections.gatewayops.openai.plugins.plugin_utils._page.page import render_page
from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import duration


class ActionModule(GatewayAction):
    """Put the plans of all hosts together, tell them, and write them to files beside each other."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "path": {"type": "path", "default": "plan.json"},
        "html": {"type": "path"},
        "environment": {"type": "str"},
        "ttl": {"type": "str", "default": "24h"},
        "key": {"type": "str", "no_log": False},
        "encrypt": {"type": "bool", "default": False},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {
        "path": "gateway_plan",
        "html": "gateway_plan_html",
        "ttl": "gateway_plan_ttl",
        "key": "gateway_plan_key",
        "encrypt": "gateway_plan_encrypt",
    }
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        try:
            lifetime = duration(options["ttl"])
        except ValueError as error:
            raise OptionsError(f"ttl: {error}, such as 24h or 7d: '{options['ttl']}'") from None
        gathered = gather(self, options["environment"], lifetime)
        plan = gathered.plan
        document = plan_document(plan, errored=bool(gathered.failed or gathered.unreachable))
        if options["key"]:
            document = signed(document, plan_key(self, options["key"]))
        path, comment, page = _files(options["path"], options["html"])
        write_plan(self, path, document, encrypt=options["encrypt"])
        write_file(comment, render_markdown(plan).encode())
        write_file(page, render_page(plan).encode(errors="replace"))
        self._display.display(render_terminal(plan))
        return {
            "changed": False,
            "pending": plan.changed,
            "summary": plan.summary,
            "files": [str(path), str(comment), str(page)],
            "unknown": dict(plan.unknown),
        }


def _files(plan: str, html: str | None) -> tuple[Path, Path, Path]:
    """Return where the plan, the comment and the page go. Raises OptionsError when one would overwrite another."""
    path = Path(plan)
    if not path.name:
        raise OptionsError(f"gateway_plan: '{plan}' is no name of a file")
    comment = path.with_suffix(".md")
    page = Path(html or path.with_suffix(".html"))
    if len({path, comment, page}) < 3:
        raise OptionsError(
            f"gateway_plan, gateway_plan_html: the plan ({path}), the comment ({comment}) and the page ({page}) "
            "have to be three files"
        )
    return path, comment, page

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import PREFIX, GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._artifact import default_cache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._fleet import write_file
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.envoy import asked_envoy
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.junit import junit_document
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.run import Fleet
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.sarif import sarif_document
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.terminal import render_terminal

_WORKSPACE = f"{PREFIX}workspace"
#: What the role `envoy` takes where an inventory says nothing.
_PINS = Path(__file__).resolve().parents[2] / "roles" / "envoy" / "defaults" / "main.yml"


class ActionModule(GatewayAction):
    """Validate the specification of every host of the play, without any of them."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sarif": {"type": "path"},
        "junit": {"type": "path"},
        "envoy": {"type": "path"},
        "environment": {"type": "str"},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {
        "sarif": "gateway_validate_sarif",
        "junit": "gateway_validate_junit",
        "envoy": "gateway_validate_envoy",
    }
    ENVOY: ClassVar[str | None] = "/usr/bin/envoy"
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        pins = dict(self._loader.load_from_file(str(_PINS)))
        role = self.elsewhere({**pins, **self.variables})
        cache = role.rendered("envoy_cache_dir") if "envoy_cache_dir" in self.variables else None
        fleet = Fleet(
            asked_envoy(
                options["envoy"] or "",
                {name: role.rendered(name) for name in ("envoy_version", "envoy_checksums")},
                Path(cache).expanduser() if cache else default_cache(),
            )
        )
        workspace = ""
        for name, variables in self._hosts():
            action = self.elsewhere({**pins, **variables})
            action.warn_of_misspelled()
            fleet.add(name, action)
            workspace = workspace or _workspace(action)
        directory = Path(self.variables.get("inventory_dir") or "")
        validation = fleet.validation(options["environment"] or workspace or directory.name)
        self._display.display(render_terminal(validation))
        if options["sarif"]:
            write_file(Path(options["sarif"]), canonical_json(sarif_document(validation)) + b"\n", "report")
        if options["junit"]:
            write_file(Path(options["junit"]), junit_document(validation), "report")
        if validation.errors:
            # Each is on the terminal already.
            return {"changed": False, "failed": True, "msg": validation.summary}
        return {
            "changed": False,
            "summary": validation.summary,
            "envoy": validation.envoy,
            "results": [{**asdict(each), "hosts": list(each.hosts)} for each in validation.results],
        }

    def _hosts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The hosts of the play, each with its variables as they are written."""
        hostvars = self.variables["hostvars"]
        first = self.variables["inventory_hostname"]
        own = hostvars.raw_get(first)
        ours = {name: value for name, value in self.variables.items() if name.startswith((PREFIX, "envoy_"))}
        # What the play sets itself is no host's: it goes before what its hosts have.
        play = {name: value for name, value in ours.items() if name not in own or own[name] != value}
        for name in self.variables["ansible_play_hosts_all"]:
            yield name, {**hostvars.raw_get(name), "hostvars": hostvars, **play}


def _workspace(action: GatewayAction) -> str:
    """Return the workspace of a host; '' where it has none, or what it has is told as an error."""
    try:
        return str(action.rendered(_WORKSPACE) or "") if _WORKSPACE in action.variables else ""
    except OptionsError:
        return ""

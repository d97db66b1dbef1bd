# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan in the layout of `terraform show -json`, so that what reads Terraform's plans reads these.

The layout: https://developer.hashicorp.com/terraform/internals/json-format. Hosts that would change alike are one
module, `module.gateway["FIRST HOST"]`; what belongs to them only is below the key `gateway`, which other readers leave
alone. A thing with a name such as `gateway_models.gpt-5` is `gateway_models.this["gpt-5"]` there, a setting such as
`gateway_size` is `gateway_size.this`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._plan.diff import CREATE, DELETE, ResourceChange
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import FleetPlan, Group, HostPlan, Resources

FORMAT_VERSION = "1.2"
#: Readers want a version of Terraform: the one whose layout this is.
TERRAFORM_VERSION = "1.9.0"
PROVIDER = "registry.terraform.io/gatewayops/openai"
#: The version of what is below the key `gateway`.
PLAN_VERSION = 1
#: What stands for a value that is written in the specification itself.
LITERAL = "(literal)"


def plan_document(plan: FleetPlan, *, errored: bool = False) -> dict[str, Any]:
    """Return the plan as plain JSON. It holds references to secrets, never a secret.

    ``errored`` is whether no plan could be made for some host.
    """
    return {
        "format_version": FORMAT_VERSION,
        "terraform_version": TERRAFORM_VERSION,
        "timestamp": plan.created_at,
        "applyable": plan.changed,
        "complete": not plan.unknown,
        "errored": errored,
        "variables": {},
        "planned_values": _values(plan, after=True),
        "prior_state": {
            "format_version": "1.0",
            "terraform_version": TERRAFORM_VERSION,
            "values": _values(plan, after=False),
        },
        "resource_changes": [_change(group, each) for group in plan.groups for each in _with_unchanged(group.plan)],
        "resource_drift": [_drift(group, what) for group in plan.groups for what in group.plan.drift],
        "output_changes": {},
        "configuration": {"root_module": {}},
        "gateway": {
            "version": PLAN_VERSION,
            "environment": plan.environment,
            "workspace": plan.workspace,
            "commit": plan.commit,
            "expires_at": plan.expires_at,
            "collection_version": plan.collection_version,
            "summary": plan.summary,
            "modules": {_module(group): list(group.hosts) for group in plan.groups},
            "hosts": {host.host: host_document(host) for host in plan.hosts},
            "unknown": dict(plan.unknown),
        },
    }


def _module(group: Group) -> str:
    return f'module.gateway["{group.hosts[0]}"]'


def host_document(host: HostPlan) -> dict[str, Any]:
    """What has to be true of a host when the plan is carried out, and what is then."""
    return {
        "active": host.active,
        "release": host.release,
        "spec_digest": host.spec_digest,
        "envoy_version": host.envoy_version,
        "process": host.process,
        "process_why": list(host.process_why),
        "drift": list(host.drift),
        "in_use": dict(host.in_use),
        "changed": host.changed,
        "findings": [dict(finding) for finding in host.findings],
    }


def _resource(module: str, address: str) -> dict[str, Any]:
    kind, dot, name = address.partition(".")
    found = {
        "address": f"{module}.{kind}.this" + (f'["{name}"]' if dot else ""),
        "module_address": module,
        "mode": "managed",
        "type": kind,
        "name": "this",
        "provider_name": PROVIDER,
    }
    return {**found, "index": name} if dot else found


def _with_unchanged(plan: HostPlan) -> list[ResourceChange]:
    """Return the changes, and what stays as it is: tools that hold plans against rules read the latter, too."""
    changed = {change.address: change for change in plan.changes}
    stays = {
        address: ResourceChange(address, "no-op", plan.before[address], content, ())
        for address, content in plan.after.items()
        if address not in changed
    }
    return [each for _address, each in sorted({**changed, **stays}.items())]


def _change(group: Group, change: ResourceChange) -> dict[str, Any]:
    before = None if change.action == CREATE else change.before
    after = None if change.action == DELETE else change.after
    return {
        **_resource(_module(group), change.address),
        "change": {
            "actions": [change.action],
            "before": before,
            "after": after,
            "after_unknown": {},
            "before_sensitive": _sensitive(before),
            "after_sensitive": _sensitive(after),
        },
    }


def _drift(group: Group, what: str) -> dict[str, Any]:
    """What somebody changed on a host: a file or a directory of the release, by what is wrong with it."""
    path, _space, wrong = what.partition(" ")
    module = _module(group)
    return {
        "address": f'{module}.gateway_files.this["{path}"]',
        "module_address": module,
        "mode": "managed",
        "type": "gateway_files",
        "name": "this",
        "index": path,
        "provider_name": PROVIDER,
        "change": {
            "actions": ["update"],
            "before": {"path": path, "state": "as released"},
            "after": {"path": path, "state": wrong.strip("()") or "changed"},
            "after_unknown": {},
            "before_sensitive": {},
            "after_sensitive": {},
        },
    }


def _sensitive(value: Any) -> Any:
    """Return the shape of Terraform's `after_sensitive`: true where a value is a secret, which is never shown here."""
    if isinstance(value, Mapping):
        return {key: found for key, found in ((key, _sensitive(each)) for key, each in value.items()) if found}
    if isinstance(value, (list, tuple)):
        found = [_sensitive(each) for each in value]
        return found if any(found) else []
    return value == LITERAL


def _values(plan: FleetPlan, *, after: bool) -> dict[str, Any]:
    def child(group: Group) -> dict[str, Any]:
        module = _module(group)
        resources: Resources = group.plan.after if after else group.plan.before
        return {
            "address": module,
            "resources": [
                {**_resource(module, address), "schema_version": 0, "values": content, "sensitive_values": {}}
                for address, content in sorted(resources.items())
            ],
        }

    return {"root_module": {"child_modules": [child(group) for group in plan.groups]}}

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plans of all hosts of a play, put together, and the file that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.parsing.vault import AnsibleVaultError, is_encrypted

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.module_utils._plan.fleet import (
    FleetPlan,
    HostPlan,
    host_plan,
    workspace_of,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    Reference,
    SourceError,
    parse_source,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction
from ansible_collections.gatewayops.openai.plugins.plugin_utils._provenance import collection_version, inventory_commit
from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import time_text

#: The variable that `gateway_plan` is registered as on each host.
REGISTERED = "__gateway_plan"


class PlanFileError(GatewayError):
    """A file of a plan cannot be written or read."""


@dataclass(frozen=True)
class Gathered:
    """The plan of a play's hosts; `failed` are those for which none could be made, `unreachable` were not reached."""

    plan: FleetPlan
    failed: tuple[str, ...]
    unreachable: tuple[str, ...] = ()


def gather(action: GatewayAction, environment: str | None, lifetime: timedelta) -> Gathered:
    """Put together what was registered on the hosts of the play; the others of the group are unknown, and why."""
    plans: list[HostPlan] = []
    unknown: dict[str, str] = {}
    failed, unreachable = [], []
    in_play = set(action.variables.get("ansible_play_hosts_all", ()))
    for host in sorted({*action.fleet, *in_play}):
        result = _registered(action, host)
        if host not in in_play:
            unknown[host] = "left out by --limit"
        elif result.get("unreachable"):
            unreachable.append(host)
            unknown[host] = f"cannot be reached: {_one_line(result)}"
        elif result.get("failed"):
            failed.append(host)
            unknown[host] = f"no plan could be made: {_one_line(result)}"
        elif "planned" not in result:
            unknown[host] = "left out by --tags" if _has_tags(action) else "was not looked at"
        else:
            plans.append(host_plan(host, result["planned"]))
    directory = action.variables.get("inventory_dir") or ""
    now = datetime.now(UTC)
    plan = FleetPlan(
        environment=environment or workspace_of(plans) or Path(directory).name,
        created_at=time_text(now),
        expires_at=time_text(now + lifetime),
        collection_version=collection_version(),
        commit=inventory_commit(directory) or "",
        hosts=tuple(plans),
        unknown=tuple(sorted(unknown.items())),
    )
    return Gathered(plan, tuple(failed), tuple(unreachable))


def _has_tags(action: GatewayAction) -> bool:
    """Whether the run was told to leave out tasks."""
    given = action.variables.get("ansible_run_tags") or ["all"]
    return list(given) != ["all"] or bool(action.variables.get("ansible_skip_tags"))


def _registered(action: GatewayAction, host: str) -> Mapping[str, Any]:
    # Without rendering: a plan holds no template, and rendering one of thousands of models takes seconds.
    found = action.variables["hostvars"].raw_get(host).get(REGISTERED, {})
    return found if isinstance(found, Mapping) else {}


def _one_line(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("msg", "")).split())


def plan_key(action: GatewayAction, given: str) -> str:
    """The key that plans are signed with, from its reference. Raises PlanFileError, SecretError."""
    try:
        source = parse_source(given, allow_path=False)
    except SourceError as error:
        raise PlanFileError(f"gateway_plan_key: {error}") from None
    if not isinstance(source, Reference):
        raise PlanFileError("gateway_plan_key: is not a reference, such as vault://kv/plans#key or env://PLAN_KEY")
    return action.session().resolve([source])[source]


def write_plan(action: GatewayAction, path: Path, document: Mapping[str, Any], *, encrypt: bool) -> None:
    """Write plan.json, with `encrypt` so that only Ansible's vault password opens it. Raises PlanFileError."""
    content = canonical_json(document) + b"\n"
    if encrypt:
        try:
            content = action._loader._vault.encrypt(content)
        except AnsibleVaultError as error:
            raise PlanFileError(f"the plan cannot be encrypted without a vault password: {error.message}") from None
    write_file(path, content)


def read_plan(action: GatewayAction, path: Path) -> Any:
    """Read plan.json, encrypted or not. Raises PlanFileError."""
    try:
        content = path.read_bytes()
        if is_encrypted(content):
            content = action._loader._vault.decrypt(content)
        return json.loads(content)
    except OSError as error:
        raise PlanFileError(f"the plan cannot be read: {path}: {error.strerror}") from None
    except AnsibleVaultError as error:
        raise PlanFileError(f"the plan cannot be decrypted: {path}: {error.message}") from None
    except ValueError:
        raise PlanFileError(f"the plan cannot be read: {path} is not JSON") from None


def write_file(path: Path, content: bytes, what: str = "plan") -> None:
    """Write a file, in place. Raises PlanFileError."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise PlanFileError(f"the {what} cannot be written: {path}: {error.strerror}") from None

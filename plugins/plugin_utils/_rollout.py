# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rollout in batches, by what its tasks registered on each host: who is changed, when it stops, what is said of it.

Nothing here knows Ansible: a host is the results of its tasks, as plain data.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError

Result = Mapping[str, Any]

#: What becomes of a gateway, in the order in which it is told.
CHANGED = "changed and verified"
UNVERIFIED = "changed, not verified"
REMOVED = "removed"
PREDICTED = "would change"
ROLLED_BACK = "rolled back"
FAILED = "failed"
NOT_STARTED = "not started"
UNREACHABLE = "cannot be reached, so it is as it was; the next run brings it"
#: A connection that breaks does not end what it has begun on the host.
LOST = "lost during its change, so it is as it was or changed; the next run brings it"
SAME = "as specified"
_TOLD = (CHANGED, UNVERIFIED, REMOVED, PREDICTED, ROLLED_BACK, FAILED, NOT_STARTED, UNREACHABLE, LOST)
#: With these a run has failed.
WRONG = (ROLLED_BACK, FAILED, NOT_STARTED, UNREACHABLE, LOST)


class RolloutError(GatewayError):
    """A rollout that does not begin: nothing was changed on any host."""


@dataclass(frozen=True)
class HostRun:
    """What the tasks of a rollout registered on a host; empty where a task did not run.

    `plan` is of `gateway_plan`, `result` of `gateway`, `verified` of `gateway_verify`, `back` of the rollback. `error`
    is why the batch failed on this host, '' unless it did. `batch` counts from 1, 0 for a host that was not in one.
    """

    plan: Result = field(default_factory=dict)
    result: Result = field(default_factory=dict)
    verified: Result = field(default_factory=dict)
    back: Result = field(default_factory=dict)
    error: str = ""
    batch: int = 0

    @property
    def is_unreachable(self) -> bool:
        """Whether nothing could be done on it."""
        return bool(self.plan.get("unreachable") or self.result.get("unreachable"))

    @property
    def is_to_change(self) -> bool:
        """Whether it differs from its specification. A gateway to be removed is not held against one."""
        planned = self.plan.get("planned")
        return bool(planned["changed"]) if planned else bool(self.plan.get("skipped"))

    @property
    def was_served(self) -> str:
        """The release that it served before the run, '' for none."""
        return str(self.plan.get("planned", {}).get("active", ""))

    @property
    def is_changed(self) -> bool:
        """Whether the change was made. One that fails is taken back by the host itself."""
        return bool(self.result.get("changed")) and not self.result.get("failed")

    @property
    def is_broken(self) -> bool:
        """Whether the change, or what was asked after it, failed."""
        return bool(self.error or self.verified.get("unreachable"))

    @property
    def can_go_back(self) -> bool:
        """Whether it serves another release now than before, and had one before."""
        digest = self.result.get("digest")
        return bool(self.is_changed and digest and self.was_served and digest != self.was_served)


@dataclass(frozen=True)
class Begun:
    """The hosts that a rollout is for, in the order of the inventory, those that it is not for, and in a line."""

    changing: tuple[str, ...]
    unreachable: tuple[str, ...]
    hosts: int
    summary: str


@dataclass(frozen=True)
class Verdict:
    """Why the rollout stops after a batch, by host; it goes on when there is no reason. `roll_back` are to go back."""

    number: int
    reasons: Mapping[str, str]
    roll_back: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a host, and why."""

    kind: str
    reason: str = ""
    batch: int = 0


def too_many(unreachable: int, hosts: int, most: str) -> bool:
    """Whether more hosts than `most`, a number or a share such as `50%`, cannot be reached. Raises RolloutError."""
    if not re.fullmatch(r"\d+%?", most):
        raise RolloutError(f"gateway_max_unreachable: '{most}' is neither a number of hosts nor a share such as 50%")
    share = most.endswith("%")
    return unreachable * 100 > hosts * int(most[:-1]) if share else unreachable > int(most)


def begin(runs: Mapping[str, HostRun], most_unreachable: str) -> Begun:
    """Say which hosts are to be changed. Raises RolloutError when one cannot be, or too many cannot be reached."""
    unreachable = tuple(host for host, run in runs.items() if run.is_unreachable)
    stuck = (host for host, run in runs.items() if not run.is_unreachable and (run.plan.get("failed") or not run.plan))
    failed = {host: runs[host].plan for host in stuck}
    if failed:
        # One that was not even compared has failed in a task before, which has said why.
        lines = [f"{host}: {one_line(plan) or 'it was not compared, as said above'}" for host, plan in failed.items()]
        raise RolloutError(
            "\n  ".join([f"{_gateways(len(failed))} cannot be as specified; nothing was changed", *lines])
        )
    if too_many(len(unreachable), len(runs), most_unreachable):
        lines = [f"{host}: {one_line(runs[host].plan)}" for host in unreachable]
        head = (
            f"{len(unreachable)} of {_gateways(len(runs))} cannot be reached, gateway_max_unreachable is "
            f"{most_unreachable}; nothing was changed"
        )
        raise RolloutError("\n  ".join([head, *lines]))
    changing = tuple(host for host, run in runs.items() if not run.is_unreachable and run.is_to_change)
    same = len(runs) - len(changing) - len(unreachable)
    parts = [f"{len(changing)} to change", f"{same} as specified"]
    if unreachable:
        parts.append(f"{len(unreachable)} cannot be reached ({', '.join(unreachable)})")
    return Begun(changing, unreachable, len(runs), f"{_gateways(len(runs))}: {', '.join(parts)}")


def judge(
    runs: Mapping[str, HostRun], batch: Collection[str], begun: tuple[int, int], *, rollback: str, most: str
) -> Verdict:
    """Judge the batch that has just ended, of the hosts of the rollout.

    `begun` is how many hosts the run is for, and how many of them could not be reached when it began. `rollback` is
    `batch`, `all` or `none`. A host that cannot be reached any more does not stop the others, unless it was alone in
    its batch, or there are more of them than `most`.
    """
    number = 1 + max((run.batch for run in runs.values()), default=0)
    reasons = {host: _why(runs[host]) for host in batch if runs[host].is_broken}
    roll_back: tuple[str, ...] = ()
    if reasons and rollback != "none":
        among = [host for host, run in runs.items() if host in batch or (rollback == "all" and run.batch)]
        roll_back = tuple(host for host in among if runs[host].can_go_back)
    lost = [host for host in batch if runs[host].is_unreachable]
    if lost and not reasons:
        hosts, before = begun
        gone = before + sum(run.is_unreachable for run in runs.values())
        if len(lost) == len(batch):
            reasons = dict.fromkeys(lost, "nobody in its batch can be reached")
        elif too_many(gone, hosts, most):
            reasons = dict.fromkeys(lost, f"{gone} of {_gateways(hosts)} cannot be reached")
    return Verdict(number, reasons, roll_back)


def outcome(run: HostRun, *, check: bool) -> Outcome:
    """What became of a host."""
    if run.is_unreachable:
        if run.plan.get("unreachable"):
            return Outcome(UNREACHABLE, one_line(run.plan), run.batch)
        return Outcome(UNREACHABLE if check else LOST, one_line(run.result), run.batch)
    if not run.is_to_change:
        return Outcome(SAME)
    if not run.batch:
        return Outcome(NOT_STARTED)
    if run.back and not run.back.get("skipped"):
        return _after_rollback(run)
    if run.is_broken:
        return Outcome(FAILED, "; ".join(filter(None, (_why(run), _left(run)))), run.batch)
    if not run.result.get("changed"):
        return Outcome(SAME)
    if check:
        return Outcome(PREDICTED, batch=run.batch)
    if run.plan.get("skipped"):
        return Outcome(REMOVED, batch=run.batch)
    if run.verified.get("cannot_ask"):
        return Outcome(UNVERIFIED, one_line(run.verified), run.batch)
    return Outcome(UNVERIFIED if run.verified.get("skipped", not run.verified) else CHANGED, batch=run.batch)


def _after_rollback(run: HostRun) -> Outcome:
    why = _why(run) if run.is_broken else "another gateway failed"
    if run.back.get("failed") or run.back.get("unreachable"):
        left = f"it serves {run.result.get('digest')} and could not be brought back: {one_line(run.back)}"
        return Outcome(FAILED, f"{why}; {left}", run.batch)
    return Outcome(ROLLED_BACK, f"{why}; it serves {run.was_served} again", run.batch)


def _why(run: HostRun) -> str:
    if run.error:
        return " ".join(run.error.split())
    if run.verified.get("unreachable"):
        return f"it cannot be reached after its change: {one_line(run.verified)}"
    return one_line(run.verified)


def _left(run: HostRun) -> str:
    """What a host that failed and was not brought back serves, unless its change was not made at all."""
    if not run.is_changed:
        return ""
    digest = run.result.get("digest")
    if not digest:
        return "it was removed"
    if not run.was_served:
        return f"it serves {digest}, since it had no release before"
    return f"it serves {digest}" if run.can_go_back else "its release is as before, and its secrets are the new ones"


def render(outcomes: Mapping[str, Outcome]) -> str:
    """What was and what was not changed, for people: those alike together, batch by batch."""
    lines = [summarize(outcomes)]
    for kind in _TOLD:
        alike: dict[tuple[int, str], list[str]] = {}
        for host, one in outcomes.items():
            if one.kind == kind:
                alike.setdefault((one.batch, one.reason), []).append(host)
        for (batch, reason), hosts in sorted(alike.items(), key=lambda item: item[0][0]):
            where = f" (batch {batch})" if batch else ""
            lines.append(f"  {kind}{where}: {', '.join(hosts)}")
            if reason:
                lines.append(f"      {reason}")
    return "\n".join(lines)


def summarize(outcomes: Mapping[str, Outcome]) -> str:
    """The same in a line."""
    counts = {kind: sum(one.kind == kind for one in outcomes.values()) for kind in (*_TOLD, SAME)}
    told = [f"{counts[kind]} {kind.partition(', so ')[0]}" for kind in counts if counts[kind]]
    stopped = max((one.batch for one in outcomes.values() if one.kind in (FAILED, ROLLED_BACK)), default=0)
    end = f"; stopped at batch {stopped}" if stopped else ""
    return f"Rollout of {_gateways(len(outcomes))}: {', '.join(told)}{end}"


def one_line(result: Result) -> str:
    """The message of a result, in one line."""
    return " ".join(str(result.get("msg", "")).split())


def _gateways(count: int) -> str:
    return f"{count} gateway{'' if count == 1 else 's'}"


def wrong(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """The hosts with which a run has failed, and what is said of each."""
    return {
        host: ": ".join(filter(None, (one.kind, one.reason))) for host, one in outcomes.items() if one.kind in WRONG
    }

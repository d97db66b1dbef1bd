# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases a gateway has served: what `previous` means, and what may be pruned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

#: How many activations are remembered.
LENGTH = 100


@dataclass(frozen=True)
class Activation:
    """One time that a release began to be served; times are UTC, `2026-01-31T12:00:00Z`."""

    digest: str
    applied_at: str
    applied_by: str = ""
    envoy_version: str = ""
    collection_version: str = ""
    inventory_commit: str = ""
    spec_digest: str = ""
    workspace: str = ""


History = Sequence[Activation]


def read(path: Path) -> tuple[Activation, ...]:
    """The activations noted in `path`, oldest first; none when there is no such file or it cannot be read."""
    try:
        return parse(path.read_bytes())
    except OSError:
        return ()


def parse(content: bytes) -> tuple[Activation, ...]:
    """The activations in the content of `history.json`; what is not one is left out (pure)."""
    try:
        entries = json.loads(content)
    except ValueError:
        return ()
    return tuple(
        _activation(entry)
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and entry.get("digest")
    )


def to_bytes(history: History) -> bytes:
    """The content of `history.json`."""
    return json.dumps([asdict(entry) for entry in history], indent=1, sort_keys=True).encode() + b"\n"


def appended(history: History, activation: Activation) -> tuple[Activation, ...]:
    """`history` with one more activation, at most LENGTH of them (pure)."""
    return (*history, activation)[-LENGTH:]


def active(history: History) -> str:
    """The digest of the release that was activated last, '' when none was."""
    return history[-1].digest if history else ""


def previous(history: History, now: str, present: frozenset[str]) -> str:
    """The release that was active before `now`: the last one that differs and is still `present`; '' when none is.

    Going back twice comes back: after A, B, A the previous one is B.
    """
    before = list(history)
    while before and before[-1].digest == now:
        before.pop()
    return next((entry.digest for entry in reversed(before) if entry.digest in present and entry.digest != now), "")


def by_recency(history: History, present: Mapping[str, str]) -> tuple[str, ...]:
    """The releases that are `present` (digest -> when it was staged), the one that was active last first (pure).

    No activation counts as older than one before it, whatever the clock said: it may have been put back.
    """
    last, latest = dict(present), ""
    for entry in history:
        latest = max(latest, entry.applied_at)
        if entry.digest in last:
            last[entry.digest] = latest
    order = {entry.digest: number for number, entry in enumerate(history)}
    return tuple(sorted(last, key=lambda digest: (last[digest], order.get(digest, -1), digest), reverse=True))


def _activation(entry: Mapping[str, object]) -> Activation:
    return Activation(**{field.name: str(entry.get(field.name) or "") for field in fields(Activation)})

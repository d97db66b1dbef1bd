# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    Reference,
    SourceError,
    parse_source,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._keys import (
    ABSENT,
    CREATED_AT,
    CURRENT,
    PRESENT,
    PREVIOUS_ENDS,
    ROTATED,
    Fields,
    Wish,
    outline,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.consumer_key import settle, wrapped
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.kv2 import kv2_secret
from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import duration

_LEAST_BYTES, _MOST_BYTES = 16, 512


class ActionModule(GatewayAction):
    """Make, replace and take back a consumer's key in the store; no host is even connected to."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "path": {"type": "str", "required": True},
        "state": {"type": "str", "choices": [PRESENT, ROTATED, ABSENT], "default": PRESENT},
        "grace": {"type": "str", "default": "24h"},
        "max_age": {"type": "str"},
        "force": {"type": "bool", "default": False},
        "prefix": {"type": "str", "default": "sk-gw-"},
        "bytes": {"type": "int", "default": 32},
        "wrap_ttl": {"type": "str"},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {name: f"gateway_key_{name}" for name in OPTIONS}
    _requires_connection = False

    def act(self) -> dict[str, Any]:
        options = self.options()
        location, wish, mint, wrap_seconds = _read(options)
        check = bool(self._task.check_mode)
        token: dict[str, Any] = {}
        with kv2_secret(self.session().vault, location) as secret:
            outcome = settle(secret, wish, mint, check=check)
            if wrap_seconds and not check:
                # Whoever sees it has the key: it is registered, and not shown even without `no_log`.
                token = {**wrapped(secret, outcome, wrap_seconds), "_ansible_no_log": True}
        changed = outcome.decision.fields is not None
        result = {
            "changed": changed,
            "path": location,
            "version": outcome.version,
            "created_at": outline(outcome.after).get(CREATED_AT, ""),
            "previous_expires_at": outline(outcome.after).get(PREVIOUS_ENDS, ""),
            "message": outcome.decision.message,
            **token,
        }
        if self._task.diff and changed:
            shown = {"before_header": location, "after_header": location}
            result["diff"] = {"before": _lines(outcome.before), "after": _lines(outcome.after), **shown}
        return result


def _read(options: Mapping[str, Any]) -> tuple[str, Wish, Callable[[], str], int]:
    """Where the secret is, what is wished for, what makes a key and for how many seconds it is wrapped (0: not at all).

    Raises OptionsError with a line for each option that is wrong.
    """
    problems: list[str] = []

    def length(name: str, least: int) -> timedelta | None:
        text = options[name]
        if text is None:
            return None
        try:
            value = duration(text)
        except ValueError:
            value = None
        if value is None or value < timedelta(seconds=least):
            problems.append(f"{name} must be a time such as 24h, 90d, 30m or 20s, of {least} seconds or more")
        return value

    grace, max_age, wrap = length("grace", 0) or timedelta(0), length("max_age", 1), length("wrap_ttl", 1)
    if max_age is not None and max_age <= grace:
        problems.append("max_age must be longer than grace: a key is not replaced while the one before it is valid")
    if wrap is not None and options["state"] == ABSENT:
        problems.append("wrap_ttl: with state=absent there is no key to wrap")
    prefix, size = options["prefix"], options["bytes"]
    if not prefix.isascii() or not prefix.isprintable() or " " in prefix:
        problems.append("prefix must be printable ASCII characters without spaces")
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        problems.append(f"bytes must be from {_LEAST_BYTES} to {_MOST_BYTES}")
    location = _location(options["path"])
    if location is None:
        problems.append("path must be MOUNT/PATH of a secret, such as kv/consumers/search")
    if problems or location is None:
        raise OptionsError("\n".join(problems))
    wish = Wish(options["state"], grace, max_age, force=options["force"])
    return location, wish, lambda: prefix + secrets.token_urlsafe(size), int(wrap.total_seconds()) if wrap else 0


def _location(path: str) -> str | None:
    """The path when it is one that a reference may have."""
    try:
        source = parse_source(f"vault://{path}#{CURRENT}", allow_path=False)
    except SourceError:
        return None
    return source.location if isinstance(source, Reference) and source.field == CURRENT else None


def _lines(fields: Fields | None) -> str:
    """What may be shown of a secret, for a diff."""
    return "".join(f"{name}: {shown}\n" for name, shown in outline(fields).items())

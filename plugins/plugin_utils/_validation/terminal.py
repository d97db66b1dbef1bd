# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A validation on the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.model import Result, Validation, Where


def render_terminal(validation: Validation) -> str:
    """Return the validation as text: what was found by the hosts that have it, and the summary."""
    lines: list[str] = []
    for hosts in dict.fromkeys(result.hosts for result in validation.results):
        found = [result for result in validation.results if result.hosts == hosts]
        lines += [f"{', '.join(hosts)}:", *(line for result in found for line in _lines(result)), ""]
    return "\n".join([*lines, validation.summary])


def _lines(result: Result) -> Iterator[str]:
    kind = "excepted" if result.exception else {"deny": "error", "warn": "warning"}[result.severity]
    yield f"  {kind}: {result.text}"
    if result.exception is not None:
        yield f"    {result.excuse}"
    if result.where is not None:
        yield f"    {shown(result.where)}"


def shown(place: Where) -> str:
    """Return a place as editors and terminals take it: the file, seen from here where it is below, and the line."""
    relative = os.path.relpath(place.file)
    file = place.file if relative.startswith("..") else relative
    return f"{file}:{place.line}" if place.line else file

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a spec: collected, so that a user is told everything at once."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SpecProblem
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import nearest
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import variables

# Finding a near name compares with all known ones: hundreds of unknown names are no typing errors, but cost seconds.
_SUGGESTIONS = 100


class Problems:
    """The problems found so far."""

    def __init__(self) -> None:
        self._found: list[SpecProblem] = []
        self._nearest: dict[tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, path: str, message: str) -> None:
        """Note that ``message`` is true of what is at ``path``."""
        self._found.append(SpecProblem(path, message))

    def nearest(self, scope: str, word: str, known: Iterable[str]) -> str:
        """Return the word of ``known`` that ``word`` is probably meant to be, or nothing. ``scope`` names ``known``."""
        if (scope, word) not in self._nearest and len(self._nearest) < _SUGGESTIONS:
            self._nearest[scope, word] = nearest(word, known)
        return self._nearest.get((scope, word), "")

    def sorted(self) -> tuple[SpecProblem, ...]:
        """Return all problems, those of one variable together, the variables in the order of the model."""
        order = {field.key: index for index, field in enumerate(variables())}
        return tuple(sorted(self._found, key=lambda problem: order.get(problem.path.partition(".")[0], len(order))))

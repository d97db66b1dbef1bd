# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which models a pattern stands for, at a cost that grows with what matches and not with what there is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator


class ModelNames:
    """The names of a spec's models, sorted, with a memory of the patterns that were asked for."""

    def __init__(self, names: Iterable[str]) -> None:
        self._sorted = sorted(names)
        self._known = frozenset(self._sorted)
        self._matches: dict[str, tuple[str, ...]] = {}
        self._unions: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sorted)

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Return the names that ``pattern`` stands for, sorted; ``*`` stands for any characters, also none."""
        if "*" not in pattern:
            return (pattern,) if pattern in self._known else ()
        found = self._matches.get(pattern)
        if found is None:
            found = self._matches[pattern] = self._search(pattern)
        return found

    def matching_any(self, patterns: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names that any of ``patterns`` stands for, sorted; equal patterns give the same object."""
        found = self._unions.get(patterns)
        if found is None:
            names = {name for pattern in patterns for name in self.matching(pattern)}
            found = self._unions[patterns] = tuple(sorted(names))
        return found

    def _search(self, pattern: str) -> tuple[str, ...]:
        prefix, *parts, suffix = pattern.split("*")
        first = bisect_left(self._sorted, prefix)
        # Everything that begins with the prefix sorts before the prefix followed by the highest character.
        last = bisect_left(self._sorted, prefix + chr(0x10FFFF), lo=first)
        return tuple(name for name in self._sorted[first:last] if _has(name, len(prefix), parts, suffix))


def _has(name: str, start: int, parts: list[str], suffix: str) -> bool:
    """Say whether ``parts`` follow each other in ``name`` from ``start`` on, before the suffix that ends it."""
    end = len(name) - len(suffix)
    if not name.endswith(suffix):
        return False
    for part in parts:
        found = name.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return start <= end

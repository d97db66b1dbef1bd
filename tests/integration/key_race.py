# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that want the same of one secret at the same time, as several controllers do."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.gatewayops.openai.plugins.plugin_utils._keys import Wish
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.backend_vault import VaultBackend
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.consumer_key import settle
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.kv2 import kv2_secret
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions

_PATIENCE = 60.0


class Result(NamedTuple):
    """What one of them did in one turn: the secret's version after it, and the key that it takes for the right one."""

    turn: int
    changed: bool
    version: int
    key: str


def race(many: int, turns: Sequence[tuple[str, Wish]], options: VaultOptions, directory: Path) -> list[Result]:
    """Have `many` processes go for each secret with its wish, all of them at once, one secret after the other."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(many), context.Queue()
    processes = [
        context.Process(target=_controller, args=(directory / str(number), turns, options, barrier, answers))
        for number in range(many)
    ]
    for process in processes:
        process.start()
    try:
        return [answers.get(timeout=_PATIENCE) for _answer in range(many * len(turns))]
    finally:
        barrier.abort()
        for process in processes:
            process.join(_PATIENCE)


def _controller(
    directory: Path, turns: Sequence[tuple[str, Wish]], options: VaultOptions, barrier: Barrier, answers: Any
) -> None:
    vault = VaultBackend(options, RunCache(directory, os.urandom(16)))
    for turn, (path, wish) in enumerate(turns):
        barrier.wait(_PATIENCE)
        with kv2_secret(vault, path) as secret:
            outcome = settle(secret, wish, lambda: f"sk-{os.urandom(8).hex()}", check=False)
        answers.put(Result(turn, outcome.decision.fields is not None, outcome.version, str(outcome.after["current"])))

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._release import ports, secrets

from .world import World


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """An empty directory, in memory where there is such a place: these tests make and remove many thousand files."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture
def world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A host without a gateway. Its secrets may be on a disk and its ports are asked of nobody; nothing is synced."""
    monkeypatch.setattr(secrets, "_require_memory", lambda device, directory: None)
    monkeypatch.setattr(secrets, "require_tmpfs", lambda directory: None)
    monkeypatch.setattr(ports, "conflicts", lambda wanted, ours: ())
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    return World(directory / "host")

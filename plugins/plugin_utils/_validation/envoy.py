# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Envoy that a controller can ask, without a gateway host."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy_binary import architecture, stage
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError, ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release.binary import Binary


class Asked:
    """An Envoy that is asked, or the reason why none is. Raises GatewayError when the one that was named is none."""

    def __init__(self, path: Path | None, named: str, version: str) -> None:
        self.absent = ""
        self.told = ""
        self._known: dict[str, str] = {}
        self._binary = Binary(str(path), None) if path is not None else None
        if self._binary is None:
            self.absent = f"no Envoy {version} was found on this machine"
            return
        found = self._binary.version()
        if found != version.split(".post")[0]:
            if named:
                raise ReleaseError(f"{path} is Envoy {found}, expected {version}")
            self.absent = f"the Envoy on this machine ({path}) is {found} and not {version}"
            self._binary = None
            return
        self.told = f"Envoy {found}"

    def refusal(self, name: str, files: Mapping[str, bytes]) -> str:
        """Why Envoy refuses a release of that name; '' when it does not, or is not asked."""
        if self._binary is None:
            return ""
        if name not in self._known:
            self._known[name] = self._binary.refusal(files, offline=True)
        return self._known[name]


def asked_envoy(named: str, variables: Mapping[str, Any], cache: Path) -> Asked:
    """Return the Envoy that is ``named``, or that of the role ``envoy`` in its cache, or the one on PATH.

    ``variables`` are those of the role. Nothing is fetched. Raises GatewayError when the one that is named cannot be
    asked.
    """
    version = str(variables["envoy_version"])
    if named:
        return Asked(Path(named).expanduser(), named, version)
    try:
        on_path = shutil.which("envoy")
        return Asked(_cached(variables, cache) or (Path(on_path) if on_path else None), "", version)
    except (GatewayError, OSError) as error:
        asked = Asked(None, "", version)
        asked.absent = f"Envoy cannot be asked on this machine: {error}"
        return asked


def _cached(variables: Mapping[str, Any], cache: Path) -> Path | None:
    """Return the binary of the pinned artifact, where a run has fetched that before; it is unpacked once."""
    checksums = variables["envoy_checksums"]
    checksum = str(checksums.get(architecture(platform.machine()), "")).lower() if checksums else ""
    artifact, binary = cache / checksum, cache / f"envoy-{checksum}"
    if not checksum or not artifact.is_file():
        return None
    if not os.access(binary, os.X_OK):
        stage(cache, artifact).rename(binary)
    return binary

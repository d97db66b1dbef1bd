# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rest of a bundle: what a release puts on the system beside Envoy's own files."""

from __future__ import annotations

import inspect
from types import ModuleType

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import (
    MODE_FILE,
    MODE_SCRIPT,
    BundleFile,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import CompileError
from ansible_collections.gatewayops.openai.plugins.module_utils._host import supervisor, systemd
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import ENCRYPTED, SYSTEMD, Host
from ansible_collections.gatewayops.openai.plugins.module_utils._release import admin, restore_secrets, run_envoy
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec


def compile_host(spec: Spec, host: Host) -> tuple[BundleFile, ...]:
    """The files of a bundle that are not Envoy's: scripts, and the configuration of the service manager (pure)."""
    files = [_script("gateway-admin", admin, host)]
    if host.secrets_persist == ENCRYPTED:
        files.append(_script("restore-secrets", restore_secrets, host))
    if host.service_manager == SYSTEMD:
        files += [BundleFile("host" + path, text.encode(), MODE_FILE) for path, text in systemd.files(spec, host)]
    else:
        _refuse_what_needs_systemd(spec)
        files.append(_script("run-envoy", run_envoy, host))
        files.append(
            BundleFile("supervisor/supervisord.conf", supervisor.configuration(spec, host).encode(), MODE_FILE)
        )
    return tuple(sorted(files, key=lambda file: file.path))


def _refuse_what_needs_systemd(spec: Spec) -> None:
    if spec.prompt_log is not None:
        raise CompileError(
            "gateway_prompt_log: needs the service manager systemd, since nothing here would remove old files"
        )
    for name, given in (("gateway_nftables", spec.nftables), ("gateway_sysctls", spec.sysctls)):
        if given not in (None, ()):
            raise CompileError(f"{name}: needs the service manager systemd, since only root can set it")


def _script(name: str, module: ModuleType, host: Host) -> BundleFile:
    source = f"#!{host.python} -I\n{inspect.getsource(module)}"
    return BundleFile(f"libexec/{name}", source.encode(), MODE_SCRIPT)

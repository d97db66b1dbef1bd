# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be true of a host before a release is switched to, so that nothing begins that cannot end well."""

from __future__ import annotations

# There is no AnsibleModule here whose run_command could be called.
# pylint: disable=ansible-bad-function
import json
import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._release import ports
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Owner


def problems(
    host: Host, files: Mapping[str, bytes], delivered: Iterable[str], pids: Iterable[int], reader: Owner
) -> tuple[str, ...]:
    """Why a release with `files` cannot be served on this host; empty when nothing speaks against it.

    `delivered` are the secret files that come with the release, `pids` the processes that share their ports with it,
    `reader` is Envoy's user.
    """
    return (
        *_absent_secrets(host, files, frozenset(delivered)),
        *_unreadable(files, reader),
        *ports.conflicts(ports.addresses(files), pids),
    )


def secret_files(host: Host, files: Mapping[str, bytes]) -> frozenset[str]:
    """The names of the files with secrets that a release reads (pure)."""
    pattern = re.compile(re.escape(json.dumps(host.secrets_dir)[1:-1]) + r"/([A-Za-z0-9_.-]+)")
    return frozenset(
        name
        for path, content in files.items()
        if path.startswith("envoy/")
        for name in pattern.findall(content.decode("utf-8", "replace"))
    )


def _absent_secrets(host: Host, files: Mapping[str, bytes], delivered: frozenset[str]) -> Iterator[str]:
    for name in sorted(secret_files(host, files) - delivered):
        if not Path(host.secrets_dir, name).is_file():
            yield f"the release reads the secret file {name}, which is neither on this host nor given"


def _unreadable(files: Mapping[str, bytes], reader: Owner) -> Iterator[str]:
    for path, content in files.items():
        if not path.startswith(("envoy/sds-", "envoy/ecds-jwt-issuers")):
            continue
        for name in sorted(set(_filenames(json.loads(content)))):
            if not Path(name).is_file():
                yield f"the certificate, key, CA or JWKS {name} is not on this host"
            elif not _can_read(name, reader):
                yield f"the certificate, key, CA or JWKS {name} cannot be read by the user that Envoy runs as"


def _filenames(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("filename"), str):
            yield value["filename"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _filenames(inner)


def _can_read(path: str, reader: Owner) -> bool:
    if reader is None or os.geteuid() != 0:
        return os.access(path, os.R_OK)
    groups: list[int] = []
    with suppress(KeyError):
        groups = os.getgrouplist(pwd.getpwuid(reader[0]).pw_name, reader[1])
    done = subprocess.run(["test", "-r", path], user=reader[0], group=reader[1], extra_groups=groups, check=False)
    return done.returncode == 0

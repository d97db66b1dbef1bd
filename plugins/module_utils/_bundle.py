# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle: every file that the collection manages on a gateway host, and what its secret files are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import (
    BundleFile,
    decode_files,
    encode_files,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.compile import compile_envoy
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import SecretFile, compile_secrets
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._host.units import compile_host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_resources

__all__ = ["RESOURCES", "Bundle", "BundleFile", "SecretFile", "build_bundle", "decode_files", "encode_files"]

#: The file with the spec as resources, for showing what a release changes.
RESOURCES = "resources.json"


@dataclass(frozen=True)
class Bundle:
    """The files of a release, sorted by path, and the secret files that belong to it. No file holds a secret."""

    files: tuple[BundleFile, ...]
    secrets: tuple[SecretFile, ...]

    @cached_property
    def digest(self) -> str:
        """The name of the release: 16 hexadecimal digits that stand for paths, modes and contents."""
        table = [[file.path, oct(file.mode), digest(file.content)] for file in self.files]
        return digest(canonical_json(table))[:16]


def build_bundle(spec: Spec, host: Host) -> Bundle:
    """Return everything that a gateway of ``spec`` needs on ``host``. Pure: equal arguments give equal bytes.

    Raises :class:`CompileError` when the spec cannot be compiled.
    """
    resources = BundleFile(RESOURCES, canonical_json(spec_resources(spec)))
    files = [*compile_envoy(spec, host), *compile_host(spec, host), resources]
    return Bundle(tuple(sorted(files, key=lambda file: file.path)), compile_secrets(spec))

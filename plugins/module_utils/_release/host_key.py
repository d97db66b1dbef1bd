# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypt with the key of this host, which is what keeps the secrets on its disk from other machines and backups."""

from __future__ import annotations

import shutil
from typing import Protocol

from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import Ops, piped
from ansible_collections.gatewayops.openai.plugins.module_utils._release.restore_secrets import decrypt_command


class Sealer(Protocol):
    """What encrypts so that only this host can decrypt."""

    def problem(self) -> str:
        """Why it cannot be used here; '' when it can."""

    def encrypt(self, name: str, content: bytes) -> bytes:
        """What is decrypted under the same name only, as ASCII text. Raises ReleaseError."""

    def decrypt(self, name: str, text: bytes) -> bytes:
        """What was encrypted. Raises ReleaseError."""


class HostKey:
    """systemd-creds(1). The key is in /var/lib/systemd/credential.secret, and made when there is none.

    Not `auto`, which takes a TPM, too, where there is one: that seals to the state of the firmware, and an update of it
    would leave the gateway without secrets at the very restart that it takes.
    """

    def __init__(self, ops: Ops) -> None:
        self._ops = ops

    def problem(self) -> str:
        """It is a part of systemd."""
        found = shutil.which("systemd-creds")
        return "" if found else "there is no systemd-creds, which comes with systemd 250 and newer"

    def encrypt(self, name: str, content: bytes) -> bytes:
        """At most 1 MiB of `content`."""
        return self._ops.feed(("systemd-creds", "encrypt", "--with-key=host", f"--name={name}", "-", "-"), content)

    def decrypt(self, name: str, text: bytes) -> bytes:
        """At most 1.1 MiB of `text`."""
        return piped(decrypt_command(name), text)

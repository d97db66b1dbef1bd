# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, places and times of the service, which the compiler and the worker on the host both go by."""

from __future__ import annotations

#: The name of the service, of its files on the system and of Envoy's cluster.
SERVICE = "openai-gateway"
#: Where the files on the system go, whatever is in them: unit, user, directories, kernel settings, rotation of logs.
UNIT_FILE = f"/etc/systemd/system/{SERVICE}@.service"
SYSUSERS_FILE = f"/etc/sysusers.d/{SERVICE}.conf"
TMPFILES_FILE = f"/etc/tmpfiles.d/{SERVICE}.conf"
SYSCTL_FILE = f"/etc/sysctl.d/60-{SERVICE}.conf"
LOGROTATE_FILE = f"/etc/logrotate.d/{SERVICE}"
#: Only where secrets are kept over a restart of the machine.
SECRETS_UNIT = f"{SERVICE}-secrets.service"
SECRETS_UNIT_FILE = f"/etc/systemd/system/{SECRETS_UNIT}"
#: Only where the gateway has a packet filter.
NFTABLES_TABLE = "inet openai_gateway"
NFTABLES_FILE = f"/etc/nftables.d/{SERVICE}.nft"
NFTABLES_UNIT = f"{SERVICE}-nftables.service"
NFTABLES_UNIT_FILE = f"/etc/systemd/system/{NFTABLES_UNIT}"
SYSTEM_FILES = (
    *(UNIT_FILE, SYSUSERS_FILE, TMPFILES_FILE, SYSCTL_FILE, LOGROTATE_FILE),
    *(SECRETS_UNIT_FILE, NFTABLES_FILE, NFTABLES_UNIT_FILE),
)

#: The file of prompts and answers. Its name does not end as those of other logs do, which are rotated otherwise.
PROMPT_LOG = "prompts.jsonl"

#: Everything that is written into the directory of the logs, logrotate's files among it; see glob(7).
LOG_FILES = ("*.log", "*.log.[0-9]*", PROMPT_LOG, PROMPT_LOG + ".[0-9]*")

#: What /etc/passwd says of the user, by which it is known to have been made by a release.
USER_NAME = "OpenAI gateway"
USER_HOME = "/nonexistent"

#: Seconds that Envoy has to accept a release when it starts.
START_SECONDS = 60
#: Seconds to stop and to be killed that the service manager grants beyond the draining itself.
STOP_MARGIN = 30


def unit(instance: str) -> str:
    """The name of the unit of an instance."""
    return f"{SERVICE}@{instance}.service"

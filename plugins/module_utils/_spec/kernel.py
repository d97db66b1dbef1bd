# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel of a host lets in, and how it is set: the part of the spec's model about it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Choice,
    Integer,
    KindError,
    ListOf,
    Pairs,
    Text,
    show,
    spec,
)

ACCEPT = "accept"
DROP = "drop"


@dataclass(frozen=True)
class Network(Text):
    """An address or a network, held in its canonical spelling."""

    def convert(self, value: object) -> str:
        text = super().convert(value)
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise KindError(f"{show(text)} must be {self.form}, without bits beside the prefix") from None
        return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


NETWORK = Network(r"^[0-9A-Fa-f:.]+(/[0-9]+)?$", "an address or a network such as 10.0.5.0/24", max_length=64)


@dataclass(frozen=True)
class Nftables:
    """The rules of the gateway's own table."""

    metrics_from: tuple[str, ...] = field(
        default=(),
        metadata=spec(
            ListOf(NETWORK),
            "Who may read the metrics, as addresses and networks, beside the host itself. Nobody else may.",
        ),
    )
    others: str = field(
        default=ACCEPT,
        metadata=spec(
            Choice((ACCEPT, DROP)),
            "What happens to connections that are not for the gateway: V(accept) leaves them to other rules of the "
            "host; V(drop) lets in what C(ports) names, and ICMP.",
        ),
    )
    ports: tuple[int, ...] = field(
        default=(),
        metadata=spec(
            ListOf(Integer(1, 65535)),
            "The other TCP ports of the host that stay open, the one of SSH above all.",
            only_with=("others", DROP),
        ),
    )


#: See sysctl.d(5). What is given to the kernel must not be able to be another line of the file.
SYSCTLS = Pairs(
    Text(r"^[a-z0-9_]+(\.[A-Za-z0-9_-]+)+$", "the name of a kernel setting such as net.core.somaxconn"),
    Text(r"^[!-~]+([ \t][!-~]+)*$", "a value in printable ASCII characters"),
    "kernel setting",
)

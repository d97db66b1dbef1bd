# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections the kernel of a gateway host lets in, see nft(8): a table of the gateway's own, and no other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import ip_address

from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import NFTABLES_FILE, NFTABLES_TABLE
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kernel import DROP, Nftables
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

#: Without these a host does not find its neighbours, its router or its own address: ICMP and ICMPv6 (RFC 4890), which
#: small systems have no names for, and DHCPv6.
_NEEDED_BY_IP = ("meta l4proto { 1, 58 } accept", "ip6 saddr fe80::/10 udp dport 546 accept")


def rules(spec: Spec, nftables: Nftables) -> str:
    """The file that puts the whole table in place of the one that is loaded, in one transaction.

    The comment of the first rule tells which rules are loaded, see `mark_of`.
    """
    lines = tuple(_rules(spec, nftables))
    policy = "drop" if nftables.others == DROP else "accept"
    mark = hashlib.sha256("\n".join((policy, *lines)).encode()).hexdigest()[:16]
    body = "".join(f"    {line}\n" for line in lines)
    return (
        "# Part of a release of the gateway: changes are undone by the next run.\n"
        f"table {NFTABLES_TABLE}\n"
        f"delete table {NFTABLES_TABLE}\n"
        f"table {NFTABLES_TABLE} {{\n"
        "  chain input {\n"
        f"    type filter hook input priority filter; policy {policy};\n"
        f'    iif lo accept comment "{mark}"\n'
        f"{body}"
        "  }\n"
        "}\n"
    )


def mark_of(text: str) -> str:
    """What the first comment in rules says, be they a file of `rules` or a list of what is loaded (pure)."""
    return text.partition(' comment "')[2].partition('"')[0]


def unit() -> str:
    """The unit that loads the rules before there is a network, and when a release changes them."""
    return (
        "# Part of a release of the gateway: changes are undone by the next run.\n"
        "[Unit]\n"
        "Description=Packet filter of the OpenAI gateway\n"
        # nftables.service removes every table that there is before it loads its own.
        "After=nftables.service\n"
        "Before=network-pre.target\n"
        "Wants=network-pre.target\n"
        "DefaultDependencies=no\n"
        "\n[Service]\n"
        "Type=oneshot\n"
        "RemainAfterExit=yes\n"
        f"ExecStart=nft --file {NFTABLES_FILE}\n"
        "CapabilityBoundingSet=CAP_NET_ADMIN\n"
        "NoNewPrivileges=yes\n"
        "ProtectSystem=strict\n"
        "ProtectHome=yes\n"
        "PrivateTmp=yes\n"
    )


def _rules(spec: Spec, nftables: Nftables) -> Iterable[str]:
    yield "ct state established,related accept"
    outside = [listener for listener in spec.listeners if not ip_address(listener.address).is_loopback]
    yield from _open("tcp", {listener.port for listener in outside})
    yield from _open("udp", {listener.port for listener in outside if listener.http3})
    for family, networks in (
        ("ip", [network for network in nftables.metrics_from if ":" not in network]),
        ("ip6", [network for network in nftables.metrics_from if ":" in network]),
    ):
        if networks:
            yield f"{family} saddr {{ {', '.join(networks)} }} tcp dport {spec.metrics.port} accept"
    yield f"tcp dport {spec.metrics.port} drop"
    if nftables.others == DROP:
        yield from _NEEDED_BY_IP
        yield from _open("tcp", set(nftables.ports))


def _open(protocol: str, ports: set[int]) -> Iterable[str]:
    if ports:
        yield f"{protocol} dport {{ {', '.join(map(str, sorted(ports)))} }} accept"

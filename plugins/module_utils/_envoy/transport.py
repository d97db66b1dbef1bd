# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is between a provider's cluster and its wire: TLS."""

from __future__ import annotations

import ipaddress

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl


def is_ip(host: str) -> bool:
    """Say whether a URL's host is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def verified_tls(urls: tuple[BaseUrl, ...], host: Host) -> xds.Config:
    """Return TLS to each URL's host: its name is asked for and found in a certificate that the system's CAs signed."""
    if len(urls) == 1:
        return {"transport_socket": _tls_to(urls[0], host)}
    names = sorted({url.host: url for url in urls}.items())
    return {
        "transport_socket_matches": [
            {"name": name, "match": {"host": name}, "transport_socket": _tls_to(url, host)} for name, url in names
        ]
    }


def _tls_to(url: BaseUrl, host: Host) -> xds.Config:
    address = is_ip(url.host)
    context: xds.Config = {
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "validation_context": {
                "trusted_ca": {"filename": host.ca_file},
                "match_typed_subject_alt_names": [
                    {"san_type": "IP_ADDRESS" if address else "DNS", "matcher": {"exact": url.host}}
                ],
            },
        }
    }
    if not address:
        context["sni"] = url.host
    return xds.extension(
        "envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", **context
    )

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is between a provider's cluster and its wire: TLS, and a forward proxy."""

from __future__ import annotations

import ipaddress
import posixpath

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.proxies import through_proxy
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import (
    authorities_file,
    client_authorities,
    identity_file,
    paths_on_host,
    tls_certificate,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider, ProviderTls
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import HostPath
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl


def is_ip(host: str) -> bool:
    """Say whether a URL's host is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_tls(name: str, trusted: xds.Config, **common: list[str]) -> xds.Config:
    """Return TLS to a host: its name is asked for and found in a certificate that one of the ``trusted`` CAs signed."""
    address = is_ip(name)
    named = [{"san_type": "IP_ADDRESS" if address else "DNS", "matcher": {"exact": name}}]
    context: xds.Config = {
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "validation_context": {"trusted_ca": trusted, "match_typed_subject_alt_names": named},
            **common,
        },
        **({} if address else {"sni": name}),
    }
    return xds.extension(
        "envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", **context
    )


def transport(provider: Provider, host: Host) -> xds.Config:
    """Return what a provider's connections go through: TLS where its URLs say so, and its proxy."""
    found = _verified_tls(provider, host) if provider.base_urls[0].scheme == "https" else {}
    if provider.proxy is None:
        return found
    if "transport_socket_matches" not in found:
        return {"transport_socket": through_proxy(found.get("transport_socket"))}
    return {
        "transport_socket_matches": [
            {**match, "transport_socket": through_proxy(match["transport_socket"])}
            for match in found["transport_socket_matches"]
        ]
    }


def _verified_tls(provider: Provider, host: Host) -> xds.Config:
    """Return TLS to each URL's host: its name is asked for and found in a certificate that a trusted CA signed."""
    tls = provider.tls or ProviderTls()
    names = sorted({tls.server_name or url.host for url in provider.base_urls})
    if len(names) == 1:
        return {"transport_socket": _tls_to(names[0], provider, tls, host)}
    return {
        "transport_socket_matches": [
            {"name": name, "match": {"host": name}, "transport_socket": _tls_to(name, provider, tls, host)}
            for name in names
        ]
    }


def tls_match(provider: Provider, url: BaseUrl) -> xds.Config:
    """Return the metadata of an endpoint by which it gets its TLS, where the provider's hosts have several names."""
    several = len(provider.base_urls) > 1 and url.scheme == "https" and not (provider.tls and provider.tls.server_name)
    return {"envoy.transport_socket_match": {"host": url.host}} if several else {}


def compile_provider_certificates(spec: Spec) -> dict[str, xds.Config]:
    """Return the SDS resources of certificates and CAs that are files on the host, by the name of their file."""
    found = {}
    for provider in spec.providers:
        tls = provider.tls or ProviderTls()
        paths = paths_on_host(tls)
        if paths is not None:
            file = identity_file(provider, tls)
            found[f"sds-{file}"] = host_certificate(file.removesuffix(".json"), *paths)
        if isinstance(tls.ca, HostPath):
            file = authorities_file(provider)
            found[f"sds-{file}"] = host_authorities(file.removesuffix(".json"), tls.ca.path)
    return found


def host_certificate(name: str, certificate: str, private_key: str) -> xds.Config:
    """Return the SDS resource of a certificate whose files are on the host."""
    folder = posixpath.dirname(certificate)
    # Files in one folder are replaced together, by a rename or by a link; elsewhere each is watched by itself.
    together = {"watched_directory": {"path": folder}} if folder == posixpath.dirname(private_key) else {}
    return tls_certificate(name, {"filename": certificate}, {"filename": private_key}, **together)


def host_authorities(name: str, path: str) -> xds.Config:
    """Return the SDS resource of CAs that are a file on the host."""
    return client_authorities(name, {"filename": path}, watched_directory={"path": posixpath.dirname(path)})


def _tls_to(name: str, provider: Provider, tls: ProviderTls, host: Host) -> xds.Config:
    address = is_ip(name)
    named = {
        "match_typed_subject_alt_names": [{"san_type": "IP_ADDRESS" if address else "DNS", "matcher": {"exact": name}}]
    }
    common: xds.Config = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_2"}}
    if tls.ca is None:
        common["validation_context"] = {"trusted_ca": {"filename": host.ca_file}, **named}
    else:
        common["combined_validation_context"] = {
            "default_validation_context": named,
            "validation_context_sds_secret_config": _source(
                authorities_file(provider), host, on_host=isinstance(tls.ca, HostPath)
            ),
        }
    if tls.certificate is not None:
        common["tls_certificate_sds_secret_configs"] = [
            _source(identity_file(provider, tls), host, on_host=paths_on_host(tls) is not None)
        ]
    context: xds.Config = {"common_tls_context": common}
    if not address:
        context["sni"] = name
    return xds.extension(
        "envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", **context
    )


def _source(file: str, host: Host, *, on_host: bool) -> xds.Config:
    source = xds.release_source(host, f"sds-{file}") if on_host else xds.secret_source(host, file)
    return {"name": file.removesuffix(".json"), "sds_config": source}

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fold all files of a release into one static bootstrap, which ``envoy --mode validate`` then checks as a whole.

Envoy validates nothing but the bootstrap it is given, so what it would read later is put in its place. Works from the
files alone: the host that validates a release has no spec.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError

_FOLDER = "envoy/"
_BOOTSTRAP = "bootstrap-blue.json"
_FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
_JWT_AUTHN = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_KEY_AUTH = "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth"

# Stands in for a listener's certificate, which is not there yet when a release is validated. Nobody serves with it.
_CERTIFICATE = (
    "MIIBizCCATGgAwIBAgIUHO0BeuqquoohsrA0fxAE7v23FgowCgYIKoZIzj0EAwIwGjEYMBYGA1UEAwwPdmFsaWRhdGlvbi1v"
    "bmx5MCAXDTI2MTEyNDA5MDYyM1oYDzIxMjYxMDMxMDkwNjIzWjAaMRgwFgYDVQQDDA92YWxpZGF0aW9uLW9ubHkwWTATBgcq"
    "hkjOPQIBBggqhkjOPQMBBwNCAASshz+NkCFOno6RYwdlYC0ZfV/VYk2JZg/KJ2oj2KPwSy7q1bOIsa5kNZLZK/zNpXatIGmv"
    "U6QGqU6KEovRe8lEo1MwUTAdBgNVHQ4EFgQUQkI0Wlsno0I9lKbcQWtouJXTL64wHwYDVR0jBBgwFoAUQkI0Wlsno0I9lKbc"
    "QWtouJXTL64wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAz4Xoc07Tk+5ny1iNod6rpCRuvU1BgQZ3O1Ae"
    "nlgXdagCIE6MFT91x6P8VcFs2Nh14NIumxrWHbTAEaQ9IsUm4xie"
)
_PRIVATE_KEY = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgp9+Q8woMAN6At1s9FJXmPFNURqHB3l1FKf8yDMvflbyhRANC"
    "AASshz+NkCFOno6RYwdlYC0ZfV/VYk2JZg/KJ2oj2KPwSy7q1bOIsa5kNZLZK/zNpXatIGmvU6QGqU6KEovRe8lE"
)
# The same for the public keys of issuers of tokens: that of the certificate.
_KEY_SET = (
    '{"keys":[{"kty":"EC","crv":"P-256",'
    '"x":"rIc_jZAhTp6OkWMHZWAtGX1f1WJNiWYPyidqI9ij8Es","y":"LurVs4ixrmQ1ktkr_M2ldq0gaa9TpAapTooSi9F7yUQ"}]}'
)

# In canonical JSON.
_AUTHORITIES = re.compile(rb'"trusted_ca":\{"filename":"(?:[^"\\]|\\.)*"\}')

Config = dict[str, Any]


def fold(files: Mapping[str, bytes], *, dummy_secrets: bool = True, dummy_authorities: bool = False) -> bytes:
    """Return one static bootstrap, as JSON, of the files of a release (``envoy/…`` to content; others do not matter).

    With ``dummy_secrets`` the result reads no other file than the CAs: keys and certificates are replaced. Without it
    they are read from where the release reads them. With ``dummy_authorities`` the CAs are replaced, too, so that the
    result can be validated where there is no gateway host. Raises :class:`ReleaseError` for files that do not belong
    together.
    """
    try:
        folded = canonical_json(_Fold(files, dummy_secrets=dummy_secrets).bootstrap())
        return _AUTHORITIES.sub(_dummy_authorities, folded) if dummy_authorities else folded
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        # The texts of these errors hold names of files and fields, no secrets: releases have none.
        reason = f"{type(error).__name__} {error}"
        raise ReleaseError(f"the release's files for Envoy do not belong together: {reason}") from error


class _Fold:
    def __init__(self, files: Mapping[str, bytes], *, dummy_secrets: bool) -> None:
        self._files = {
            path[len(_FOLDER) :]: content
            for path, content in files.items()
            if path.startswith(_FOLDER) and path.endswith(".json")
        }
        self._dummy_secrets = dummy_secrets
        self._routes = {route["name"]: route for route in self._all("rds-")}
        self._filters = {named["name"]: named for named in self._all("ecds-")}
        self._certificates = {secret["name"]: secret for secret in self._all("sds-")}
        self._secrets: dict[str, Config] = {}

    def bootstrap(self) -> Config:
        bootstrap: Config = json.loads(self._files[_BOOTSTRAP])
        del bootstrap["admin"]
        del bootstrap["dynamic_resources"]
        static = bootstrap["static_resources"]
        static["listeners"] += [self._listener(listener) for listener in self._resources("lds.json")]
        static["clusters"] += [self._cluster(cluster) for cluster in self._resources("cds.json")]
        static["secrets"] = [self._secrets[name] for name in sorted(self._secrets)]
        return bootstrap

    def _all(self, prefix: str) -> list[Config]:
        names = [name for name in sorted(self._files) if name.startswith(prefix)]
        return [resource for name in names for resource in self._resources(name)]

    def _resources(self, name: str) -> list[Config]:
        resources: list[Config] = json.loads(self._files[name])["resources"]
        for resource in resources:
            del resource["@type"]
        return resources

    def _listener(self, listener: Config) -> Config:
        for chain in listener["filter_chains"]:
            for network_filter in chain["filters"]:
                # The other kind leads to a provider or a forward proxy, and reads nothing.
                if "rds" in network_filter["typed_config"]:
                    self._manager(network_filter["typed_config"])
            if "transport_socket" in chain:
                socket = chain["transport_socket"]["typed_config"]
                # That of HTTP/3 is around the one of TLS.
                self._tls(socket.get("downstream_tls_context", socket)["common_tls_context"])
        return listener

    def _manager(self, manager: Config) -> None:
        name = manager.pop("rds")["route_config_name"]
        manager["route_config"] = {**self._routes[name], "validate_clusters": True}
        for log in manager.get("access_log", ()):
            if log["typed_config"]["@type"] == _FILE_LOG:
                log["typed_config"]["path"] = "/dev/null"
        manager["http_filters"] = [self._filter(http_filter) for http_filter in manager["http_filters"]]

    def _filter(self, http_filter: Config) -> Config:
        discovery = http_filter.get("config_discovery")
        if discovery is None:
            return http_filter
        found = self._filters.get(http_filter["name"])
        if found is not None:
            if self._dummy_secrets and discovery["type_urls"] == [_JWT_AUTHN]:
                self._key_sets(found["typed_config"])
            return {**{key: value for key, value in http_filter.items() if key == "disabled"}, **found}
        if discovery["type_urls"] not in ([_KEY_AUTH], [_JWT_AUTHN]):
            raise KeyError(f"filter {http_filter['name']}")
        if not self._dummy_secrets:
            return http_filter
        if discovery["type_urls"] == [_JWT_AUTHN]:
            return {"name": http_filter["name"], "typed_config": {"@type": _JWT_AUTHN}, "disabled": True}
        keys: Config = {
            "@type": _KEY_AUTH,
            "key_sources": [{"header": "authorization"}],
            "credentials": [{"key": "dummy", "client": "dummy"}],
        }
        return {"name": http_filter["name"], "typed_config": keys}

    def _tls(self, context: Config) -> None:
        """Put certificates and CAs in the place of where they would be read from."""
        self._certificate(context)
        self._authorities(context)

    def _key_sets(self, issuers: Config) -> None:
        for provider in issuers["providers"].values():
            if "filename" in provider.get("local_jwks", {}):
                provider["local_jwks"] = {"inline_string": _KEY_SET}

    def _certificate(self, context: Config) -> None:
        certificates = []
        for config in context.pop("tls_certificate_sds_secret_configs", ()):
            on_host = self._certificates.get(config["name"])
            if self._dummy_secrets:
                pair = {"certificate_chain": _CERTIFICATE, "private_key": _PRIVATE_KEY}
                certificates.append({part: {"inline_string": _pem(part, content)} for part, content in pair.items()})
            elif on_host is not None:
                certificates.append(on_host["tls_certificate"])
            else:
                context["tls_certificate_sds_secret_configs"] = [config]
        if certificates:
            context["tls_certificates"] = certificates

    def _authorities(self, context: Config) -> None:
        combined = context.get("combined_validation_context", context)
        name = combined.get("validation_context_sds_secret_config", {}).get("name")
        if name is None or not (self._dummy_secrets or name in self._certificates):
            return
        dummy = {"trusted_ca": {"inline_string": _pem("certificate_chain", _CERTIFICATE)}}
        found = dummy if self._dummy_secrets else self._certificates[name]["validation_context"]
        del combined["validation_context_sds_secret_config"]
        # What else is asked of the certificate: of a provider's, its name.
        default = context.pop("combined_validation_context", {}).get("default_validation_context", {})
        context["validation_context"] = {**default, **found}

    def _cluster(self, cluster: Config) -> Config:
        for holder in _holders(cluster, "common_tls_context"):
            self._tls(holder["common_tls_context"])
        if self._dummy_secrets:
            # Within the options of a protocol: the filters that each attempt passes, of which some choose others.
            for credential in _holders(cluster.get("typed_extension_protocol_options"), "sds_config"):
                self._credential(credential)
        return cluster

    def _credential(self, credential: Config) -> None:
        del credential["sds_config"]
        name = credential["name"]
        self._secrets[name] = {"name": name, "generic_secret": {"secret": {"inline_string": "dummy"}}}


def _dummy_authorities(_found: re.Match[bytes]) -> bytes:
    return b'"trusted_ca":' + canonical_json({"inline_string": _pem("certificate_chain", _CERTIFICATE)})


def _holders(value: Any, key: str) -> Iterator[Config]:
    """Yield what has ``key`` within a cluster."""
    if isinstance(value, dict):
        if key in value:
            yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _holders(inner, key)


def _pem(part: str, content: str) -> str:
    label = "CERTIFICATE" if part == "certificate_chain" else "PRIVATE KEY"
    lines = [content[start : start + 64] for start in range(0, len(content), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])

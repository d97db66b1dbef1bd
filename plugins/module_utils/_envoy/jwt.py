# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Consumers that show a token (JWT) instead of a key.

What looks like a token takes a route of its own, which has the filter of the keys left out and those of the tokens
put in: so a request with a key costs nothing of it. If that route were missing the filter of the keys would refuse
the token, and if the filters were, nobody would be asking.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import cors, lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import file_of_issuers
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import JwtIssuer, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import HostPath, Reference
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl

ISSUERS_FILE = "ecds-jwt-issuers.json"
CONSUMERS_FILE = "ecds-jwt-consumers.json"

# A key that an issuer has just begun to use is unknown for so long, and one that it has taken back still known.
JWKS_SECONDS = 60
_TIMEOUT = "5s"
# Tokens that were verified already, of each worker: some are used for many requests.
_REMEMBERED = 1000

_LUA = "extensions.filters.http.lua.v3.Lua"
_JWT_AUTHN = "extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_SCHEME = "Bearer "
# Three parts in base64url, the first of which is a JSON object, whose first characters are `{"`.
_SHAPE = f"{_SCHEME}eyJ[A-Za-z0-9_-]*[.][A-Za-z0-9_-]*[.][A-Za-z0-9_-]*"
_ENABLED = xds.typed("config.route.v3.FilterConfig", config={})
_DISABLED = xds.typed("config.route.v3.FilterConfig", disabled=True)


def compile_tokens(spec: Spec) -> dict[str, xds.Config]:
    """Return the ECDS resources about tokens by the name of their file in a release: none without issuers.

    The filter that verifies tokens and the one that knows whose they are have files of their own: where consumers
    change the first stays as it is, with the keys that it has fetched.
    """
    if not spec.jwt_issuers:
        return {}
    files = {CONSUMERS_FILE: xds.discovered_resource(_consumers(spec))}
    if not secret_issuers(spec):
        files[ISSUERS_FILE] = compile_issuers(spec, {})
    return files


def secret_issuers(spec: Spec) -> tuple[JwtIssuer, ...]:
    """Return the issuers whose keys are delivered as secrets are: with one of them, the filter's whole file is."""
    return tuple(issuer for issuer in spec.jwt_issuers if isinstance(issuer.jwks, Reference))


def secret_file(spec: Spec) -> str:
    """Return the name of that file. It stands for all that is in it but the keys, as releases may differ there."""
    return file_of_issuers(canonical_json(compile_issuers(spec, {})))


def compile_issuers(spec: Spec, key_sets: Mapping[str, str]) -> xds.Config:
    """Return the filter that verifies tokens, as an ECDS resource; ``key_sets`` are those of the secret issuers."""
    providers = {issuer.name: _provider(issuer, key_sets.get(issuer.name, "")) for issuer in spec.jwt_issuers}
    names = [{"provider_name": name} for name in providers]
    requires = names[0] if len(names) == 1 else {"requires_any": {"requirements": names}}
    return xds.discovered_resource(
        xds.extension(
            xds.JWT_ISSUERS,
            _JWT_AUTHN,
            providers=providers,
            rules=[{"match": {"prefix": "/"}, "requires": requires}],
            # What is wrong with a token helps nobody but those who make one up.
            strip_failure_response=True,
        )
    )


def compile_token_filters(spec: Spec, host: Host) -> list[xds.Config]:
    """Return the filters of the gateway listener for tokens, which the route of tokens enables."""
    if not spec.jwt_issuers:
        return []
    secret = secret_issuers(spec)
    source = xds.secret_source(host, secret_file(spec)) if secret else xds.release_source(host, ISSUERS_FILE)
    return [
        {**xds.discovered(xds.JWT_ISSUERS, _JWT_AUTHN, source), "disabled": True},
        {**xds.discovered(xds.JWT_CONSUMERS, _LUA, xds.release_source(host, CONSUMERS_FILE)), "disabled": True},
    ]


def with_token_route(spec: Spec, routes: xds.Config) -> xds.Config:
    """Return the gateway's routes with one for requests that show a token and have not been asked whose it is."""
    (host,) = routes["virtual_hosts"]
    # Without consumers there is nobody to ask for.
    if not spec.jwt_issuers or not spec.consumers:
        return routes
    filters = {xds.CONSUMER_KEYS: _DISABLED, xds.JWT_ISSUERS: _ENABLED, xds.JWT_CONSUMERS: _ENABLED}
    matcher = {
        "matcher_list": {
            "matchers": [
                {
                    "predicate": {
                        "single_predicate": {
                            "input": xds.extension(
                                "authorization",
                                "type.matcher.v3.HttpRequestHeaderMatchInput",
                                header_name="authorization",
                            ),
                            "value_match": {"safe_regex": {"google_re2": {}, "regex": _SHAPE}},
                        }
                    },
                    "on_match": {
                        "action": {"name": "route", "typed_config": cors.before_the_consumer("token", filters)}
                    },
                }
            ]
        }
    }
    return {**routes, "virtual_hosts": [{**host, "matcher": xds.with_last(host["matcher"], {"matcher": matcher})}]}


def fetch_cluster_name(issuer: JwtIssuer) -> str:
    """Return the name of the cluster that an issuer's keys are fetched from, which is known without a host."""
    url = issuer.jwks
    return xds.content_name("issuer", issuer.name, {"url": url.text}) if isinstance(url, BaseUrl) else ""


def _provider(issuer: JwtIssuer, key_set: str) -> xds.Config:
    return {
        "issuer": issuer.issuer,
        "audiences": list(issuer.audiences),
        "require_expiration": True,
        # And nowhere else: no token in a URL.
        "from_headers": [{"name": "authorization", "value_prefix": _SCHEME}],
        "payload_in_metadata": issuer.name,
        "jwt_cache_config": {"jwt_cache_size": _REMEMBERED},
        **_keys(issuer, key_set),
    }


def _keys(issuer: JwtIssuer, key_set: str) -> xds.Config:
    jwks = issuer.jwks
    if isinstance(jwks, BaseUrl):
        return {
            "remote_jwks": {
                "http_uri": {"uri": jwks.text, "cluster": fetch_cluster_name(issuer), "timeout": _TIMEOUT},
                "cache_duration": xds.seconds(JWKS_SECONDS),
                # Fetched ahead of need, and a start does not wait for it: who has a key is served meanwhile.
                "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
            }
        }
    if isinstance(jwks, HostPath):
        return {"local_jwks": {"filename": jwks.path}}
    return {"local_jwks": {"inline_string": key_set if isinstance(jwks, Reference) else jwks.text}}


def _consumers(spec: Spec) -> xds.Config:
    script = lua.token_consumer_script(
        [(issuer.name, issuer.claim) for issuer in spec.jwt_issuers],
        [
            (consumer.jwt.issuer, consumer.jwt.value, consumer.name)
            for consumer in spec.consumers
            if consumer.jwt is not None
        ],
    )
    return xds.extension(xds.JWT_CONSUMERS, _LUA, default_source_code={"inline_string": script})

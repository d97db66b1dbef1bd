# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters of the gateway listener, in the order in which a request meets them."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.access import Access
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.jwt import compile_token_filters
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.logs import compile_attempt_log
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import CONSUMERS_FILE
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

HEALTH_PATH = "/healthz"
REQUEST_FILE = "ecds-request.json"
LIMITS_FILE = "ecds-limits.json"
TOKENS_FILE = "ecds-tokens.json"

_LUA = "extensions.filters.http.lua.v3.Lua"
_CHAIN = "extensions.filters.http.filter_chain.v3.FilterChainConfig"


def compile_gateway_filters(spec: Spec, host: Host) -> list[xds.Config]:
    """Return the filter chain of the gateway listener.

    Who is asking, for which model, may they, within their limits. What changes with consumers has files of its own,
    so that the listener stays as it is: a changed listener drains its connections.
    """
    return [
        xds.extension(
            "envoy.filters.http.health_check",
            "extensions.filters.http.health_check.v3.HealthCheck",
            pass_through_mode=False,
            headers=[{"name": ":path", "string_match": {"exact": HEALTH_PATH}}],
        ),
        xds.discovered(
            xds.CONSUMER_KEYS,
            "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
            xds.secret_source(host, CONSUMERS_FILE),
        ),
        *compile_token_filters(spec, host),
        _remember(),
        xds.discovered(xds.READ_MODEL, _LUA, xds.release_source(host, REQUEST_FILE)),
        # Without rules of its own: the routes have them.
        xds.extension(xds.ACCESS_LIST, "extensions.filters.http.rbac.v3.RBAC"),
        xds.discovered(xds.USAGE_LIMITS, _CHAIN, xds.release_source(host, TOKENS_FILE)),
        xds.discovered(xds.REQUEST_LIMITS, _CHAIN, xds.release_source(host, LIMITS_FILE)),
        _refused_key(),
        _router(upstream_log=compile_attempt_log()),
    ]


def compile_egress_filters() -> list[xds.Config]:
    """Return the filter chain of the egress listener."""
    script = {"inline_string": lua.rename_model_script()}
    rename = xds.extension(xds.RENAME_MODEL, _LUA, default_source_code=script)
    # The routes that need it enable it.
    return [_refused_key(), {**rename, "disabled": True}, _router()]


def compile_request_filter(
    access: Access, endpoints: lua.Resources, *, to_anthropic: bool = False, prompts: str = ""
) -> xds.Config:
    """Return the filter that reads the model and knows who may use what, as an ECDS resource.

    It also writes the provider's name of the model into the body, where the route goes there and says so; and with
    ``to_anthropic`` it refuses what cannot be translated for a provider of that type. ``prompts`` is a script that
    notes some.
    """
    script = lua.read_model_script(access.members, endpoints, to_anthropic=to_anthropic, more=prompts)
    source = {"inline_string": script}
    return xds.discovered_resource(xds.extension(xds.READ_MODEL, _LUA, default_source_code=source))


def _refused_key() -> xds.Config:
    """Return the filter that words a provider's 401 anew. The routes configure it: a 401 of the gateway has none."""
    return xds.extension(xds.REFUSED_KEY, "extensions.filters.http.custom_response.v3.CustomResponse")


def _remember() -> xds.Config:
    """Return the filter that notes who asks for what: what says so is gone, or another, when the request is logged."""
    noted = (
        (xds.CONSUMER_STATE, f"REQ({xds.CONSUMER})"),
        (xds.REQUEST_ID_STATE, f"REQ({xds.REQUEST_ID})"),
        (xds.PATH_STATE, "PATH(NQ)"),
    )
    return xds.extension(
        "remember",
        "extensions.filters.http.set_filter_state.v3.Config",
        on_request_headers=[
            {
                "object_key": key,
                "factory_key": "envoy.string",
                "format_string": {"text_format_source": {"inline_string": f"%{operator}%"}},
            }
            for key, operator in noted
        ],
    )


def _router(**extra: Any) -> xds.Config:
    return xds.extension(
        "envoy.filters.http.router", "extensions.filters.http.router.v3.Router", suppress_envoy_headers=True, **extra
    )

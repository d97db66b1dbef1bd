# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The answers that Envoy gives by itself, in the shape of OpenAI's errors, which every client library understands."""

from __future__ import annotations

from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.concurrency import has_full_providers, is_limited
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

_INVALID = "invalid_request_error"
# Within the gateway only: "Proxy Authentication Required", which Envoy never answers by itself.
_REFUSED_KEY = 407
_INCORRECT_KEY = "Incorrect API key provided."
# Memory comes back as answers end, which takes longer than other limits.
_OVERLOADED_SECONDS = "5"
_UNREACHED = "The model's provider could not be reached."


def compile_gateway_replies(spec: Spec) -> xds.Config:
    """Return how the gateway listener words its errors. The first mapper that fits is used.

    407, 502 and a 401 of a request that was let in are failures of the provider of a model that has no other, or of an
    endpoint; the last is a credential that could not be read.
    """
    return {
        "mappers": [
            _refused_mapper(),
            *(_token_mappers() if spec.jwt_issuers else ()),
            _mapper(
                _all(xds.status_filter(401), _has_header(xds.ACCESS)),
                _UNREACHED,
                "server_error",
                code="unavailable",
                status_code=503,
            ),
            _mapper(xds.status_filter(502), _UNREACHED, "server_error", code="unavailable", status_code=503),
            _mapper(xds.status_filter(401), _INCORRECT_KEY, _INVALID, code="invalid_api_key"),
            _mapper(
                _all(xds.status_filter(403), _has_header(xds.MODEL)),
                f"This API key is not allowed to use the model '%REQ({xds.MODEL})%'.",
                _INVALID,
                param="model",
                code="model_not_allowed",
            ),
            _mapper(xds.status_filter(403), "%LOCAL_REPLY_BODY%", _INVALID, code="no_access"),
            _mapper(
                _all(xds.status_filter(404), _has_header(xds.MODEL)),
                f"The model '%REQ({xds.MODEL})%' does not exist.",
                _INVALID,
                param="model",
                code="model_not_found",
            ),
            _mapper(xds.status_filter(404), "Invalid URL (%REQ(:METHOD)% %PATH(NQ)%).", _INVALID, code="unknown_url"),
            _mapper(xds.status_filter(405), "%LOCAL_REPLY_BODY%", _INVALID, code="method_not_allowed"),
            _mapper(
                xds.status_filter(400),
                "%LOCAL_REPLY_BODY%",
                _INVALID,
                param=f"%RESP({xds.PARAM})%",
                code="invalid_request",
            ),
            _mapper(
                xds.status_filter(413),
                f"The request body is larger than {_size(spec.max_request_size)}.",
                _INVALID,
                code="request_too_large",
            ),
            _mapper(
                xds.status_filter(429),
                f"Rate limit reached for %RESP({xds.LIMIT})%. Please try again in %RESP(retry-after)%s.",
                "requests",
                code="rate_limit_exceeded",
            ),
            # The script that knows what is owed says when instead of "later".
            _mapper(
                xds.status_filter(402),
                f"Rate limit reached for %RESP({xds.SPENT_LIMIT})%. Please try again later.",
                "tokens",
                code="rate_limit_exceeded",
                status_code=429,
            ),
            *([_full_mapper()] if is_limited(spec) else ()),
            # A 503 before a request is read, a 500 while it is sent.
            _mapper(
                _detail(" == 'overload'"),
                "The gateway has more requests than it can serve now. Please try again in a few seconds.",
                "server_error",
                code="overloaded",
                status_code=503,
                headers_to_add=[_header("retry-after", _OVERLOADED_SECONDS)],
            ),
            *_service_mappers(spec),
            _mapper(xds.status_filter(504), "The model did not answer in time.", "server_error", code="timeout"),
            _mapper(xds.status_filter(503), "The model is not available now.", "server_error", code="unavailable"),
            _mapper(xds.status_filter(500, "GE"), "The gateway failed.", "server_error", code="internal_error"),
            _mapper(xds.status_filter(400, "GE"), "%LOCAL_REPLY_BODY%", _INVALID, code="invalid_request"),
        ]
    }


def compile_egress_replies(spec: Spec) -> xds.Config:
    """Return how the egress listener words its errors. They are failures of a provider: a fallback may still serve.

    A 401 of its own is a credential that could not be read, a 404 a deployment that is not there.
    """
    timeout = "The model's provider did not answer in time."
    return {
        "mappers": [
            _refused_mapper(),
            *([_full_mapper(_header(xds.FULL, "yes"))] if has_full_providers(spec) else ()),
            _mapper(xds.status_filter(504), timeout, "server_error", code="timeout"),
            _mapper(xds.status_filter(400, "GE"), _UNREACHED, "server_error", code="unavailable", status_code=503),
        ]
    }


def compile_refused_key() -> xds.Config:
    """Return what becomes of a provider's 401, for the routes that lead to providers.

    The gateway's own key is wrong, which is no fault of the client. It becomes an answer of the gateway, which words
    it as a 502: a fallback may still serve. The provider's text, which repeats a part of the key, is dropped.
    """
    policy = xds.extension(
        "refused_key",
        "extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
        status_code=_REFUSED_KEY,
    )
    status = xds.extension("status", "type.matcher.v3.HttpResponseStatusCodeMatchInput")
    matcher = {"matcher_tree": {"input": status, "exact_match_map": {"map": {"401": {"action": policy}}}}}
    return xds.typed("extensions.filters.http.custom_response.v3.CustomResponse", custom_response_matcher=matcher)


def _size(value: int) -> str:
    """Write a number of bytes, which is one of whole KiB."""
    return f"{value // 1024**2} MiB" if value % 1024**2 == 0 else f"{value // 1024} KiB"


def _mapper(
    filter_: xds.Config, message: str, kind: str, *, code: str, param: str | None = None, **extra: Any
) -> xds.Config:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"filter": filter_, "body_format_override": {"json_format": {"error": error}}, **extra}


def _refused_mapper() -> xds.Config:
    refused = "The model's provider refused the gateway's key."
    return _mapper(xds.status_filter(_REFUSED_KEY), refused, "server_error", code="refused_key", status_code=502)


def _full_mapper(*more_headers: xds.Config) -> xds.Config:
    """Return what is said when a provider or a model is full; nobody knows which by now."""
    return _mapper(
        {"response_flag_filter": {"flags": ["UO"]}},
        "Too many requests are open at a time. Please try again in a second.",
        "requests",
        code="concurrent_requests_exceeded",
        status_code=429,
        headers_to_add=[_header("retry-after", "1"), *more_headers],
    )


def _token_mappers() -> list[xds.Config]:
    """Return what becomes of Envoy's words about tokens, which would be a 403 for one that is made for others.

    A token that cannot be judged is not the client's fault, and may be good in a moment.
    """
    unknown = _mapper(
        _all(xds.status_filter(401), _detail(".contains('Jwks_remote_fetch_is_failed')")),
        "The keys of the token's issuer are not available now.",
        "server_error",
        code="unavailable",
        status_code=503,
    )
    nobody = _all(xds.status_filter(403), _has_header(xds.CONSUMER, invert_match=True))
    return [unknown, _mapper(nobody, _INCORRECT_KEY, _INVALID, code="invalid_api_key", status_code=401)]


def _service_mappers(spec: Spec) -> list[xds.Config]:
    """Return what is said to who has limits on tokens when the service that keeps them does not answer."""
    if spec.rate_limit_service is None or spec.rate_limit_service.on_failure != "deny":
        return []
    return [
        _mapper(
            _all(xds.status_filter(503), _detail(" == 'rate_limiter_error'")),
            "The gateway cannot look at your limits now. Please try again later.",
            "server_error",
            code="rate_limit_service_unavailable",
        )
    ]


def _detail(condition: str) -> xds.Config:
    """Return a filter for what the details of an answer are."""
    return {
        "extension_filter": xds.extension(
            "envoy.access_loggers.extension_filters.cel",
            "extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=f"response.code_details{condition}",
        )
    }


def _header(name: str, value: str) -> xds.Config:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _has_header(name: str, **extra: bool) -> xds.Config:
    return {"header_filter": {"header": {"name": name, "present_match": True, **extra}}}


def _all(*filters: xds.Config) -> xds.Config:
    return {"and_filter": {"filters": list(filters)}}

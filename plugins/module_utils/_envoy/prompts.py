# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prompts and answers of the consumers that a spec names, in a file of their own; of nobody else, and no longer.

The script prompts.lua notes them as dynamic metadata of a namespace that nothing but this file's logger reads.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import lua, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import PROMPT_LOG
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.patterns import ModelNames

_NAMESPACE = "gw.prompts"
_ABOUT = ("time", "request_id", "consumer", "gen_ai.operation.name", "gen_ai.request.model", "gen_ai.response.model")
_OUTCOME = ("http.response.status_code", "details", "flags")


def prompts_script(spec: Spec) -> str:
    """Return what is put after the other scripts of a request; nothing where no prompt is logged."""
    log = spec.prompt_log
    if log is None:
        return ""
    names = ModelNames(consumer.name for consumer in spec.consumers).matching_any(log.consumers)
    return lua.prompts_script(names, log.until, log.max_size)


def compile_prompt_log(spec: Spec, host: Host, fields: Mapping[str, str]) -> list[xds.Config]:
    """Return the access logger of the file; ``fields`` are those of the access log."""
    if spec.prompt_log is None:
        return []
    log_format = {
        **{name: fields[name] for name in (*_ABOUT, *_OUTCOME)},
        "request.body": _noted("request"),
        "request.body_cut": _noted("request_cut"),
        "response.body": _noted("response"),
        "response.body_cut": _noted("response_cut"),
        "response.text": _noted("text"),
        "response.text_cut": _noted("text_cut"),
    }
    logger = xds.extension(
        "envoy.access_loggers.file",
        "extensions.access_loggers.file.v3.FileAccessLog",
        path=posixpath.join(host.log_dir, PROMPT_LOG),
        log_format={"json_format": log_format},
    )
    filters = [_has("request", there=True), _has("over", there=False)]
    return [{**logger, "filter": {"and_filter": {"filters": filters}}}]


def _noted(name: str) -> str:
    return f"%DYNAMIC_METADATA({_NAMESPACE}:{name})%"


def _has(name: str, *, there: bool) -> xds.Config:
    # An access log does not look at "invert": what is there and true is never false.
    value = {"present_match": True} if there else {"bool_match": False}
    matcher = {"filter": _NAMESPACE, "path": [{"key": name}], "value": value}
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": not there}}

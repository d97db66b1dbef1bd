# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The providers of a gateway: the part of the spec's model about the services that models are served by."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import (
    Choice,
    ListOf,
    SourceKind,
    Text,
    spec,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Source
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.urls import BaseUrl, Url

#: The version of Azure's API that has the paths and the bodies of everybody else's.
AZURE_V1 = "v1"


@dataclass(frozen=True)
class Provider:
    """A service that models are served by."""

    name: str
    type: str = field(
        metadata=spec(
            Choice(("openai", "azure_openai", "openai_compatible"), unsupported=("anthropic",)),
            "Which dialect of the OpenAI API the provider speaks.",
        )
    )
    base_urls: tuple[BaseUrl, ...] = field(
        metadata=spec(
            ListOf(Url(), minimum=1, or_one=True),
            "The URL that the paths of the API follow, such as C(https://api.openai.com/v1), or a list of URLs that "
            "requests are spread over. The URLs of one provider differ in host and port only.",
            key="base_url",
        )
    )
    api_key: Source | None = field(
        default=None,
        metadata=spec(SourceKind(allow_path=False), "A reference to the key that is sent to the provider."),
    )
    api_version: str | None = field(
        default=None,
        metadata=spec(
            Text(r"^[A-Za-z0-9._-]+$", "a version such as '2024-10-21', or 'v1'", max_length=64),
            "The version of the API: V(v1), which has no version in its URLs and the name of the deployment in the "
            "body, or a dated one.",
            only_with=("type", "azure_openai"),
        ),
    )
    stream_usage: str | None = field(
        default=None,
        metadata=spec(
            Choice(("ask", "as_is")),
            "With V(ask) the gateway asks for the usage of every stream (C(stream_options.include_usage)), and hides "
            "it from clients that did not ask themselves. With V(as_is) requests stay as clients send them, for a "
            "provider that refuses C(stream_options); the usage of a stream is then known only if the client asked. "
            "It is asked for where all targets and fallbacks of a model can be asked. The default is V(ask), but "
            "V(as_is) for C(azure_openai) with an C(api_version) before 2024-09-01, which does not know it.",
        ),
    )

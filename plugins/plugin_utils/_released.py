# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secret files of a release that a host serves, from what the host says that the release is made of.

A host is trusted less than the controller: what it says decides what is read here and sent there. So a reference is
followed only when the variables have it too. Whoever has taken over a host learns no other secret, and has neither a
file of the controller read nor a lookup plugin called. What is not followed, such as the key of a consumer that is no
longer in the variables, stays as it is on the host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import jwt
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import (
    file_of_clients,
    file_of_collector,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secrets import (
    authorities_file,
    compile_secrets,
    identity_file,
    listener_file,
    provider_file,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError, SpecError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import KindError, plain_text
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    Literal,
    Reference,
    Source,
    SourceError,
    parse_source,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.resources import spec_variables
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.table import WORKSPACES
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import Compiled

#: Stands for a value that is written in a spec; for a certificate it has to look like one to be parsed.
_LITERAL = "(literal)"
_LITERAL_PEM = f"-----BEGIN {_LITERAL}"
_SITE = "run gatewayops.openai.site to have it delivered"


@dataclass(frozen=True)
class Released:
    """What can be rotated of a release, a sentence for all else, and the consumers whose keys stay as they are."""

    compiled: Compiled
    left: tuple[str, ...]
    keep_clients: tuple[str, ...] = ()


def released(resources: Any, known: Collection[Reference]) -> Released:
    """Read what a release is made of; `known` are the references that the variables have.

    Raises ReleaseError when it cannot be read, as when a newer collection has made it.
    """
    try:
        spec = parse_spec(_parseable(spec_variables(resources)))
    except (SpecError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        why = error.errors[0] if isinstance(error, SpecError) else type(error).__name__
        raise ReleaseError(
            f"what the release on this host is made of cannot be read by this collection ({why}); {_SITE}"
        ) from None
    left = {name: why for name, sources in _sources(spec) if (why := _obstacle(sources, known))}
    keep = {each.name: why for each in spec.consumers if (why := _obstacle(each.api_keys, known))}
    consumers = (replace(each, api_keys=()) if each.name in keep else each for each in spec.consumers)
    files = compile_secrets(replace(spec, consumers=tuple(consumers)))
    return Released(
        Compiled(spec, (), Bundle((), tuple(file for file in files if file.name not in left))),
        (
            *(f"the keys of consumer {name} stay as they are: {why}" for name, why in keep.items()),
            *(f"{name} stays as it is: {why}" for name, why in left.items()),
        ),
        tuple(keep),
    )


def only_secrets(spec: Spec) -> Compiled:
    """A spec with its secret files and nothing else; no host is needed for that."""
    return Compiled(spec, (), Bundle((), compile_secrets(spec)))


def references_of(raw: Mapping[str, Any]) -> frozenset[Reference]:
    """Every reference in the variables of a spec, but for those in the layers of other workspaces."""
    layers = raw.get(WORKSPACES)
    own = layers.get(str(raw.get("gateway_workspace"))) if isinstance(layers, Mapping) else None
    return references_in({**raw, WORKSPACES: own})


def references_in(raw: object, depth: int = 12) -> frozenset[Reference]:
    """Every reference in what a user wrote, be the rest of it right or wrong."""
    return frozenset(_references(raw, depth))


def _references(raw: object, depth: int) -> Iterator[Reference]:
    if isinstance(raw, (Mapping, list, tuple)):
        # YAML anchors can make a list that contains itself.
        for inner in (raw.values() if isinstance(raw, Mapping) else raw) if depth else ():
            yield from _references(inner, depth - 1)
        return
    try:
        source = parse_source(plain_text(raw), allow_path=True)
    except (KindError, SourceError):
        return
    if isinstance(source, Reference):
        yield source


def _parseable(raw: dict[str, Any]) -> dict[str, Any]:
    """The variables, with what parses as a literal where a certificate was written in the spec."""
    for entry in (*raw.get("gateway_listeners", {}).values(), *raw.get("gateway_providers", {}).values()):
        tls = entry.get("tls", {})
        tls.update({key: _LITERAL_PEM for key, value in tls.items() if value == _LITERAL})
    otlp = raw.get("gateway_otlp", {})
    if otlp.get("ca") == _LITERAL:
        otlp["ca"] = _LITERAL_PEM
    return raw


def _sources(spec: Spec) -> Iterator[tuple[str, list[Source]]]:
    """Each secret file with what it is made from, but for that of the consumers."""
    for provider in spec.providers:
        if provider.api_key is not None:
            yield provider_file(provider), [provider.api_key]
        if provider.tls is not None and provider.tls.certificate is not None and provider.tls.private_key is not None:
            yield identity_file(provider, provider.tls), [provider.tls.certificate, provider.tls.private_key]
        if provider.tls is not None and provider.tls.ca is not None:
            yield authorities_file(provider), [provider.tls.ca]
    if spec.otlp is not None:
        for name, source in spec.otlp.headers:
            yield file_of_collector(name, spec.otlp.endpoint.text), [source]
    for listener in spec.listeners:
        if listener.tls is not None:
            yield listener_file(listener.name), [listener.tls.certificate, listener.tls.private_key]
        if listener.tls is not None and listener.tls.client_ca is not None:
            yield file_of_clients(listener.name), [listener.tls.client_ca]
    if jwt.secret_issuers(spec):
        yield jwt.secret_file(spec), [each.jwks for each in spec.jwt_issuers if isinstance(each.jwks, Reference)]


def _obstacle(sources: Sequence[Source], known: Collection[Reference]) -> str:
    """Why what is made from the sources cannot be rotated; '' when it can."""
    if any(isinstance(source, Literal) for source in sources):
        return f"a value is written in the specification itself; {_SITE}"
    strange = [each.text for each in sources if isinstance(each, Reference) and each not in known]
    return f"the host names {', '.join(strange)}, which the variables do not; {_SITE}" if strange else ""

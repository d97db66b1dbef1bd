# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.access import allowed_models
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Consumer, Listener, Spec
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import AZURE_V1
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Literal, Reference
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.checks import PROFILES, report, run_checks
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.client import Endpoint
from ansible_collections.gatewayops.openai.plugins.module_utils._verify.model import Expectation
from ansible_collections.gatewayops.openai.plugins.plugin_utils._action import GatewayAction, OptionsError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._compile import parse_and_check
from ansible_collections.gatewayops.openai.plugins.plugin_utils._task import failure

_OWN = (
    "profile",
    "from",
    "consumer",
    "url",
    "chat_model",
    "embedding_model",
    "responses_model",
    "ca_file",
    "validate_certs",
    "client_cert",
    "client_key",
    "timeout",
)


class ActionModule(GatewayAction):
    """Work out from the spec what a client should see, and ask: from here, or from the host itself."""

    OPTIONS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "profile": {"type": "str", "choices": list(PROFILES), "default": "smoke"},
        "from": {"type": "str", "choices": ["controller", "host"], "default": "controller"},
        "consumer": {"type": "str"},
        "url": {"type": "str"},
        "chat_model": {"type": "str"},
        "embedding_model": {"type": "str"},
        "responses_model": {"type": "str"},
        "ca_file": {"type": "str"},
        "validate_certs": {"type": "bool", "default": True},
        "client_cert": {"type": "str"},
        "client_key": {"type": "str"},
        "timeout": {"type": "float", "default": 60.0},
    }
    VARIABLES: ClassVar[Mapping[str, str]] = {name: f"gateway_verify_{name}" for name in _OWN}

    def act(self) -> dict[str, Any]:
        options = self.options()
        spec, _findings = parse_and_check(self.raw_spec)
        try:
            key, expected = self._asker(_askers(spec, options))
            endpoint = self._endpoint(_listener(spec), options)
        except VerifyError as error:
            return {**failure(error), "cannot_ask": True}
        if options["from"] == "host":
            asked = {"profile": options["profile"], "key": key}
            return self.call("gateway_probe", {**asdict(endpoint), **asdict(expected), **asked})
        return report(run_checks(endpoint, key, expected, options["profile"]), endpoint.url)

    def _asker(self, askers: Sequence[tuple[Consumer, Expectation]]) -> tuple[str, Expectation]:
        """The first of them that has a valid key, which is returned, and what it should see."""
        session = self.session()
        for consumer, expected in askers:
            for source in consumer.api_keys:
                if isinstance(source, Literal):
                    return source.value, expected
                if isinstance(source, Reference):
                    key = session.resolve([source], may_end=[source])[source]
                    if key:
                        return key, expected
        names = ", ".join(consumer.name for consumer, _expected in askers)
        raise VerifyError(
            f"gateway_consumers: there is no key to ask with: those of {names} have ended, or they have none"
        )

    def _endpoint(self, listener: Listener, options: Mapping[str, Any]) -> Endpoint:
        url, address = options["url"], None
        if url is None:
            if _asks_for_certificate(listener) and options["client_cert"] is None:
                raise VerifyError(
                    f"gateway_listeners.{listener.name} asks clients for a certificate, as the others do: "
                    "set gateway_verify_client_cert, and gateway_verify_client_key where that is a file of its own"
                )
            address = self._address(listener, options["from"])
            # A certificate names the host, so that is what an HTTPS listener is asked as, wherever it is reached.
            host = address if listener.tls is None else str(self.variables.get("inventory_hostname"))
            scheme = "http" if listener.tls is None else "https"
            url = f"{scheme}://{_bracketed(host)}:{listener.port}"
        return Endpoint(
            url=url,
            address=address,
            ca_file=options["ca_file"],
            validate_certs=options["validate_certs"],
            timeout=options["timeout"],
            client_cert=options["client_cert"],
            client_key=options["client_key"],
        )

    def _address(self, listener: Listener, side: str) -> str:
        """Where to connect to from that side."""
        address = ipaddress.ip_address(listener.address)
        here = side == "host" or self.is_local
        if address.is_loopback and not here:
            raise VerifyError(
                f"gateway_listeners.{listener.name} is on {address}, which only the host itself reaches: "
                "set gateway_verify_from to host, or gateway_verify_url to where the controller reaches it"
            )
        if not address.is_unspecified:
            return str(address)
        if here:
            return "127.0.0.1" if address.version == 4 else "::1"
        return str(self.rendered("ansible_host" if "ansible_host" in self.variables else "inventory_hostname"))


def _listener(spec: Spec) -> Listener:
    """The first that clients on other hosts use, without certificates if there is one; else the first of all."""
    rank = [(_asks_for_certificate(one), ipaddress.ip_address(one.address).is_loopback) for one in spec.listeners]
    return spec.listeners[rank.index(min(rank))]


def _asks_for_certificate(listener: Listener) -> bool:
    return listener.tls is not None and listener.tls.client_ca is not None


def _askers(spec: Spec, options: Mapping[str, Any]) -> Sequence[tuple[Consumer, Expectation]]:
    """Whom to ask as and what they should see: the one that is named, or all, first who leaves out the least.

    Of several, first who may ask most.
    """
    name = options["consumer"]
    if name is None:
        if not spec.consumers:
            raise VerifyError("gateway_consumers is empty: there is no key to ask with")
        # Consumers with the same models see the same.
        expected: dict[tuple[str, ...], Expectation] = {}
        for consumer in spec.consumers:
            if consumer.models not in expected:
                expected[consumer.models] = _expectation(spec, consumer, options)
        askers = [(consumer, expected[consumer.models]) for consumer in spec.consumers]
        return sorted(askers, key=lambda asker: (-asker[1].asked, -_requests_per_minute(asker[0])))
    for consumer in spec.consumers:
        if consumer.name == name:
            return [(consumer, _expectation(spec, consumer, options))]
    names = ", ".join(consumer.name for consumer in spec.consumers)
    raise OptionsError(f"gateway_verify_consumer: there is no consumer {name!r} (there are: {names or 'none'})")


def _requests_per_minute(consumer: Consumer) -> float:
    """Its limit over all models; what is asked counts for it."""
    most = consumer.limits.requests_per_minute
    return math.inf if most is None else most


def _expectation(spec: Spec, consumer: Consumer, options: Mapping[str, Any]) -> Expectation:
    allowed = allowed_models(spec, consumer)
    chat = [name for name in allowed if not _looks_like_embeddings(name)]
    embeddings = [name for name in allowed if _looks_like_embeddings(name)]
    known = frozenset(allowed)
    forbidden = (model.name for model in spec.models if model.name not in known)
    return Expectation(
        models=allowed,
        chat_model=options["chat_model"] or next(iter(chat), None),
        embedding_model=options["embedding_model"] or next(iter(embeddings), None),
        forbidden_model=next(forbidden, None),
        responses_model=options["responses_model"] or _responses_model(spec, options["chat_model"], chat),
        max_request_size=spec.max_request_size,
    )


def _responses_model(spec: Spec, named: str | None, chat: Sequence[str]) -> str | None:
    """The model for completions if its providers surely have the Responses API, or else the first that has such ones.

    Many servers that are compatible have no such path, neither have Azure's URLs of one deployment.
    """
    having = {
        provider.name
        for provider in spec.providers
        if provider.type == "openai" or (provider.type == "azure_openai" and provider.api_version == AZURE_V1)
    }
    served = {
        model.name: {target.provider for target in (*model.targets, *model.fallbacks)} <= having
        for model in spec.models
    }
    return next((name for name in (named, *chat) if name is not None and served.get(name)), None)


def _looks_like_embeddings(model: str) -> bool:
    return "embed" in model.lower()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

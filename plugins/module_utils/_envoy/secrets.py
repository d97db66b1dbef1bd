# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that hold secrets. They are no part of a release: values are filled in at the last moment.

Each is an xDS answer in the host's secrets directory, whose name is as stable as the thing it belongs to: a new value
changes the file and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import jwt, xds
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.secret_names import (
    file_of_authorities,
    file_of_clients,
    file_of_collector,
    file_of_identity,
    file_of_provider,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.jwks import JwksError, check_key_set
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Consumer, Spec, Tls
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.providers import Provider, ProviderTls
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import (
    HostPath,
    Literal,
    Reference,
    Source,
    source_text,
)

CONSUMERS_FILE = "consumers.json"

#: What each source stands for; '' for a key that has ended.
Values = Mapping[Source, str]


@dataclass(frozen=True)
class SecretFile:
    """A file with secrets, before they are known. ``references`` is what :meth:`render` needs values of.

    ``may_end`` tells that a key of it that has ended is left out, where others have to have a value.
    """

    name: str
    references: tuple[Source, ...]
    content: Callable[[Values], xds.Config] = field(repr=False, compare=False)
    may_end: bool = False

    def render(self, values: Values) -> str:
        """Return the file as JSON text.

        Raises :class:`SecretError`, which names the reference and never a value, when a value is missing or cannot
        be what it should be.
        """
        return canonical_json({"resources": [self.content(values)]}).decode("utf-8")


def provider_file(provider: Provider) -> str:
    """Return the name of the file with a provider's key: another one for each place that the key is sent to."""
    return file_of_provider(provider.name, *_destination(provider))


def identity_file(provider: Provider, tls: ProviderTls) -> str:
    """Return the name of the file with the certificate for a provider, be it in the release or among the secrets."""
    texts = [source_text(source) for source in (tls.certificate, tls.private_key) if source is not None]
    return file_of_identity(provider.name, *_destination(provider), texts)


def authorities_file(provider: Provider) -> str:
    """Return the name of the file with the CAs of a provider, be it in the release or among the secrets."""
    return file_of_authorities(provider.name, *_destination(provider))


def _destination(provider: Provider) -> tuple[Any, ...]:
    """Return what decides who gets a provider's secrets; whatever is not set leaves it as it is."""
    tls = provider.tls or ProviderTls()
    known = {"ca": None if tls.ca is None else source_text(tls.ca), "server_name": tls.server_name}
    known["proxy"] = None if provider.proxy is None else provider.proxy.text
    special = {key: value for key, value in known.items() if value is not None}
    return (provider.type, [url.text for url in provider.base_urls], *([special] if special else []))


def listener_file(name: str) -> str:
    """Return the name of the file with a listener's certificate, be it in the release or among the secrets."""
    return f"listener-{name}.json"


def paths_on_host(tls: Tls | ProviderTls) -> tuple[str, str] | None:
    """Return the paths of certificate and key when both are files of the host: then no secret is delivered."""
    if isinstance(tls.certificate, HostPath) and isinstance(tls.private_key, HostPath):
        return tls.certificate.path, tls.private_key.path
    return None


def compile_secrets(spec: Spec) -> tuple[SecretFile, ...]:
    """Return the secret files that a gateway of ``spec`` reads, sorted by name."""
    files = [_consumers(spec.consumers)]
    files.extend(
        _provider(provider_file(provider), provider.api_key)
        for provider in spec.providers
        if provider.api_key is not None
    )
    for provider in spec.providers:
        files.extend(_provider_tls(provider))
    files.extend(
        _certificate(listener_file(listener.name), listener.tls.certificate, listener.tls.private_key)
        for listener in spec.listeners
        if listener.tls is not None and paths_on_host(listener.tls) is None
    )
    files.extend(
        _authorities(file_of_clients(listener.name), listener.tls.client_ca)
        for listener in spec.listeners
        if listener.tls is not None
        and listener.tls.client_ca is not None
        and not isinstance(listener.tls.client_ca, HostPath)
    )
    if jwt.secret_issuers(spec):
        files.append(_issuers(spec))
    if spec.otlp is not None:
        url = spec.otlp.endpoint.text
        files.extend(_collector(file_of_collector(name, url), name, source) for name, source in spec.otlp.headers)
    return tuple(sorted(files, key=lambda file: file.name))


def consumers_without_key(spec: Spec, values: Values) -> tuple[str, ...]:
    """Return the names of the consumers whose keys have all ended, so that no request of theirs is let in."""
    return tuple(
        consumer.name
        for consumer in spec.consumers
        if consumer.jwt is None
        and consumer.api_keys
        and all(_has_ended(source, values) for source in consumer.api_keys)
    )


def tls_certificate(name: str, certificate: xds.Config, private_key: xds.Config, **extra: xds.Config) -> xds.Config:
    """Return the SDS resource of a certificate that the gateway shows."""
    return xds.typed(
        "extensions.transport_sockets.tls.v3.Secret",
        name=name,
        tls_certificate={"certificate_chain": certificate, "private_key": private_key, **extra},
    )


def client_authorities(name: str, authorities: xds.Config, **extra: xds.Config) -> xds.Config:
    """Return the SDS resource of the CAs that the certificates of others, clients or a provider, are from."""
    return xds.typed(
        "extensions.transport_sockets.tls.v3.Secret",
        name=name,
        validation_context={"trusted_ca": authorities, **extra},
    )


def consumer_keys(credentials: list[xds.Config]) -> xds.Config:
    """Return the ECDS resource of the filter that knows consumers by their keys."""
    return xds.extension(
        xds.CONSUMER_KEYS,
        "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        # The filter takes "Bearer " off; Azure's clients send the other header.
        key_sources=[{"header": "authorization"}, {"header": "api-key"}],
        forwarding={"header": xds.CONSUMER, "hide_credentials": True},
        credentials=credentials,
    )


def _references(sources: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(dict.fromkeys(source for source in sources if isinstance(source, Reference)))


def _consumers(consumers: tuple[Consumer, ...]) -> SecretFile:
    def content(values: Values) -> xds.Config:
        owners: dict[str, tuple[str, Source]] = {}
        for consumer in consumers:
            for source in consumer.api_keys:
                if _has_ended(source, values):
                    continue
                key = _key(source, values)
                owner, where = owners.setdefault(key, (consumer.name, source))
                if owner != consumer.name:
                    raise SecretError(
                        f"the consumers {owner} and {consumer.name} have the same key "
                        f"({source_text(where)} and {source_text(source)}), so requests could not be told apart"
                    )
        named = {"@type": xds.type_url("config.core.v3.TypedExtensionConfig")}
        return {**named, **consumer_keys([{"key": key, "client": owner} for key, (owner, _where) in owners.items()])}

    sources = [source for consumer in consumers for source in consumer.api_keys]
    return SecretFile(CONSUMERS_FILE, _references(sources), content, may_end=True)


def _provider(file: str, source: Source) -> SecretFile:
    def content(values: Values) -> xds.Config:
        return xds.typed(
            "extensions.transport_sockets.tls.v3.Secret",
            name=file.removesuffix(".json"),
            generic_secret={"secret": {"inline_string": _key(source, values)}},
        )

    return SecretFile(file, _references([source]), content)


def _collector(file: str, header: str, source: Source) -> SecretFile:
    def content(values: Values) -> xds.Config:
        value = _value(source, values).strip()
        if not value or not value.isascii() or not value.isprintable():
            raise SecretError(f"{source_text(source)} is not the value of a header: it must be printable ASCII")
        if header == "authorization" and " " not in value:
            value = f"Bearer {value}"
        return xds.typed(
            "extensions.transport_sockets.tls.v3.Secret",
            name=file.removesuffix(".json"),
            generic_secret={"secret": {"inline_string": value}},
        )

    return SecretFile(file, _references([source]), content)


def _provider_tls(provider: Provider) -> Iterator[SecretFile]:
    tls = provider.tls
    if tls is None:
        return
    if tls.certificate is not None and tls.private_key is not None and paths_on_host(tls) is None:
        yield _certificate(identity_file(provider, tls), tls.certificate, tls.private_key)
    if tls.ca is not None and not isinstance(tls.ca, HostPath):
        yield _authorities(authorities_file(provider), tls.ca)


def _certificate(file: str, certificate: Source, private_key: Source) -> SecretFile:
    def content(values: Values) -> xds.Config:
        return tls_certificate(file.removesuffix(".json"), _pem(certificate, values), _pem(private_key, values))

    return SecretFile(file, _references([certificate, private_key]), content)


def _authorities(file: str, source: Source) -> SecretFile:
    def content(values: Values) -> xds.Config:
        return client_authorities(file.removesuffix(".json"), _pem(source, values))

    return SecretFile(file, _references([source]), content)


def _issuers(spec: Spec) -> SecretFile:
    found = {issuer.name: issuer.jwks for issuer in jwt.secret_issuers(spec) if isinstance(issuer.jwks, Reference)}

    def content(values: Values) -> xds.Config:
        return jwt.compile_issuers(spec, {name: _key_set(source, values) for name, source in found.items()})

    return SecretFile(jwt.secret_file(spec), _references(list(found.values())), content)


def _has_ended(source: Source, values: Values) -> bool:
    return isinstance(source, Reference) and values.get(source) == ""


def _value(source: Source, values: Values) -> str:
    if isinstance(source, Literal):
        return source.value
    try:
        return values[source]
    except KeyError:
        raise SecretError(f"{source_text(source)} has not been resolved") from None


def _key(source: Source, values: Values) -> str:
    """Return a key as it goes into a header; the line break that files tend to end with is no part of it."""
    key = _value(source, values).strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SecretError(f"{source_text(source)} is not a key: it must be one word of printable ASCII characters")
    return key


def _pem(source: Source, values: Values) -> xds.Config:
    if isinstance(source, HostPath):
        return {"filename": source.path}
    text = _value(source, values)
    if "-----BEGIN " not in text:
        raise SecretError(f"{source_text(source)} is not PEM text")
    return {"inline_string": text}


def _key_set(source: Source, values: Values) -> str:
    text = _value(source, values)
    try:
        check_key_set(text)
    except JwksError as error:
        raise SecretError(f"{source_text(source)} {error}") from None
    return text

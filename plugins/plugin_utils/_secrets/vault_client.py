# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP side of Vault and OpenBao: one client, and one plain sentence for everything that goes wrong.

``hvac`` takes up to a fifth of a second to import, so it is imported only when the store has to be asked. Its
exceptions, and those of ``requests`` below it, may quote what was sent (a token in a bad header, for one): their text
is never passed on.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import VaultOptions

_SHOWN = 200
#: What to do about a certificate, by OpenSSL's X509_V_ERR_*: not yet valid, expired, of another name or address.
_ADVICE = {
    9: "set the clocks right",
    10: "renew it, or set the clocks right",
    62: "vault_addr must have a name that is in it",
    64: "vault_addr must have a name that is in it",
}


class StoreError(Exception):
    """The store as a whole cannot be used. ``lasting``: asking again in this run is useless, or locks an account."""

    def __init__(self, text: str, *, lasting: bool) -> None:
        super().__init__(text)
        self.lasting = lasting


class TokenError(StoreError):
    """The store does not know the token (any more)."""


class FailedError(StoreError):
    """The store, or what it asked itself, failed with that request (500)."""


class DeniedError(Exception):
    """The token may not read that path, or the login is refused (403). The text is what the store said."""


class MissingError(Exception):
    """There is nothing under that path (404). ``body`` is the answer: it tells a deleted version from none."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__()
        self.body = body


class RejectedError(Exception):
    """The request makes no sense to the store (400, 405), or the login is wrong (400, 401).

    The text is what the store said.
    """


class VaultClient:
    """One connection to a store; threads may share it.

    ``replace`` gives a new token for one that the store does not know, with which a request is sent once more, or None.
    """

    def __init__(self, options: VaultOptions, token: str) -> None:
        """Raises StoreError when hvac is missing and SecretError when the options cannot work."""
        self._options = options
        self.replace: Callable[[str], str | None] = lambda refused: None
        _validate(options)
        try:
            import hvac
        except ImportError:
            raise StoreError(f"needs the Python package hvac in {sys.executable}", lasting=True) from None
        # Without a token (None, not "") hvac reads the environment and ~/.vault-token behind the user's back.
        self.hvac: Any = hvac.Client(
            url=options.addr,
            token=token,
            namespace=options.namespace or None,
            cert=(options.client_cert, options.client_key) if options.client_cert else None,
            verify=options.ca_file or True,
            timeout=options.timeout,  # type: ignore[arg-type]  # requests takes fractions
        )
        # Without one of our own, requests would look for a password in ~/.netrc.
        self.hvac.session.auth = _no_password

    def close(self) -> None:
        """Close the connections, which would stay open until the garbage is collected."""
        self.hvac.adapter.close()

    def get(self, path: str, version: int | None = None) -> dict[str, Any]:
        """The answer to GET /v1/``path``. Raises DeniedError, MissingError, RejectedError and StoreError."""
        answer = self.get_any(path, version)
        if not isinstance(answer.get("data"), dict):
            raise StoreError("does not answer as Vault does; is vault_addr right?", lasting=False)
        return answer

    def get_any(self, path: str, version: int | None = None) -> dict[str, Any]:
        """The same, for a path that may answer without data, or with what is no JSON object: {}."""
        parameters = {} if version is None else {"version": version}
        return self._send(lambda adapter: adapter.get("/v1/" + quote(path), params=parameters))

    def post(self, path: str, body: dict[str, Any], *, wrap_ttl: str | None = None) -> dict[str, Any]:
        """The answer to POST /v1/``path``, which may be empty; with ``wrap_ttl`` it is wrapped. Raises as `get`."""
        return self._send(lambda adapter: adapter.post("/v1/" + quote(path), json=body, wrap_ttl=wrap_ttl))

    def _send(self, request: Callable[[Any], Any]) -> dict[str, Any]:
        token = self.hvac.token
        try:
            with self.told():
                answer = request(self.hvac.adapter)
        except TokenError:
            replaced = self.replace(token)
            if replaced is None:
                raise
            self.hvac.token = replaced
            with self.told():
                answer = request(self.hvac.adapter)
        return answer if isinstance(answer, dict) else {}

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn the exceptions of hvac and requests into DeniedError, MissingError, RejectedError and StoreError."""
        import requests
        from hvac import exceptions

        try:
            yield
        except exceptions.Forbidden as error:
            if self.hvac.token and _token_is_bad(error):
                raise TokenError("does not accept the token: wrong, expired or revoked", lasting=True) from None
            raise DeniedError(_said(error)) from None
        except exceptions.InvalidPath as error:
            if "namespace not found" in _said(error):
                raise StoreError(f"has no namespace {self._options.namespace!r}", lasting=True) from None
            raise MissingError(error.json if isinstance(error.json, dict) else {}) from None
        except (exceptions.InvalidRequest, exceptions.Unauthorized) as error:
            raise RejectedError(_said(error)) from None
        except exceptions.InternalServerError as error:
            raise FailedError(_http_failure(error), lasting=False) from None
        except exceptions.VaultError as error:
            # 405, which hvac has no exception for.
            if "unsupported operation" in _said(error):
                raise RejectedError(_said(error)) from None
            raise StoreError(_http_failure(error), lasting=False) from None
        except requests.exceptions.SSLError as error:
            raise StoreError(f"failed to make a TLS connection: {_tls_reason(error)}", lasting=False) from None
        except requests.exceptions.Timeout:
            text = f"did not answer within {self._options.timeout:g} s (vault_timeout)"
            raise StoreError(text, lasting=False) from None
        except requests.exceptions.ProxyError:
            raise StoreError("cannot be reached through the proxy of the environment", lasting=False) from None
        except requests.exceptions.RequestException as error:
            raise StoreError(f"cannot be reached{_system_reason(error)}", lasting=False) from None
        except OSError as error:
            raise StoreError(f"cannot be reached: {error.strerror or type(error).__name__}", lasting=False) from None


def _no_password(request: Any) -> Any:
    return request


def _validate(options: VaultOptions) -> None:
    if not options.addr:
        raise SecretError("vault_addr is not set")
    if bool(options.client_cert) != bool(options.client_key):
        raise SecretError("vault_client_cert and vault_client_key belong together: only one of them is set")
    # requests would ignore a wrong path for http and name none of ours for https.
    for name in ("ca_file", "client_cert", "client_key"):
        path = getattr(options, name)
        if path and not Path(path).exists():
            raise SecretError(f"vault_{name} {path} does not exist on the controller")


def _said(error: Any) -> str:
    """What Vault itself said, on one line; '' when the answer came from something else."""
    errors = error.errors if isinstance(error.errors, list) else []
    return " ".join(" ".join(map(str, errors)).split())[:_SHOWN]


def _token_is_bad(error: Any) -> bool:
    # A policy's refusal is a list ("1 error occurred: * permission denied"). OpenBao refuses an unknown token with the
    # bare words, Vault adds "invalid token".
    said = _said(error)
    return said == "permission denied" or "invalid token" in said


def _http_failure(error: Any) -> str:
    said = _said(error)
    kind = type(error).__name__
    if kind == "VaultDown":
        return "is sealed" if "sealed" in said else "is unavailable (HTTP 503)"
    known = {
        "VaultNotInitialized": "is not initialized",
        "RateLimitExceeded": "refuses more requests for now (HTTP 429)",
        "BadGateway": "is not reached by the gateway before it (HTTP 502)",
        "InternalServerError": "failed (HTTP 500)",
    }
    return known.get(kind, "answered with an error") + (f": {said}" if said else "")


def _inside(error: BaseException) -> list[BaseException]:
    """The exceptions inside an exception of requests, itself first: urllib3 hangs them into ``args`` and ``reason``."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        inner = waiting.pop(0)
        if isinstance(inner, BaseException) and inner not in found:
            found.append(inner)
            waiting += [*inner.args, getattr(inner, "reason", None), inner.__cause__, inner.__context__]
    return found


def _tls_reason(error: BaseException) -> str:
    for inner in _inside(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            advice = _ADVICE.get(inner.verify_code, "see vault_ca_file")
            return f"the certificate is not trusted ({inner.verify_message.rstrip('.')}); {advice}"
    for inner in _inside(error):
        if isinstance(inner, ssl.SSLError) and inner.reason:
            return inner.reason.lower().replace("_", " ")
    return "unknown reason"


def _system_reason(error: BaseException) -> str:
    for inner in _inside(error):
        if isinstance(inner, OSError) and inner.strerror:
            return f": {inner.strerror}"
    return ""

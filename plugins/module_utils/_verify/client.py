# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small HTTP client for checking a gateway: no proxies, no redirects, and a deadline for each exchange."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import VerifyError

#: No answer that a check asks for comes near this size; /v1/models of 10,000 models takes 1 MB.
_LARGEST_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True)
class Endpoint:
    """A gateway as a client sees it.

    `url` is what the gateway is called (scheme, host, port, no path); certificates are checked against its host.
    `address` is where to connect when that is another place, such as the loopback address of the gateway's own host.
    `ca_file` replaces the system's CAs; `client_cert` and `client_key` are files for a listener that asks for a
    certificate, and the key may be in the first of them. `timeout` is in seconds, for each exchange as a whole.
    """

    url: str
    address: str | None = None
    ca_file: str | None = None
    validate_certs: bool = True
    timeout: float = 60.0
    client_cert: str | None = None
    client_key: str | None = None

    @property
    def parts(self) -> SplitResult:
        """The URL, taken apart. Raises VerifyError where it is none."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            port = 0
        if port == 0 or parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise VerifyError(f"{self.url!r} is not the URL of a gateway: write it like https://gateway.example:443")
        return parts


@dataclass(frozen=True)
class Answer:
    """What came back. `body` is the parsed JSON, or None where it was no JSON.

    `headers` are those of the answer, with names in lower case; a header that was there twice is one with both values.
    """

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def content_type(self) -> str:
        """The header of this name, or nothing."""
        return self.headers.get("content-type", "")


class Client:
    """Sends requests to one gateway with one key. Raises VerifyError for a URL that is none."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint = endpoint
        self._parts = endpoint.parts
        self._key = key

    def get(self, path: str, *, key: str | None = None) -> Answer:
        """Read `path`; `key` replaces the client's own."""
        return self.send("GET", path, headers=None if key is None else _bearer(key))

    def post(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """Send `payload` as JSON."""
        return self.send("POST", path, json.dumps(payload).encode("utf-8"))

    def send(
        self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send `body` as it is, as JSON; `headers` replace others of their names, those with an empty value remove."""
        with self._exchange(method, path, body, headers or {}) as response:
            return _answer(response)

    def stream(self, path: str, payload: Mapping[str, Any]) -> tuple[Answer, list[str]]:
        """Send `payload` and read the server-sent events that answer it, up to and with `[DONE]`.

        The second value is their lines; it is empty when the answer was no stream.
        """
        deadline = time.monotonic() + self._endpoint.timeout
        with self._exchange("POST", path, json.dumps(payload).encode("utf-8"), {}) as response:
            if response.status != 200 or not response.getheader("content-type", "").startswith("text/event-stream"):
                return _answer(response), []
            return Answer(response.status, _headers(response), None), list(_lines(response, deadline))

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        given = {**_bearer(self._key), "accept": "*/*"}
        if body is not None:
            given["content-type"] = "application/json"
        given = {name: value for name, value in {**given, **headers}.items() if value}
        connection = self._connect()
        try:
            # What is too large may be answered before all of it was read.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body, headers=given)
            # Closed for itself: it outlives its connection when the gateway closes that.
            with connection.getresponse() as response:
                yield response
        except socket.timeout:
            raise VerifyError(f"no answer within {self._endpoint.timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise VerifyError(f"{self._where()}: {_reason(error)}") from None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        parts, endpoint = self._parts, self._endpoint
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = http.client.HTTPConnection(host, port, timeout=endpoint.timeout)
        try:
            raw = socket.create_connection((endpoint.address or host, port), timeout=endpoint.timeout)
            connection.sock = raw
            if parts.scheme == "https":
                connection.sock = self._tls().wrap_socket(raw, server_hostname=host)
        except socket.timeout:
            connection.close()
            raise VerifyError(f"{self._where()}: no connection within {endpoint.timeout:g} s") from None
        except OSError as error:
            connection.close()
            raise VerifyError(f"{self._where()}: {_reason(error)}") from None
        return connection

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._endpoint.ca_file)
        if not self._endpoint.validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._endpoint.client_cert is not None:
            context.load_cert_chain(self._endpoint.client_cert, self._endpoint.client_key)
        return context

    def _where(self) -> str:
        address = self._endpoint.address
        return self._endpoint.url + (f" at {address}" if address else "")


def _answer(response: http.client.HTTPResponse) -> Answer:
    text = response.read(_LARGEST_ANSWER)
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return Answer(response.status, _headers(response), body)


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": "Bearer " + key}


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _lines(response: http.client.HTTPResponse, deadline: float) -> Iterator[str]:
    """The lines of a stream without their ends, up to and with `[DONE]`."""
    for line in response:
        if time.monotonic() > deadline:
            raise socket.timeout
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield text
        if text.startswith("data:") and text[len("data:") :].strip() == "[DONE]":
            return


def _reason(error: Exception) -> str:
    """The system's words for what went wrong, without its number."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

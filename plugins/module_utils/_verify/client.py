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
from contextlib import contextmanager
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
    """What came back. `body` is the parsed JSON, or None where it was no JSON."""

    status: int
    content_type: str
    body: Any


class Client:
    """Sends requests to one gateway with one key. Raises VerifyError for a URL that is none."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint = endpoint
        self._parts = endpoint.parts
        self._key = key

    def get(self, path: str, *, key: str | None = None) -> Answer:
        """Read `path`; `key` replaces the client's own."""
        with self._exchange("GET", path, None, key) as response:
            return _answer(response)

    def post(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """Send `payload` as JSON."""
        with self._exchange("POST", path, payload, None) as response:
            return _answer(response)

    def stream(self, path: str, payload: Mapping[str, Any]) -> tuple[Answer, list[str]]:
        """Send `payload` and read the server-sent events that answer it, up to and with `[DONE]`.

        The second value is the data of each event; it is empty when the answer was no stream.
        """
        deadline = time.monotonic() + self._endpoint.timeout
        with self._exchange("POST", path, payload, None) as response:
            content_type = response.getheader("content-type", "")
            if response.status != 200 or not content_type.startswith("text/event-stream"):
                return _answer(response), []
            return Answer(response.status, content_type, None), list(_events(response, deadline))

    @contextmanager
    def _exchange(
        self, method: str, path: str, payload: Mapping[str, Any] | None, key: str | None
    ) -> Iterator[http.client.HTTPResponse]:
        headers = {"authorization": "Bearer " + (self._key if key is None else key), "accept": "*/*"}
        body = None
        if payload is not None:
            body = json.dumps(payload).encode("utf-8")
            headers["content-type"] = "application/json"
        connection = self._connect()
        try:
            connection.request(method, path, body=body, headers=headers)
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
    return Answer(response.status, response.getheader("content-type", ""), body)


def _events(response: http.client.HTTPResponse, deadline: float) -> Iterator[str]:
    """The data of each event, up to and with `[DONE]`."""
    for line in response:
        if time.monotonic() > deadline:
            raise socket.timeout
        if line.startswith(b"data:"):
            data = line[len(b"data:") :].strip().decode("utf-8", "replace")
            yield data
            if data == "[DONE]":
                return


def _reason(error: Exception) -> str:
    """The system's words for what went wrong, without its number."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

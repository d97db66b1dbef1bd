# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who vouches for a run, on this machine: an issuer of JSON Web Tokens, a Kubernetes API."""

from __future__ import annotations

import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


class Signer:
    """A key that signs JSON Web Tokens; ``claims`` are in all of them."""

    def __init__(self, **claims: Any) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._claims = claims

    @property
    def public_key(self) -> str:
        """In PEM."""
        return (
            self._key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    @property
    def key_set(self) -> dict[str, Any]:
        """As a JSON Web Key Set (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        key = {
            name: _base64(number.to_bytes((number.bit_length() + 7) // 8))
            for name, number in (("n", numbers.n), ("e", numbers.e))
        }
        return {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", **key}]}

    def token(self, *, at: float = 0, **claims: Any) -> str:
        """A token that is good for five minutes, from ``at`` seconds from now on."""
        now = int(time.time() + at)
        body = {"jti": token_hex(8), "iat": now, "nbf": now, "exp": now + 300, **self._claims, **claims}
        text = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, body))
        return f"{text}.{_base64(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in JSON and logs nothing."""

    def answer(self, status: int, body: dict[str, Any]) -> None:
        """Send ``body`` with an HTTP ``status``."""
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


class _Issuer(JsonHandler):
    """OpenID Connect discovery, the address that a job of GitHub Actions asks, and Kubernetes' TokenReview."""

    server: Issuer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/.well-known/openid-configuration":
            self.answer(200, {"issuer": self.server.address, "jwks_uri": f"{self.server.address}/keys"})
        elif parts.path == "/keys":
            self.answer(200, self.server.signer.key_set)
        elif self.headers["Authorization"] != f"Bearer {self.server.password}":
            self.answer(401, {"message": f"wrong: {self.headers['Authorization']}"})
        else:
            (audience,) = parse_qs(parts.query)["audience"]
            self.answer(200, {"count": 1, "value": self.server.signer.token(iss=self.server.address, aud=audience)})

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = self.server.accounts.get(review["spec"]["token"])
        status: dict[str, Any] = {"authenticated": user is not None}
        if user:
            status["user"] = {"username": user, "uid": "1"}
        self.answer(201, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})


class Issuer(ThreadingHTTPServer):
    """Hands out tokens of ``signer`` to who knows ``password``, and knows the service accounts of ``accounts``."""

    daemon_threads = True

    def __init__(self, signer: Signer, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Issuer)
        self.signer = signer
        self.password = password
        self.accounts: dict[str, str] = {}

    @property
    def address(self) -> str:
        """Its URL, which is also the name of the issuer."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Answer requests until the end of the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()

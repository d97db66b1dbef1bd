"""Tokens for tests (JWT): an issuer with keys, and the server that its public keys are fetched from."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def part(value: object) -> str:
    return encoded(json.dumps(value, separators=(",", ":")).encode())


class Key:
    """A key of an issuer. `algorithm` is `ES256` or `RS256`."""

    def __init__(self, name: str, algorithm: str = "ES256") -> None:
        self.name = name
        self.algorithm = algorithm
        self._elliptic = ec.generate_private_key(ec.SECP256R1())
        self._rsa = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else None

    @property
    def public(self) -> dict[str, str]:
        named = {"kid": self.name, "alg": self.algorithm, "use": "sig"}
        if self._rsa is not None:
            numbers = self._rsa.public_key().public_numbers()
            return {**named, "kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        point = self._elliptic.public_key().public_numbers()
        size = 32
        x, y = (encoded(value.to_bytes(size, "big")) for value in (point.x, point.y))
        return {**named, "kty": "EC", "crv": "P-256", "x": x, "y": y}

    @property
    def public_pem(self) -> bytes:
        private = self._elliptic if self._rsa is None else self._rsa
        return private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, text: bytes) -> bytes:
        if self._rsa is not None:
            return self._rsa.sign(text, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self._elliptic.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def token(self, claims: Mapping[str, object], **header: object) -> str:
        """A signed token; `header` overrides what its header says."""
        text = f"{part({'alg': self.algorithm, 'kid': self.name, 'typ': 'JWT', **header})}.{part(claims)}"
        return f"{text}.{encoded(self.sign(text.encode()))}"


def unsigned(claims: Mapping[str, object], **header: object) -> str:
    return f"{part({'alg': 'none', **header})}.{part(claims)}."


def with_secret(claims: Mapping[str, object], secret: bytes, **header: object) -> str:
    """A token that is signed with what is no secret."""
    text = f"{part({'alg': 'HS256', 'typ': 'JWT', **header})}.{part(claims)}"
    code = hmac.HMAC(secret, hashes.SHA256())
    code.update(text.encode())
    return f"{text}.{encoded(code.finalize())}"


def claims(issuer: str, **others: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"iss": issuer, "aud": "gateway", "iat": now, "exp": now + 600, "client_id": "search-service"}
    return {name: value for name, value in {**found, **others}.items() if value is not None}


def key_set(*keys: Key) -> str:
    return json.dumps({"keys": [key.public for key in keys]})


class KeyServer:
    """Serves a key set. `text` may be changed, `status` too; `asked` counts."""

    def __init__(self, text: str, port: int = 0) -> None:
        self.text = text
        self.status = 200
        self.asked = 0
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                body = outer.text.encode()
                self.send_response(outer.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/realms/ai/certs"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def key_server(text: str, port: int = 0) -> Iterator[KeyServer]:
    server = KeyServer(text, port)
    try:
        yield server
    finally:
        server.stop()

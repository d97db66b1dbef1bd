# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Secrets Manager on this machine, for tests: moto's server, and a proxy before it that counts requests."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from integration import openbao

REGION = "eu-west-1"
_DEADLINE = 60.0


class Aws:
    """A running service. ``requests`` are the operations with the names of the secrets, in order."""

    def __init__(self, address: str) -> None:
        import boto3

        self.address = address
        self.requests: list[tuple[str, list[str]]] = []
        self.regions: list[str] = []
        self.client: Any = boto3.client(
            "secretsmanager",
            region_name=REGION,
            endpoint_url=address,
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret-of-the-test",
        )

    @property
    def environment(self) -> dict[str, str]:
        """The credentials for ansible-playbook."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, name: str, content: str | bytes) -> str:
        """Make a secret; return its ARN."""
        kind = "SecretString" if isinstance(content, str) else "SecretBinary"
        arn: str = self.client.create_secret(Name=name, **{kind: content})["ARN"]
        return arn

    def forget(self) -> None:
        """Count from here on."""
        self.requests.clear()
        self.regions.clear()


@contextmanager
def started(directory: Path) -> Iterator[Aws]:
    """A service that keeps nothing, and its log in ``directory``. Raises RuntimeError when it does not come up."""
    port = openbao.free_port()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "moto.log").open("wb") as log:
        program = str(Path(sys.executable).parent / "moto_server")
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait(port, process)
        with _proxy(port) as aws:
            yield aws
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            _call(port, "GET", "/moto-api/", b"", {})
            return
        time.sleep(0.1)
    raise RuntimeError("moto_server did not come up")


def _call(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@contextmanager
def _proxy(port: int) -> Iterator[Aws]:
    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = json.loads(body)
            names = asked.get("SecretIdList", [asked.get("SecretId")])
            aws.requests.append((self.headers["X-Amz-Target"].partition(".")[2], names))
            aws.regions.append(self.headers["Authorization"].split("/")[2])
            status, headers, content = _call(port, "POST", self.path, body, dict(self.headers))
            self.send_response_only(status)
            for name in ("Content-Type", "Date", "x-amzn-RequestId"):
                if headers.get(name):
                    self.send_header(name, headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        aws = Aws(f"http://127.0.0.1:{listener.server_port}")
        try:
            yield aws
        finally:
            aws.client.close()
            listener.shutdown()
            thread.join()

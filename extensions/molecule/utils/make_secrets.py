"""Make the secrets of one test run: make_secrets.py DIRECTORY ADDRESSES.json

DIRECTORY (0700) gets, each file 0600 and none of them ever reused by another run:
    kv.json                       what goes to the secret store: {path: {field: value}}
    ca.pem                        the authority that all hosts of the run trust
    <host>.pem, <host>.key        a certificate for each host of ADDRESSES.json ({host: IPv4 address})
A directory that is complete is left as it is.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

CONSUMERS = {"search": ("current", "previous"), "batch": ("current",), "limited": ("current",)}
PROVIDERS = ("a", "b")


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def certificate(directory: Path, name: str, alternative_names: list[str]) -> None:
    """An ECDSA certificate of the run's authority, valid for two days."""
    openssl(directory, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl(directory, "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
    extensions = directory / f"{name}.ext"
    extensions.write_text(
        f"subjectAltName={','.join(alternative_names)}\nbasicConstraints=critical,CA:FALSE\n"
        "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n"
    )
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", extensions.name]
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    extensions.unlink()
    (directory / f"{name}.csr").unlink()


def main() -> None:
    directory, addresses = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    done = directory / "kv.json"
    if done.exists():
        return
    os.umask(0o077)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new_ca = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl(directory, "req", *new_ca, "-subj", "/CN=test hosts", "-keyout", "ca.key", "-out", "ca.pem")
    for host, address in addresses.items():
        certificate(directory, host, [f"DNS:{host}", f"IP:{address}"])
    gateways = [host for host in addresses if host.startswith("gw")]
    names = [f"DNS:{host}" for host in gateways] + [f"IP:{addresses[host]}" for host in gateways]
    certificate(directory, "gateway", [*names, "DNS:localhost"])

    store: dict[str, dict[str, str]] = {}
    for provider in PROVIDERS:
        store[f"providers/{provider}"] = {"api_key": f"sk-{secrets.token_urlsafe(32)}"}
    for consumer, fields in CONSUMERS.items():
        store[f"consumers/{consumer}"] = {field: f"gw-{secrets.token_urlsafe(32)}" for field in fields}
    store["tls/gateway"] = {
        "certificate": (directory / "gateway.pem").read_text(),
        "private_key": (directory / "gateway.key").read_text(),
    }
    done.write_text(json.dumps(store, indent=2))


if __name__ == "__main__":
    main()

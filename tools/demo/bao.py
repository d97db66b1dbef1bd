"""Make OpenBao hold what the gateway refers to, and let the playbook in by AppRole."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.demo import services
from tools.demo.places import Places, write_secret
from tools.demo.say import DemoError, note

# The provider keys, and the consumers' keys, which have no previous one yet.
SECRETS = {
    "providers/openai": ("api_key",),
    "providers/azure": ("api_key",),
    "consumers/search": ("current",),
    "consumers/batch": ("current",),
}
POLICY = 'path "kv/data/*" { capabilities = ["read"] }'
ROLE = "auth/approle/role/gateway-controller"


@dataclass(frozen=True)
class Keys:
    """The files in memory that hold generated secrets."""

    directory: Path

    def file(self, secret: str, field: str) -> Path:
        return self.directory / f"{secret.replace('/', '-')}-{field}"

    @property
    def init(self) -> Path:
        return self.directory / "bao-init.json"

    @property
    def root_token(self) -> Path:
        return self.directory / "bao-root-token"


def make_keys(places: Places) -> Keys:
    """Generate each secret that there is not yet."""
    keys = Keys(places.memory / "keys")
    for secret, fields in SECRETS.items():
        for field in fields:
            file = keys.file(secret, field)
            if not file.exists():
                prefix = "sk-provider-" if secret.startswith("providers/") else "sk-demo-"
                write_secret(file, prefix + secrets.token_urlsafe(24) + "\n")
    return keys


def provision(places: Places, keys: Keys) -> None:
    """Initialise and unseal OpenBao, and write into it what it does not hold. What was changed by hand stays."""
    if not _call(places, "GET", "sys/seal-status")["initialized"]:
        made = _call(places, "PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        write_secret(keys.init, json.dumps(made))
        write_secret(keys.root_token, made["root_token"] + "\n")
        note("initialised")
    if not keys.init.exists():
        raise DemoError("OpenBao runs, but its keys are lost. `make demo-down` and `make demo` begin anew.")
    made = json.loads(keys.init.read_text())
    if _call(places, "GET", "sys/seal-status")["sealed"]:
        _call(places, "PUT", "sys/unseal", {"key": made["keys"][0]})
        note("unsealed")
    token = made["root_token"]
    if "kv/" not in _call(places, "GET", "sys/mounts", token=token)["data"]:
        _call(places, "POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}, token=token)
    for secret, fields in SECRETS.items():
        if _call(places, "GET", f"kv/data/{secret}", token=token, missing=True) is None:
            values = {field: keys.file(secret, field).read_text().strip() for field in fields}
            if "current" in values:  # as gateway_key writes it
                values["previous"] = ""
            _call(places, "POST", f"kv/data/{secret}", {"data": values}, token=token)
            note(f"wrote kv/{secret}")
    _let_the_playbook_in(places, keys, token)


def read(places: Places, keys: Keys, secret: str, field: str) -> str:
    """A value as OpenBao holds it now."""
    token = json.loads(keys.init.read_text())["root_token"]
    value: str = _call(places, "GET", f"kv/data/{secret}", token=token)["data"]["data"][field]
    return value


def _let_the_playbook_in(places: Places, keys: Keys, token: str) -> None:
    if "approle/" not in _call(places, "GET", "sys/auth", token=token)["data"]:
        _call(places, "POST", "sys/auth/approle", {"type": "approle"}, token=token)
    _call(places, "PUT", "sys/policies/acl/gateway-read", {"policy": POLICY}, token=token)
    _call(places, "POST", ROLE, {"token_policies": ["gateway-read"], "token_ttl": "10m"}, token=token)
    if not _may_log_in(places, keys):
        role_id = _call(places, "GET", f"{ROLE}/role-id", token=token)["data"]["role_id"]
        secret_id = _call(places, "POST", f"{ROLE}/secret-id", {}, token=token)["data"]["secret_id"]
        write_secret(keys.directory / "role-id", role_id + "\n")
        write_secret(keys.directory / "secret-id", secret_id + "\n")
        note("the playbook logs in by AppRole gateway-controller, which may read kv/ and nothing else")


def _may_log_in(places: Places, keys: Keys) -> bool:
    try:
        role_id, secret_id = ((keys.directory / name).read_text().strip() for name in ("role-id", "secret-id"))
        _call(places, "POST", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id})
    except (FileNotFoundError, DemoError):
        return False
    return True


def _call(places: Places, method: str, path: str, body: Any = None, *, token: str = "", missing: bool = False) -> Any:
    """Ask OpenBao's API. Returns the decoded answer; None for a 404 when `missing` allows it. Raises DemoError."""
    request = urllib.request.Request(
        f"{places.bao_url}/v1/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Vault-Token": token} if token else {},
    )
    try:
        with services.DIRECT.open(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        if error.code == 404 and missing:
            return None
        reason = error.read().decode(errors="replace").strip()
        raise DemoError(f"OpenBao answered {error.code} to {method} {path}: {reason}") from None
    except OSError as error:
        raise DemoError(f"OpenBao did not answer {method} {path}: {error}") from None

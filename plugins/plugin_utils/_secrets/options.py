# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stores need to know to be asked, and where a user may say it.

The options are declared once, in the documentation fragments ``gatewayops.openai.vault`` and ``gatewayops.openai.aws``,
with the Ansible variable, the environment variables and the ini key that each can come from. Lookups have them anyway;
an action borrows them from the lookup ``gatewayops.openai.secret``, so that both follow the same precedence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError

_LOOKUP = "gatewayops.openai.secret"
VAULT = "vault_"
AWS = "aws_"
#: What the names of the options of stores begin with.
PREFIXES = (VAULT, AWS)
#: The way to log in that takes the credentials of AWS.
AWS_IAM = "aws_iam"
#: Options whose values are secrets.
SECRET = frozenset(f"{VAULT}{name}" for name in ("token", "secret_id", "wrapped_secret_id", "jwt", "password"))
#: Options whose values go into the header of a request.
_HEADERS = frozenset(f"{VAULT}{name}" for name in ("token", "wrapped_secret_id", "namespace"))
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|)\Z")
_KV_VERSIONS = {"auto": None, "1": 1, "2": 2}


@dataclass(frozen=True, kw_only=True)
class AwsOptions:
    """How to reach AWS Secrets Manager; ``timeout`` is in seconds, '' leaves it to boto3."""

    region: str = ""
    profile: str = ""
    endpoint_url: str = ""
    ca_file: str = ""
    timeout: float = 10.0


@dataclass(frozen=True, kw_only=True)
class VaultOptions:
    """How to reach one Vault or OpenBao and who to be there; ``timeout`` is in seconds, '' means not given.

    ``kv_version`` None stands for finding it out. Files are paths on the controller. ``aws`` has the credentials for
    the method ``aws_iam``.
    """

    addr: str = ""
    namespace: str = ""
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    auth_method: str = "token"
    auth_mount: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    role_id: str = field(default="", repr=False)
    secret_id: str = field(default="", repr=False)
    wrapped_secret_id: str = field(default="", repr=False)
    role: str = ""
    jwt: str = field(default="", repr=False)
    jwt_file: str = ""
    jwt_github_audience: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    aws_server_id: str = ""
    aws_sts_region: str = ""
    aws: AwsOptions = AwsOptions()
    timeout: float = 10.0
    kv_version: int | None = None


def identity(options: VaultOptions) -> dict[str, Any]:
    """Which store it is and who we are there: runs share what they know under one identity only.

    How long to wait is no part of it, and credentials of AWS are when it is AWS that vouches for us.
    """
    aws = AwsOptions(profile=options.aws.profile, region=options.aws.region)
    return asdict(
        replace(
            options,
            timeout=VaultOptions.timeout,
            aws=aws if options.auth_method == AWS_IAM else AwsOptions(),
        )
    )


@dataclass(frozen=True, kw_only=True)
class SecretOptions:
    """The options of all stores; those of the environment and of files have none."""

    vault: VaultOptions = VaultOptions()
    aws: AwsOptions = AwsOptions()


def options_from(get: Callable[[str], Any]) -> SecretOptions:
    """Build the options from ``get(name)``, which answers with the value of an option of the fragments or None.

    Only their form is checked here; what a login needs is checked when there is one. Raises SecretError.
    """
    aws = AwsOptions(
        **{
            **_texts(get, AWS, AwsOptions),
            "endpoint_url": _address(get, f"{AWS}endpoint_url"),
            "timeout": _timeout(get, f"{AWS}timeout"),
        }
    )
    texts = _texts(get, VAULT, VaultOptions)
    vault = VaultOptions(
        **{
            **texts,
            "addr": _address(get, f"{VAULT}addr"),
            "auth_method": texts["auth_method"] or VaultOptions.auth_method,
            "auth_mount": texts["auth_mount"].strip("/"),
            "aws": aws,
            "timeout": _timeout(get, f"{VAULT}timeout"),
            "kv_version": _kv_version(_text(get, f"{VAULT}kv_version")),
        }
    )
    return SecretOptions(vault=vault, aws=aws)


def plugin_options(
    plugin: LookupBase, direct: Mapping[str, Any], variables: Mapping[str, Any], *, of: tuple[str, ...] = PREFIXES
) -> SecretOptions:
    """Set the options of a lookup and return those of the stores whose prefixes are in ``of``.

    Precedence: ``direct`` (arguments), Ansible variable, environment, ini, default. Only the variables that options
    come from are looked at; they are templated first, which Ansible leaves to its callers.
    """
    options = {entry["name"]: name for name, entry in _variables(plugin)}
    given = {
        name: plugin._templar.template(variables[name])
        for name, option in options.items()
        if name in variables and not option.startswith(tuple({*PREFIXES} - {*of}))
    }
    for name, value in [*direct.items(), *((options[variable], value) for variable, value in given.items())]:
        # Ansible's own complaint would show the value, and a whole secret in place of a field is easily taken.
        if name in SECRET and isinstance(value, (dict, list, tuple)):
            raise SecretError(f"{name} must be text")
    plugin.set_options(var_options=given, direct=dict(direct))
    known = [name for name in plugin.option_definitions if name.startswith(of)]
    return options_from(lambda name: plugin.get_option(name) if name in known else None)


def action_options(task_args: Mapping[str, Any], task_vars: Mapping[str, Any], templar: Any) -> SecretOptions:
    """The options of an action: its arguments named like the options of the fragment, then as for the lookups."""
    plugin = _lookup(templar)
    direct = {name: value for name, value in task_args.items() if name in plugin.option_definitions}
    return plugin_options(plugin, direct, task_vars)


def action_argument_spec() -> dict[str, dict[str, Any]]:
    """The options of the fragments as an argument spec, without defaults: what is not given comes from elsewhere."""
    spec: dict[str, dict[str, Any]] = {}
    for name, option in _lookup(None).option_definitions.items():
        if name.startswith(PREFIXES):
            spec[name] = {key: option[key] for key in ("type", "choices") if key in option}
            if name in SECRET:
                spec[name]["no_log"] = True
    return spec


def _variables(plugin: LookupBase) -> list[tuple[str, dict[str, Any]]]:
    """The options that an Ansible variable may set, each with the entry that names the variable."""
    return [(name, entry) for name, option in plugin.option_definitions.items() for entry in option.get("vars") or ()]


def _lookup(templar: Any) -> Any:
    return lookup_loader.get(_LOOKUP, templar=templar)


def _texts(get: Callable[[str], Any], prefix: str, options: type) -> dict[str, Any]:
    """The value of each option that is a text; raises SecretError when one cannot go into a request."""
    texts = {each.name: _text(get, prefix + each.name) for each in fields(options) if each.type == "str"}
    for name, text in texts.items():
        if not text.isprintable():
            raise SecretError(f"{prefix}{name} holds a line break or another unprintable character")
        if prefix + name in _HEADERS and not text.isascii():
            raise SecretError(f"{prefix}{name} holds a character that is not ASCII")
    return texts


def _text(get: Callable[[str], Any], name: str) -> str:
    value = get(name)
    # A key read from a file or a command ends in a line break that no store wants. str() also drops Ansible's tags.
    return "" if value is None else str(value).strip()


def _address(get: Callable[[str], Any], name: str) -> str:
    text = _text(get, name)
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise SecretError(f"{name} must be a URL such as https://vault.example.com:8200")
    if "@" in parts.netloc:
        raise SecretError(f"{name} must not hold a user or a password")
    return text.rstrip("/")


def _timeout(get: Callable[[str], Any], name: str) -> float:
    text = _text(get, name)
    if not text:
        return VaultOptions.timeout
    match = _SECONDS.match(text)
    seconds = float(match.group(1)) * (60 if match.group(2) == "m" else 1) if match else 0.0
    if not 0 < seconds <= 3600:
        raise SecretError(f"{name} must be a time such as 10s, 2m or a number of seconds, at most an hour")
    return seconds


def _kv_version(text: str) -> int | None:
    if (text or "auto") not in _KV_VERSIONS:
        raise SecretError("vault_kv_version must be auto, 1 or 2")
    return _KV_VERSIONS[text or "auto"]

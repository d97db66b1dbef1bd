# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base URL of a provider."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import KindError, Scalar, plain_text, show

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXY_FORM = "must be the URL of a forward proxy such as 'http://proxy.example.com:3128'"
_FORM = "must be a URL such as 'https://api.openai.com/v1'"
# Of both Python and ECMAScript. The groups: scheme, host, port, path.
URL_PATTERN = (
    r"^(https?)://"
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)"
    r"(?::([0-9]{1,5}))?"
    r"((?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*)/?$"
)


@dataclass(frozen=True)
class BaseUrl:
    """Where a provider's API begins.

    ``host`` is in lower case, an IPv6 address without brackets; ``port`` is always set; ``path`` is empty or begins
    with a slash and never ends with one.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The host and, where it is not the scheme's own, the port, as they stand in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The canonical spelling, which parses to an equal URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True)
class Url(Scalar):
    """An absolute http or https URL without credentials, query and fragment."""

    pattern: ClassVar[str] = URL_PATTERN

    def convert(self, value: object) -> BaseUrl:
        text = plain_text(value)
        rest = text.partition("://")[2]
        # What stands before an '@' is a password more often than not: it is not repeated.
        if "@" in rest.partition("/")[0]:
            raise KindError("must not hold credentials; write the key as api_key")
        if "?" in text or "#" in text:
            raise KindError("must not have a query or a fragment")
        match = re.match(URL_PATTERN, text)
        if match is None or text.endswith("\n") or len(text) > 2048:
            raise KindError(f"{show(text)} {_FORM}")
        scheme, host, digits, path = match.groups()
        host = host.lower()
        if host.startswith("["):
            try:
                host = str(ipaddress.IPv6Address(host[1:-1]))
            except ValueError:
                raise KindError(f"{show(text)} {_FORM}") from None
        port = int(digits or _DEFAULT_PORTS[scheme])
        if not 1 <= port <= 65535:
            raise KindError(f"has the port {port}, which is not between 1 and 65535")
        if any(segment in (".", "..") for segment in path.split("/")):
            raise KindError("must not have '.' or '..' in its path")
        return BaseUrl(scheme, host, port, path)

    def render(self, value: BaseUrl) -> str:
        return value.text


@dataclass(frozen=True)
class ProxyUrl(Url):
    """The address of a forward proxy, as a URL with a port and nothing else."""

    pattern: ClassVar[str] = r"^http://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?):[0-9]{1,5}/?$"

    def convert(self, value: object) -> BaseUrl:
        text = plain_text(value)
        scheme, separator, rest = text.partition("://")
        if "@" in rest.partition("/")[0]:
            raise KindError("must not hold credentials: they would stand in the configuration in clear")
        if separator and scheme.lower() in ("https", "socks", "socks4", "socks5", "socks5h"):
            raise KindError("must begin with http://: TLS to the provider passes through the proxy all the same")
        if re.match(self.pattern, text) is None:
            raise KindError(f"{show(text)} {_PROXY_FORM}")
        return super().convert(text)

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client for AWS Secrets Manager in one region, and one plain sentence for everything that goes wrong.

``boto3`` takes half a second to import, so it is imported only when the service has to be asked. The text of its
exceptions, and what the service says, may quote what was sent or read: it is looked at, and never passed on.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import AwsOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_client import StoreError

#: Reads at a time.
THREADS = 8
#: How often a request is tried that was throttled, not answered or answered with a failure of the service.
_ATTEMPTS = 3
#: A clock that is off by more than this makes the service refuse signatures, in seconds. AWS takes 300.
_SKEW = 240.0
_CODE = re.compile(r"[A-Za-z][A-Za-z.]{0,63}\Z")

_UNKNOWN_KEY = "does not accept the credentials: the access key is unknown, disabled or incomplete"
_EXPIRED = "does not accept the credentials: they have expired"
_SIGNATURE = "does not accept the signature: the secret access key is wrong, or the clock of the controller is"
_THROTTLED = "refuses more requests for now (throttled)"
_NOT_AWS = "does not answer as AWS does; is aws_endpoint_url right?"

#: What the service says of a request whatever it asks for, by code, and whether asking again in this run is useless.
_REFUSALS = {
    "UnrecognizedClientException": (_UNKNOWN_KEY, True),
    "InvalidClientTokenId": (_UNKNOWN_KEY, True),
    "MissingAuthenticationToken": (_UNKNOWN_KEY, True),
    "MissingAuthenticationTokenException": (_UNKNOWN_KEY, True),
    "IncompleteSignature": (_UNKNOWN_KEY, True),
    "ExpiredToken": (_EXPIRED, True),
    "ExpiredTokenException": (_EXPIRED, True),
    "InvalidSignatureException": (_SIGNATURE, False),
    "SignatureDoesNotMatch": (_SIGNATURE, False),
    "RequestTimeTooSkewed": (_SIGNATURE, False),
    "RequestExpired": (_SIGNATURE, False),
    "RequestInTheFuture": (_SIGNATURE, False),
    "Throttling": (_THROTTLED, False),
    "ThrottlingException": (_THROTTLED, False),
    "TooManyRequestsException": (_THROTTLED, False),
    "RequestLimitExceeded": (_THROTTLED, False),
    "InternalServiceError": ("failed (InternalServiceError)", False),
}

_LOGIN_ENDED = "cannot be asked: the login of the profile has ended; log in again, for instance with `aws sso login`"
_NO_SOURCE = "cannot be asked: the source of the credentials that boto3 is configured for gives none"
_CONFIG = "cannot be asked: boto3 cannot use its configuration (its files, and AWS_* in the environment)"

#: What boto3 finds out by itself, by the name of its exception. Not every release of it has each of them.
_LOCAL = {
    "NoCredentialsError": "cannot be asked: boto3 finds no credentials (environment, aws_profile, role of the machine)",
    "PartialCredentialsError": "cannot be asked: the credentials are incomplete",
    "NoRegionError": "cannot be asked: no region is given (aws_region)",
    "TokenRetrievalError": _LOGIN_ENDED,
    "SSOError": _LOGIN_ENDED,
    "LoginError": _LOGIN_ENDED,
    "CredentialRetrievalError": _NO_SOURCE,
    "MetadataRetrievalError": _NO_SOURCE,
    "InvalidConfigError": _CONFIG,
    "ConfigParseError": _CONFIG,
    "ConfigNotFound": _CONFIG,
}


class RefusedError(Exception):
    """The service refused what was asked for. ``words`` are for deciding, not for showing."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__()
        self.code = code if _CODE.match(code) else "unknown reason"
        self.words = words.lower()

    @property
    def denied(self) -> bool:
        """Whether a policy is the reason."""
        return self.code.startswith("AccessDenied")


def session(options: AwsOptions, region: str) -> Any:
    """A session of boto3 with the credentials that the options name. Raises ImportError and what boto3 raises."""
    import boto3

    # Ansible's log file takes what any library says, and this one says what servers answered.
    logging.getLogger("botocore").propagate = False
    # To boto3 a profile that is named in code comes before keys in the environment, one in the environment after.
    named = options.profile if options.profile != os.environ.get("AWS_PROFILE") else ""
    return boto3.Session(profile_name=named or None, region_name=region or None)


class AwsClient:
    """Connections to the service in one region; threads may share it."""

    def __init__(self, options: AwsOptions, region: str) -> None:
        """``region`` '' is the one that boto3 finds. Raises StoreError; asks nobody."""
        self._options = options
        self.region = region
        if options.ca_file and not Path(options.ca_file).exists():
            raise StoreError(f"cannot be asked: aws_ca_file {options.ca_file} does not exist", lasting=True)
        try:
            from botocore.config import Config

            with self._told():
                self._session = session(options, region)
        except ImportError:
            raise StoreError(f"needs the Python package boto3 in {sys.executable}", lasting=True) from None
        with self._told():
            self._client = self._session.client(
                "secretsmanager",
                endpoint_url=options.endpoint_url or None,
                verify=options.ca_file or None,
                config=Config(
                    connect_timeout=options.timeout,
                    read_timeout=options.timeout,
                    retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                    max_pool_connections=THREADS,
                ),
            )
            self.region = str(self._client.meta.region_name)

    def close(self) -> None:
        """Close the connections, which would stay open until the garbage is collected."""
        self._client.close()

    def get(self, name: str, version: str | None) -> str | bytes:
        """The content of a secret; ``version`` is None, ``stage=…`` or ``version_id=…``.

        Raises RefusedError and StoreError.
        """
        kind, _separator, value = (version or "").partition("=")
        which = {"stage": {"VersionStage": value}, "version_id": {"VersionId": value}}.get(kind, {})
        with self._told():
            return _content(self._client.get_secret_value(SecretId=name, **which))

    def get_batch(self, names: Sequence[str]) -> dict[str, str | bytes | RefusedError]:
        """The content of each secret, or why there is none; one that the service leaves out is not in the answer.

        It takes 20 names at most. Raises RefusedError, when the whole request was refused, and StoreError.
        """
        found: dict[str, str | bytes | RefusedError] = {}
        more: dict[str, str] = {}
        with self._told():
            while True:
                answer = self._client.batch_get_secret_value(SecretIdList=list(names), **more)
                for entry in answer.get("Errors", ()):
                    refusal = RefusedError(str(entry.get("ErrorCode", "")), str(entry.get("Message", "")))
                    found[str(entry.get("SecretId"))] = refusal
                for entry in answer.get("SecretValues", ()):
                    found.update({name: _content(entry) for name in names if _is_named(entry, name)})
                if not answer.get("NextToken"):
                    return found
                more = {"NextToken": answer["NextToken"]}

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the exceptions of boto3 into RefusedError and StoreError."""
        from botocore import exceptions, parsers

        try:
            yield
        except exceptions.ClientError as error:
            raise _refused(error) from None
        except exceptions.ProfileNotFound:
            text = f"cannot be asked: the configuration of boto3 has no profile {self._options.profile!r}"
            raise StoreError(text, lasting=True) from None
        except exceptions.InvalidRegionError:
            raise StoreError("cannot be asked: that is no name of a region (aws_region)", lasting=True) from None
        except (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError):
            text = f"did not answer within {self._options.timeout:g} s (aws_timeout), {_ATTEMPTS} times"
            raise StoreError(text, lasting=False) from None
        except exceptions.SSLError as error:
            raise StoreError(f"failed to make a TLS connection{_reason(error)}", lasting=False) from None
        except exceptions.ProxyConnectionError:
            raise StoreError("cannot be reached through the proxy of the environment", lasting=False) from None
        except (exceptions.EndpointConnectionError, exceptions.HTTPClientError) as error:
            known = "" if self._options.endpoint_url or self._knows_region() else "; boto3 knows no region of that name"
            raise StoreError(f"cannot be reached{_reason(error)}{known}", lasting=False) from None
        except (parsers.ResponseParserError, AttributeError, KeyError, TypeError):
            raise StoreError(_NOT_AWS, lasting=False) from None
        except (exceptions.BotoCoreError, ValueError, OSError) as error:
            names = [kind.__name__ for kind in type(error).__mro__]
            text = next((_LOCAL[name] for name in names if name in _LOCAL), f"cannot be asked: {names[0]} of boto3")
            raise StoreError(text, lasting=True) from None

    def _knows_region(self) -> bool:
        return any(
            self.region in self._session.get_available_regions("secretsmanager", partition_name=partition)
            for partition in self._session.get_available_partitions()
        )


def _content(answer: dict[str, Any]) -> str | bytes:
    """The text or the bytes of a secret. Raises KeyError and TypeError."""
    content = answer["SecretString"] if "SecretString" in answer else answer["SecretBinary"]
    if not isinstance(content, (str, bytes)):
        raise TypeError
    return content


def _is_named(entry: dict[str, Any], name: str) -> bool:
    # An ARN may be written without the six characters that AWS adds to a name.
    arn = str(entry.get("ARN", ""))
    return name in (entry.get("Name"), arn) or (name.startswith("arn:") and arn[:-7] == name and arn[-7:-6] == "-")


def _refused(error: Any) -> RefusedError | StoreError:
    details = error.response.get("Error", {})
    code, words = str(details.get("Code", "")), str(details.get("Message", ""))
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    if error.operation_name not in ("GetSecretValue", "BatchGetSecretValue"):
        # Credentials that boto3 gets from another service, such as a role to assume.
        reason = code if _CODE.match(code) else "no reason given"
        text = f"cannot be asked: {error.operation_name} for the credentials was refused ({reason})"
        return StoreError(text, lasting=True)
    if code in _REFUSALS:
        text, lasting = _REFUSALS[code]
        return StoreError(_clock(metadata) if text is _SIGNATURE else text, lasting=lasting)
    if status >= 500:
        return StoreError(f"failed (HTTP {status})", lasting=False)
    if not _CODE.match(code):
        return StoreError(_NOT_AWS, lasting=False)
    return RefusedError(code, words)


def _clock(metadata: dict[str, Any]) -> str:
    """Say how far the clock is off, where the answer tells it: a signature holds the time."""
    try:
        skew = time.time() - parsedate_to_datetime(metadata["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return _SIGNATURE
    if abs(skew) < _SKEW:
        return _SIGNATURE
    side = "ahead of" if skew > 0 else "behind"
    return f"does not accept the signature: the clock of the controller is {abs(skew):.0f} s {side} that of the service"


def _reason(error: BaseException | None) -> str:
    """What TLS or the system said, which is in the exceptions below."""
    inner = error
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f": the certificate is not trusted ({inner.verify_message}); see aws_ca_file"
        if isinstance(inner, ssl.SSLError) and inner.reason:
            return f": {inner.reason.lower().replace('_', ' ')}"
        if isinstance(inner, OSError) and inner.strerror:
            return f": {inner.strerror}"
        inner = inner.__cause__ or inner.__context__
    return ""

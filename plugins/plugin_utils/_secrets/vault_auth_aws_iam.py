# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticate as an AWS principal: the server has AWS tell who signed a request that does nothing else."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.aws_client import session
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import AWS_IAM, VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.vault_login import Login, log_in, refuse

NAME = AWS_IAM
MOUNT = "aws"
OPTIONS = ("vault_role", "vault_aws_server_id", "vault_aws_sts_region", "vault_auth_mount")
HINTS: Mapping[str, str] = {
    "X-Vault-AWS-IAM-Server-ID": "vault_aws_server_id is not the iam_server_id_header_value of the server",
    "does not belong to the role": "the role is not for this AWS principal (bound_iam_principal_arn)",
    "entry for role": "there is no such role: check vault_role and vault_auth_mount",
    "from STS": "AWS does not confirm who signed: check the credentials, the clock, and vault_aws_sts_region",
}
_BODY = "Action=GetCallerIdentity&Version=2011-06-15"
_SERVER_ID = "X-Vault-AWS-IAM-Server-ID"


def validate(options: VaultOptions) -> None:
    """Raise SecretError when boto3 is missing; asks nobody. Credentials are looked for at the login."""
    del options
    try:
        import boto3  # noqa: F401
    except ImportError:
        refuse(NAME, ["needs the Python package boto3"])


def authenticate(client: Any, options: VaultOptions) -> Login:
    """Log in with an hvac.Client. Raises SecretError when there are no AWS credentials."""
    url, headers = _signed(options)
    # Source: Vault's API of the method aws, "Login"; the body is part of what is signed.
    body = {
        "role": options.role,
        "iam_http_request_method": "POST",
        "iam_request_url": _base64(url),
        "iam_request_headers": _base64(json.dumps(headers)),
        "iam_request_body": _base64(_BODY),
    }
    return log_in(client, options.auth_mount or MOUNT, body)


def _signed(options: VaultOptions) -> tuple[str, dict[str, list[str]]]:
    """URL and headers of a GetCallerIdentity request, signed with the credentials that boto3 finds.

    hvac signs for the region us-east-1 at the global address only, which AWS refuses outside of its public partition.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError, ClientError

    region = options.aws_sts_region
    url = f"https://sts.{region}.{_domain(region)}/" if region else "https://sts.amazonaws.com/"
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    if options.aws_server_id:
        headers[_SERVER_ID] = options.aws_server_id
    request = AWSRequest(method="POST", url=url, data=_BODY, headers=headers)
    try:
        credentials = session(options.aws, options.aws.region).get_credentials()
        if credentials is None:
            raise SecretError("the auth method aws_iam finds no AWS credentials")
        SigV4Auth(credentials.get_frozen_credentials(), "sts", region or "us-east-1").add_auth(request)
    except (AttributeError, BotoCoreError, ClientError, KeyError, OSError, TypeError, ValueError) as error:
        # A credential process that is not there or prints no JSON object comes as it is. Its text may be quoted.
        raise SecretError(f"the auth method aws_iam cannot use the AWS credentials: {type(error).__name__}") from None
    return url, {name: [value] for name, value in request.headers.items()}


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()

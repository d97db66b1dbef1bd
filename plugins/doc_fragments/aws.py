# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of AWS Secrets Manager: one declaration for lookups, actions and their documentation."""

from __future__ import annotations


class ModuleDocFragment:
    """``gatewayops.openai.aws`` describes the options; ``gatewayops.openai.aws.plugins`` adds their other sources."""

    DOCUMENTATION = r"""
options:
  aws_region:
    description:
      - Region of the secrets. The one in a secret's ARN wins.
      - When it is not given, the one that C(boto3) finds.
    type: str
  aws_profile:
    description:
      - Profile in the configuration of C(boto3).
      - Without it, C(boto3) finds credentials as always, in environment variables, its files or the machine's role.
    type: str
  aws_endpoint_url:
    description: URL of the service, in place of that of AWS.
    type: str
  aws_ca_file:
    description: File on the controller with the certificate authorities to verify the service with.
    type: str
  aws_timeout:
    description:
      - How long to wait for one answer of the service, such as V(10s), V(2m) or a number of seconds.
      - A service that did not answer is not asked again for 60 seconds.
    type: str
    default: 10s
requirements:
  - boto3 (Python package on the controller), for C(aws-sm://) references
"""

    PLUGINS = r"""
options:
  aws_region:
    vars: [{name: gateway_aws_region}]
    env: [{name: AWS_DEFAULT_REGION}, {name: AWS_REGION}]
    ini: [{section: gatewayops_openai, key: aws_region}]
  aws_profile:
    vars: [{name: gateway_aws_profile}]
    env: [{name: AWS_PROFILE}]
    ini: [{section: gatewayops_openai, key: aws_profile}]
  aws_endpoint_url:
    vars: [{name: gateway_aws_endpoint_url}]
    env: [{name: AWS_ENDPOINT_URL}, {name: AWS_ENDPOINT_URL_SECRETS_MANAGER}]
    ini: [{section: gatewayops_openai, key: aws_endpoint_url}]
  aws_ca_file:
    vars: [{name: gateway_aws_ca_file}]
    env: [{name: AWS_CA_BUNDLE}]
    ini: [{section: gatewayops_openai, key: aws_ca_file}]
  aws_timeout:
    vars: [{name: gateway_aws_timeout}]
    ini: [{section: gatewayops_openai, key: aws_timeout}]
"""

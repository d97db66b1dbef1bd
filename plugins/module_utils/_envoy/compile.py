# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compile a spec into the files that Envoy reads. Pure: the same spec and host give the same bytes."""

from __future__ import annotations

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._canonical import canonical_json, digest
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy import (
    anthropic,
    cors,
    filters,
    jwt,
    routes,
    xds,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.access import access_of
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.bootstrap import compile_bootstrap
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.clusters import (
    compile_issuer_clusters,
    compile_provider_clusters,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.deployments import Deployments
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.endpoints import resources_of
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.limits import compile_limits
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.listeners import (
    compile_host_certificates,
    compile_listeners,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.model_clusters import (
    compile_model_clusters,
    compile_other_clusters,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.one_hop import compile_tunnels
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.otlp import compile_collector
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.prompts import prompts_script
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.proxies import (
    compile_proxies,
    compile_proxy_listeners,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.rate_limit_service import (
    compile_service_cluster,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.tokens import compile_tokens
from ansible_collections.gatewayops.openai.plugins.module_utils._envoy.transport import compile_provider_certificates
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import INSTANCES, Host
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.model import Spec

FOLDER = "envoy/"


def compile_envoy(spec: Spec, host: Host) -> tuple[BundleFile, ...]:
    """Return the bootstraps and the xDS files, sorted by path."""
    files = {f"bootstrap-{name}.json": canonical_json(compile_bootstrap(spec, host, name)) for name in INSTANCES}
    resources = {name: canonical_json(found) for name, found in sorted(compile_resources(spec, host).items())}
    # Put together from the parts, which are long: the canonical JSON of all resources, and of each file.
    everything = b",".join(canonical_json(name) + b":" + found for name, found in resources.items())
    version = canonical_json(digest(b"{" + everything + b"}")[:16])
    for name, found in resources.items():
        files[name] = b'{"resources":' + found + b',"version_info":' + version + b"}"
    return tuple(BundleFile(FOLDER + name, content) for name, content in sorted(files.items()))


def compile_resources(spec: Spec, host: Host) -> dict[str, list[xds.Config]]:
    """Return the resources of each xDS file, by its name."""
    access = access_of(spec)
    providers = compile_provider_clusters(spec, host)
    proxies = compile_proxies(spec)
    deployments = Deployments(spec, _names(providers))
    models = compile_model_clusters(spec, host, deployments, _names(providers))
    others = compile_other_clusters(spec, deployments)
    clusters = routes.Clusters(_names(providers), _names(models), _names(others))
    gateway_routes = routes.compile_gateway_routes(spec, access, clusters)
    all_clusters = [
        *(*providers.values(), *models.values(), *others.values(), *proxies.values()),
        *(*compile_issuer_clusters(spec, host), *compile_collector(spec.otlp, host)),
        *compile_service_cluster(spec.rate_limit_service, host),
    ]
    tunnels = compile_tunnels(spec, _names(providers))
    files = {
        "lds.json": [*compile_listeners(spec, host), *compile_proxy_listeners(proxies), *tunnels],
        "cds.json": sorted(all_clusters, key=lambda cluster: cluster["name"]),
        routes.GATEWAY_FILE: [cors.with_policies(spec, jwt.with_token_route(spec, gateway_routes))],
        routes.EGRESS_FILE: [routes.compile_egress_routes(deployments)],
        filters.REQUEST_FILE: [
            filters.compile_request_filter(
                access, resources_of(spec), to_anthropic=anthropic.is_used(spec), prompts=prompts_script(spec)
            )
        ],
        filters.LIMITS_FILE: [compile_limits(spec, host)],
        filters.TOKENS_FILE: [compile_tokens(spec, host)],
    }
    certificates = {**compile_host_certificates(spec), **compile_provider_certificates(spec)}
    files.update({name: [certificate] for name, certificate in certificates.items()})
    files.update({name: [resource] for name, resource in jwt.compile_tokens(spec).items()})
    return files


def _names(clusters: dict[str, xds.Config]) -> dict[str, str]:
    return {name: cluster["name"] for name, cluster in clusters.items()}

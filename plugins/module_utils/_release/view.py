# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on the host before a run: read, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._release import (
    admin,
    history,
    manifest,
    ports,
    store,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._release.history import Activation
from ansible_collections.gatewayops.openai.plugins.module_utils._release.layout import digest_of
from ansible_collections.gatewayops.openai.plugins.module_utils._release.manifest import Damage, Manifest
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import exists
from ansible_collections.gatewayops.openai.plugins.module_utils._release.service import RUNNING, Instance
from ansible_collections.gatewayops.openai.plugins.module_utils._release.site import Site

#: Asks for the release that was active before the one that is.
PREVIOUS = "previous"


@dataclass(frozen=True)
class View:
    """A host. `linked` is the name in `releases/` that `current` leads to, `active` the release that is served."""

    releases: Mapping[str, Manifest]
    history: tuple[Activation, ...]
    linked: str
    active: str
    instances: Mapping[str, Instance]

    @property
    def previous(self) -> str:
        """The release that was active before `active`, as long as it is on the host."""
        return history.previous(self.history, self.active, frozenset(self.releases))

    @property
    def running(self) -> tuple[Instance, ...]:
        """The instances that serve and are not about to stop."""
        return tuple(instance for instance in self.instances.values() if instance.state == RUNNING)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that may be holding the gateway's ports."""
        return tuple(instance.pid for instance in self.instances.values() if instance.pid)


@dataclass(frozen=True)
class Target:
    """The release that a run is about. `damages` is what its directory lacks, '' `on_host` that there is none yet."""

    manifest: Manifest
    files: Mapping[str, BundleFile]
    on_host: bool
    damages: tuple[Damage, ...] = ()

    @property
    def digest(self) -> str:
        """Its name."""
        return self.manifest.digest

    @property
    def envoy(self) -> dict[str, bytes]:
        """Its files for Envoy, bootstraps included."""
        return {path: file.content for path, file in self.files.items() if path.startswith("envoy/")}

    @property
    def xds(self) -> dict[str, bytes]:
        """Its files that Envoy reads again."""
        return {path: content for path, content in self.envoy.items() if not path.startswith("envoy/bootstrap-")}

    @property
    def process_digest(self) -> str:
        """The identity of what a process of this release is started with."""
        return admin.process_digest(self.manifest.hashes)


def look(site: Site) -> View:
    """The host as it is now."""
    releases = store.releases(site.layout)
    past = history.read(site.layout.history)
    linked = store.linked(site.layout)
    instances = site.manager.instances()
    active = history.active(past)
    if active not in releases:
        active = digest_of(linked)
    elif digest_of(linked) in releases and digest_of(linked) != active:
        # A run was killed between two steps: what the process has accepted is what is served.
        expected = expected_of(site, linked)
        serving = (instance for instance in instances.values() if instance.state == RUNNING)
        if any(not site.live.missing(instance.name, expected) for instance in serving):
            active = digest_of(linked)
    return View(releases, past, linked, active, instances)


def expected_of(site: Site, name: str) -> Mapping[str, str]:
    """What a process reports that has accepted what is in `releases/<name>`; nothing fulfils it if that is damaged."""
    try:
        return admin.expectation(admin.xds_files(str(site.layout.release(name))))
    except (KeyError, OSError, TypeError, ValueError):
        return {"listener_manager.lds": f"of {name}, whose files are damaged"}


def find_target(
    site: Site, view: View, digest: str, files: tuple[BundleFile, ...] | None, facts: Mapping[str, str]
) -> Target | None:
    """The release that is asked for; None when it is not on the host, undamaged, and `files` are not given either.

    Raises ReleaseError when there is no previous release, or when `files` are another release than `digest`.
    """
    if digest == PREVIOUS:
        digest = view.previous
        if not digest:
            raise ReleaseError("there is no release before the active one on this host to go back to")
    if files is None:
        return _on_host(site, view, digest)
    wanted = manifest.manifest_of(files, facts)
    _refuse_nonsense(files)
    if digest and digest != wanted.digest:
        raise ReleaseError(f"the bundle is release {wanted.digest}, not {digest}")
    known = view.releases.get(wanted.digest)
    directory = site.layout.release(wanted.digest)
    content = {file.path: file for file in files}
    if known:
        return Target(known, content, True, manifest.damages(directory, known, site.config_owner))
    if not exists(directory):
        return Target(wanted, content, False)
    lost = Damage(manifest.NAME, "content")
    others = (each for each in manifest.damages(directory, wanted, site.config_owner) if each.path != manifest.NAME)
    return Target(wanted, content, True, (lost, *others))


def _refuse_nonsense(files: tuple[BundleFile, ...]) -> None:
    envoy = {file.path: file.content for file in files if file.path.startswith("envoy/")}
    try:
        admin.expectation({path: content for path, content in envoy.items() if "/bootstrap-" not in path})
        ports.addresses(envoy)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"the bundle has no files for Envoy, or not all: {type(error).__name__} {error}") from None


def _on_host(site: Site, view: View, digest: str) -> Target | None:
    known = view.releases.get(digest)
    if known is None:
        return None
    damages = manifest.damages(site.layout.release(digest), known, site.config_owner)
    if any(damage.what in ("missing", "content") and damage.path != manifest.NAME for damage in damages):
        return None
    return Target(known, {file.path: file for file in store.bundle(site.layout, digest, known)}, True, damages)

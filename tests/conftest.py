"""Make the checkout importable as `ansible_collections.gatewayops.openai` in every test.

Where ansible-core is installed this is its own collection loader, so that plugins also load by their full name.
Elsewhere (the oldest Python of a gateway host, without Ansible) plain namespace packages do.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLLECTIONS = ROOT / ".cache" / "collections"


def _link_checkout() -> None:
    link = COLLECTIONS / "ansible_collections" / "gatewayops" / "openai"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to("../../../..", target_is_directory=True)


def _make_importable() -> None:
    try:
        from ansible.plugins.loader import init_plugin_loader
    except ImportError:
        sys.path.insert(0, str(COLLECTIONS))
    else:
        init_plugin_loader([str(COLLECTIONS)])


_link_checkout()
_make_importable()

"""Make the checkout importable as `ansible_collections.gatewayops.openai` in every test.

Where ansible-core is installed this is its own collection loader, so that plugins also load by their full name.
Elsewhere (the oldest Python of a gateway host, without Ansible) plain namespace packages do.
`tools/env.py` has linked the checkout there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis

# How long a case may take says nothing on a machine that does other things as well.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

COLLECTIONS = Path(__file__).resolve().parent.parent / ".cache" / "collections"

try:
    from ansible.plugins.loader import init_plugin_loader
except ImportError:
    sys.path.insert(0, str(COLLECTIONS))
else:
    init_plugin_loader([str(COLLECTIONS)])

"""Every generated file, by its path in the repository."""

from __future__ import annotations

from pathlib import Path

from tools.docs.arguments import role_argument_specs, spec_fragment
from tools.docs.pages import spec_page
from tools.docs.schema import FILE, LAYER, schema_text


def outputs(root: Path) -> dict[str, str]:
    """Return the content that each generated file should have."""
    return {
        "docs/schema/gateway.schema.json": schema_text(FILE),
        "docs/schema/gateway-layer.schema.json": schema_text(LAYER),
        "docs/spec.md": spec_page(root),
        "plugins/doc_fragments/spec.py": spec_fragment(),
        "roles/gateway/meta/argument_specs.yml": role_argument_specs(root),
    }

"""What all contract tests have."""

from __future__ import annotations

import watches
from load import figures

pytest_sessionstart = watches.pytest_sessionstart
pytest_terminal_summary = figures.pytest_terminal_summary

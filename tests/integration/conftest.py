"""What all integration tests have."""

from __future__ import annotations

import watches

pytest_sessionstart = watches.pytest_sessionstart

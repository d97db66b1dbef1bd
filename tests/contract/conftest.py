"""What all contract tests have."""

from __future__ import annotations

from load.figures import pytest_terminal_summary as pytest_terminal_summary
from watches import pytest_sessionstart as pytest_sessionstart

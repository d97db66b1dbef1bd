"""What all integration tests have."""

from __future__ import annotations

from watches import pytest_sessionstart as pytest_sessionstart

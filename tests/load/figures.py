"""A plugin for pytest: figures that tests record with `record_property` are shown at the end, whatever is captured."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show a line `figure NAME VALUE UNIT` for each."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, value in report.user_properties:
                    if name.startswith("figure "):
                        terminalreporter.write_line(f"{name} {value}")

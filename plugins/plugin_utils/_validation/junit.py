# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A validation as JUnit's XML, in which CI systems show tests: one for each check of the environment."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree

from ansible_collections.gatewayops.openai.plugins.plugin_utils._times import time_text
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.model import Check, Result, Validation
from ansible_collections.gatewayops.openai.plugins.plugin_utils._validation.terminal import shown

_NAME = "gatewayops.openai.validate"
# What XML 1.0 has no way to write.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_document(validation: Validation) -> bytes:
    """Return the report. What only warns, and what is excepted, is told beside a test that passes."""
    failed = {result.check for result in validation.errors}
    counts = {
        "tests": str(len(validation.checks)),
        "failures": str(len(failed)),
        "errors": "0",
        "skipped": str(sum(bool(check.skipped) for check in validation.checks)),
        "time": f"{validation.seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": _NAME, **counts})
    moment = time_text(datetime.now(UTC)).removesuffix("Z")
    name = _clean(validation.environment)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, "timestamp": moment, **counts})
    for check in validation.checks:
        _case(suite, validation, check)
    ElementTree.indent(suites)
    found: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return found + b"\n"


def _case(suite: ElementTree.Element, validation: Validation, check: Check) -> None:
    classname = _clean(f"{_NAME}.{validation.environment}")
    case = ElementTree.SubElement(suite, "testcase", {"classname": classname, "name": check.name, "time": "0"})
    if check.skipped:
        ElementTree.SubElement(case, "skipped", {"message": _clean(check.skipped)})
        return
    failed = [result for result in validation.errors if result.check == check.name]
    if failed:
        message = failed[0].text if len(failed) == 1 else f"{len(failed)} places: {check.doc}"
        failure = ElementTree.SubElement(case, "failure", {"type": "deny", "message": _clean(message)})
        failure.text = _told(failed)
    said = [result for result in (*validation.warnings, *validation.excepted) if result.check == check.name]
    if said:
        ElementTree.SubElement(case, "system-out").text = _told(said)


def _told(results: list[Result]) -> str:
    lines = []
    for result in results:
        kind = "excepted: " if result.exception else "warning: " if result.severity == "warn" else ""
        place = f"\n  {shown(result.where)}" if result.where else ""
        excuse = f"\n  {result.excuse}" if result.exception else ""
        lines.append(f"{kind}{result.text}{excuse}{place}\n  on {', '.join(result.hosts)}")
    return _clean("\n".join(lines))


def _clean(text: str) -> str:
    return _UNWRITABLE.sub("?", text)

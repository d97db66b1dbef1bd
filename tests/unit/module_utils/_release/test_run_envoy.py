# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What supervisor runs in Envoy's place."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from ansible_collections.gatewayops.openai.plugins.module_utils._release import run_envoy

ADMIN = "import pathlib, sys; pathlib.Path({!r}).open('a').write(' '.join(sys.argv[1:]) + chr(10))"


def test_it_drains_with_the_release_that_is_active_then(tmp_path: Path) -> None:
    """The one that it was started with may have been removed meanwhile, and the process would be cut."""
    said = tmp_path / "said"
    for release in ("old", "new"):
        (tmp_path / release / "libexec").mkdir(parents=True)
        (tmp_path / release / "libexec" / "gateway-admin").write_text(ADMIN.format(str(said)))
    program = tmp_path / "old" / "libexec" / "run-envoy"
    program.write_bytes(Path(run_envoy.__file__).read_bytes())
    current = tmp_path / "current"
    current.symlink_to("old")
    words = ["blue.sock", "0", "5", "blue.release", str(current), "sleep", "60"]
    with subprocess.Popen([sys.executable, "-I", str(program), *words]) as process:
        end = time.monotonic() + 20
        while not said.exists() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)  # until it has started its child and waits for it
        current.unlink()
        current.symlink_to("new")
        (tmp_path / "old" / "libexec" / "gateway-admin").unlink()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert said.read_text().splitlines() == [f"blue.release record {current}", "blue.sock stop 0 5"]

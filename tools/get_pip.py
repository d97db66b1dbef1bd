"""Stand-in for the get-pip.py that `ansible-test` downloads from its own site, for machines that reach only PyPI.

`tools/sanity.py` puts it where ansible-test looks before it downloads. pip itself then comes from the interpreter, and
brings the release that ansible-test asked for from wherever pip's own configuration says.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys

SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

ensurepip.bootstrap(default_pip=True)
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
# The pip that an interpreter bundles may be too old to look at the system's certificates itself.
certificates = ["--cert", SYSTEM_CERTIFICATES] if os.path.exists(SYSTEM_CERTIFICATES) else []  # noqa: PTH110
# ansible-test runs pip from this file, under this variable, and the real pip must not find it again.
environment = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
pip = [sys.executable, "-m", "pip", "install", "--upgrade", *certificates, *wanted]
sys.exit(subprocess.call(pip, env=environment))

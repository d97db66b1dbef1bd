"""Run `ansible-test sanity` of one environment, without a single ignore entry.

    .cache/venv/bin/python tools/sanity.py [argument of ansible-test ...]

ansible-test wants a Git checkout in a folder that ends in ansible_collections/gatewayops/openai, and no symlink there,
so it gets a copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.prefix) / "bin"
VERSION = "%d.%d" % sys.version_info[:2]
COPY = ROOT / ".cache" / "sanity" / VERSION / "ansible_collections" / "gatewayops" / "openai"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def copy_checkout() -> None:
    """Copy what Git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    shutil.rmtree(COPY, ignore_errors=True)
    for name in map(os.fsdecode, filter(None, listed.stdout.split(b"\0"))):
        source, target = ROOT / name, COPY / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    subprocess.run(["git", "init", "--quiet"], cwd=COPY, check=True)


def provide_get_pip() -> None:
    """Put our get-pip where ansible-test would keep its download."""
    import ansible_test  # only this environment has it

    requirements = Path(ansible_test.__path__[0]) / "_internal" / "python_requirements.py"
    cache = Path.home() / ".ansible" / "test" / "cache"
    for version in re.findall(r"\bpip='([0-9.]+)'", requirements.read_text()):
        target = cache / ("get_pip_%s.py" % version.replace(".", "_"))
        if not target.exists():
            cache.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "tools" / "get_pip.py", target)


def main() -> int:
    copy_checkout()
    if list((COPY / "tests" / "sanity").glob("ignore*")):
        sys.exit("tests/sanity/ignore*.txt: repair what it hides instead.")
    provide_get_pip()
    # ansible-test looks for interpreters on PATH, where a version manager's shims answer for versions they cannot run.
    interpreter = Path(sys.base_prefix) / "bin"
    environment = {**os.environ, "PATH": "%s:%s:%s" % (BIN, interpreter, SYSTEM_PATH)}
    command = [str(BIN / "ansible-test"), "sanity", "--color", "no", "--venv", "--python", VERSION, *sys.argv[1:]]
    return subprocess.run(command, cwd=COPY, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Make the project's Python environment from a lock file, or reuse it while the lock is unchanged.

    python3 tools/env.py               .cache/venv       everything that tests need, for this python3
    python3 tools/env.py demo          .cache/venv-demo  what `make demo` needs, and no more
    python3 tools/env.py core216       .cache/venv-core216
    python3 tools/env.py readers       .cache/venv-readers  programs that read plans and workflows, for tests
    python3 tools/env.py --path DIR    another place, for instance for another interpreter

The interpreter that runs this script is the one the environment is made of.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
CHECKOUT_LINK = CACHE / "collections" / "ansible_collections" / "gatewayops" / "openai"
VERSION = "%d.%d" % sys.version_info[:2]


def lock_for(name: str) -> Path:
    """The lock of an environment: some exist once, the others for each generation of ansible-core."""
    if name == "target":
        return ROOT / "requirements" / "target-py39.lock"
    if name == "core216":
        return ROOT / "requirements" / "core216-py311.lock"
    if sys.version_info < (3, 11):
        sys.exit(
            "Python %s is too old: the controller needs 3.11 or newer.\n"
            "Put a newer one first on PATH (pyenv, or your distribution's python3.11)." % VERSION
        )
    generation = "py313" if sys.version_info >= (3, 13) else "py311"
    return ROOT / "requirements" / ("%s-%s.lock" % (name, generation))


def link_checkout() -> None:
    """Let Ansible find the checkout by its collection name. Relative, so that the checkout can be moved."""
    CHECKOUT_LINK.parent.mkdir(parents=True, exist_ok=True)
    if not CHECKOUT_LINK.is_symlink():
        CHECKOUT_LINK.symlink_to("../../../..", target_is_directory=True)


def need_venv() -> None:
    """Debian keeps half of the venv module in a package of its own, and says so only after half the work."""
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        package = "python%s-venv" % VERSION
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            sys.exit("Python %s has no venv module here. On Debian: apt-get install %s" % (VERSION, package))
        print("Installing the Debian package %s ..." % package, flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", package], check=True, stdout=subprocess.DEVNULL)


def install(pip: list[str], *, lock: Path) -> None:
    """Install what a lock names, and show what pip is at in one short line for each package."""
    # Hashes are checked one by one: no resolver, and pip never asks for a version that is not in the lock.
    command = [*pip, "install", "--no-deps", "--require-hashes", "--progress-bar=off", "-r", str(lock)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in process.stdout or ():
        said.append(line)
        word = line.split(" ")[0]
        if word in ("Collecting", "Processing", "Installing"):
            what = line[len(word) :].split("(from")[0].rpartition("/")[2].strip()
            print("  %s %s" % (word.lower(), what[:80]), flush=True)
    if process.wait() != 0:
        sys.exit("".join(said))


def lend_module_utils(*, venv: Path) -> None:
    """Give the environment of a gateway host what Ansible ships along with a module, and nothing else of Ansible."""
    shipped = next(CACHE.glob("venv/lib/python3*/site-packages/ansible/module_utils"), None)
    if shipped is None:
        sys.exit("Make the environment for tests first: make env")
    link = next(venv.glob("lib/python3*/site-packages")) / "ansible" / "module_utils"
    link.parent.mkdir(exist_ok=True)
    (link.parent / "__init__.py").touch()
    link.unlink(missing_ok=True)
    link.symlink_to(shipped, target_is_directory=True)


def make(*, venv: Path, lock: Path) -> None:
    need_venv()
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    install(pip, lock=lock)
    subprocess.run([*pip, "--quiet", "check"], check=True)


@contextlib.contextmanager
def alone(venv: Path) -> Iterator[None]:
    """Two checks in two terminals may want the same environment: one makes it, the other waits."""
    with venv.with_name(venv.name + ".making").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def make_unless_ready(*, venv: Path, lock: Path) -> None:
    # The path is in it because scripts in an environment name their interpreter: a moved one is a broken one.
    pins = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    stamp = hashlib.sha256("\n".join([sys.version, str(venv), *pins]).encode()).hexdigest()
    ready = venv / ".ready"
    if ready.exists() and ready.read_text() == stamp:
        return
    print("Making %s from %s (Python %s) ..." % (venv.name, lock.name, VERSION), flush=True)
    began = time.monotonic()
    make(venv=venv, lock=lock)
    ready.write_text(stamp)
    print("Made %s in %.0f s." % (venv.name, time.monotonic() - began), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="dev", choices=["dev", "demo", "core216", "readers", "target"])
    parser.add_argument("--path", type=Path, help="where the environment goes")
    options = parser.parse_args()

    venv = options.path or CACHE / ("venv" if options.name == "dev" else "venv-" + options.name)
    link_checkout()
    with alone(venv):
        make_unless_ready(venv=venv.absolute(), lock=lock_for(options.name))
        if options.name == "target":
            lend_module_utils(venv=venv)


if __name__ == "__main__":
    main()

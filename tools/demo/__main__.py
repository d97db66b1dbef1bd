"""A whole gateway on this machine, to look at: OpenBao, two providers, Envoy, all of it on loopback and without root.

    python3 tools/demo up      start it, or bring it back to where it should be (`make demo`)
    python3 tools/demo down    stop it and remove what it made (`make demo-down`)

Everything lives in .cache/demo of this checkout. Secrets and sockets are the exception: they are in a directory of
/dev/shm, which is memory. The Python packages it needs come from requirements/demo-*.lock into .cache/venv-demo.
"""

# ruff: noqa: I002 - without annotations of the future, so that a Python that is too old gets as far as saying so
import sys

if sys.version_info < (3, 11):  # Before the imports: they need it.
    sys.exit(
        "demo: this is Python {}.{}, and the demo needs 3.11 or newer.\n"
        "demo: put a newer one first on PATH, or say `make demo PYTHON=/path/to/python3.12`.".format(*sys.version_info)
    )

import argparse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.demo.down import down
from tools.demo.places import locked
from tools.demo.say import DemoError
from tools.demo.up import up


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["up", "down"])
    options = parser.parse_args()
    try:
        with locked():
            if options.action == "up":
                up()
            else:
                down()
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted. `make demo` goes on from here, `make demo-down` removes it all.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

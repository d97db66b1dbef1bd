"""Run docs/guide.md on this machine: write into it what its commands print, and take its pictures.

    .cache/venv/bin/python tools/guide

The files of the guide are written to a directory, and its commands run there in their order. What stands in for the
rest of the world is a file of variables beside the guide's own: the host is this machine, with supervisor in place of
systemd, and the providers are those of the tests. Their addresses are put back in what is shown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / ".cache" / "collections")]

from browser import a_browser  # noqa: E402
from contract.certificates import Authority  # noqa: E402
from integration.openbao import free_port  # noqa: E402
from integration.site_gateway import CANARY, a_provider, end_processes, real_envoy  # noqa: E402

GUIDE = ROOT / "docs" / "guide.md"
IMAGES = ROOT / "docs" / "images"
BIN = Path(sys.executable).parent
HOST = "gateway1.example.com"
VARIABLES = Path("inventories/production/group_vars/gateways")
#: The steps that are to fail.
FAILS = {"apply again", "drift"}
#: What is done in the guide: a marker, and the block that follows it.
STEP = re.compile(
    r"<!-- (?P<kind>file|patch|run|include)(?:: (?P<name>[^>]+?))? -->\n"
    r"(?P<block>```[a-z]+\n.*?\n```|\n.*?\n?<!-- end -->)",
    re.DOTALL,
)
#: Lines of Ansible that say which task runs, on which host and where it is written, and what is around its message.
_SCAFFOLD = re.compile(
    r"(PLAY|TASK|RUNNING HANDLER) |(ok|changed|skipping|included|fatal): |Origin: |\d+(  |$)|\s+\^ column |"
    r'\s+"msg": \[|\s+\],?$|[{}]?$'
)
#: What a message is written in, and the line that ends a host's run without a change.
_QUOTED = re.compile(r'\s+(?:"msg": )?"(.*)",?$')
_UNCHANGED = re.compile(r"changed=0 .* failed=0 ")


@dataclass(frozen=True)
class World:
    """A directory with the guide's files, the environment of its commands, and what is shown in place of what."""

    directory: Path
    environment: Mapping[str, str]
    shown: Mapping[str, str]

    def run(self, commands: str, *, fails: bool) -> str:
        """Return what commands print, one after the other. Ends the program when the last one ends as it should not."""
        done = subprocess.run(
            ["bash", "-c", commands],
            cwd=self.directory,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if (done.returncode != 0) != fails:
            sys.exit(f"{done.stdout}\nended with {done.returncode}:\n{commands}\nThe guide is as it was.")
        return self.told(done.stdout)

    def told(self, text: str) -> str:
        """Return a text with the names of the guide."""
        for here, there in self.shown.items():
            text = text.replace(here, there)
        return text


@contextmanager
def a_world() -> Iterator[World]:
    """Providers, certificates and directories; what a playbook has started is ended afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="gw-"))
    secrets = Path(tempfile.mkdtemp(prefix="gw-", dir="/dev/shm"))
    try:
        with ExitStack() as stack:
            ports = {name: stack.enter_context(a_provider(name)).port for name in ("openai", "vllm")}
            authority = Authority(directory, "ca")
            certificate, key = authority.sign("gateway", HOST, "127.0.0.1")
            stack.callback(end_processes, directory)
            (directory / VARIABLES).mkdir(parents=True)
            metrics = free_port()
            here = {
                **_variables(directory, secrets, ports, authority.certificate),
                "gateway_metrics": {"port": metrics},
            }
            (directory / VARIABLES / "here.yml").write_text(json.dumps(here))
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "VAULT_"))},
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
                "ANSIBLE_HOME": str(directory / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "TLS_CERTIFICATE": certificate.read_text(),
                "TLS_PRIVATE_KEY": key.read_text(),
                "OPENAI_API_KEY": f"sk-{CANARY}-openai",
                "VLLM_API_KEY": f"sk-{CANARY}-vllm",
                "PLAN_KEY": f"sk-{CANARY}-plan",
                **{f"{name}_KEY": f"sk-{CANARY}-{name.lower()}" for name in ("BATCH", "SEARCH", "SUPPORT")},
            }
            shown = {
                f"port: {metrics}": "port: 9902",
                f"http://127.0.0.1:{ports['vllm']}/v1": "http://10.20.0.5:8000/v1",
            }
            shown[f"http://127.0.0.1:{ports['openai']}/v1"] = "https://api.openai.com/v1"
            yield World(directory, environment, shown)
    finally:
        shutil.rmtree(directory)
        shutil.rmtree(secrets)


def _variables(directory: Path, secrets: Path, ports: Mapping[str, int], ca: Path) -> dict[str, object]:
    providers = {
        "openai": {"type": "openai", "api_key": "env://OPENAI_API_KEY"},
        "vllm": {"type": "openai_compatible", "api_key": "env://VLLM_API_KEY"},
    }
    return {
        "ansible_connection": "local",
        "ansible_host": "127.0.0.1",
        "ansible_python_interpreter": sys.executable,
        "envoy_method": "path",
        "envoy_path": str(real_envoy()),
        "gateway_service_manager": "supervisor",
        "gateway_root": str(directory / "root"),
        "gateway_secrets_dir": str(secrets / "secrets"),
        "gateway_supervisord": str(BIN / "supervisord"),
        "gateway_python": sys.executable,
        "gateway_verify_ca_file": str(ca),
        "gateway_providers": {
            name: {**providers[name], "base_url": f"http://127.0.0.1:{port}/v1"} for name, port in ports.items()
        },
    }


def main() -> None:
    """Run the guide, and write it."""
    with a_world() as world:
        text = STEP.sub(lambda step: _step(world, step), GUIDE.read_text(encoding="utf-8"))
        GUIDE.write_text(text, encoding="utf-8")
        _pictures(world.directory / "plan.html")


def _step(world: World, step: re.Match[str]) -> str:
    kind, name, block = step["kind"], step["name"], step["block"]
    marker = step[0][: -len(block)]
    content = block.partition("\n")[2].removesuffix("```")
    if kind == "file":
        path = world.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    elif kind == "patch":
        subprocess.run(["git", "apply", "-"], cwd=world.directory, input=content, text=True, check=True)
    elif kind == "include":
        quoted = "\n".join(
            f"> {line}".rstrip() for line in world.told((world.directory / name).read_text()).splitlines()
        )
        return f"{marker}\n{quoted}\n\n<!-- end -->"
    else:
        commands = [line for line in content.splitlines() if line.startswith("$ ")]
        print(f"{name} ...", flush=True)
        return (
            f"{marker}```console\n"
            + "\n".join([*commands, *_told(world.run(_runnable(world, commands), fails=name in FAILS))])
            + "\n```"
        )
    return step[0]


def _runnable(world: World, commands: list[str]) -> str:
    """The commands as they run here: a host is this machine, and a secret is in the environment already."""
    here = [command.removeprefix("$ ") for command in commands if not command.startswith("$ export ")]
    script = "\n".join(re.sub(rf"^ssh {HOST} '(.*)'$", r"\1", command) for command in here)
    return script.replace("/etc/openai-gateway", str(world.directory / "root" / "config"))


def _told(output: str) -> list[str]:
    """The lines of an output that say something about the gateways."""
    lines = ["…"]
    for line in map(str.rstrip, output.splitlines()):
        if _SCAFFOLD.match(line) or _UNCHANGED.search(line):
            continue
        if line.startswith(("Plan: ", "Drift: ")) and lines[-1].startswith(" "):
            lines.append("")
        lines.append(_QUOTED.sub(r"\1", line))
    return lines


def _pictures(page: Path) -> None:
    IMAGES.mkdir(exist_ok=True)
    with a_browser() as browser:
        for name, dark, width, height, first in (
            ("light", False, 1000, 1320, "body"),
            ("dark", True, 1000, 1200, ".group h3"),
            ("phone", False, 390, 780, "body"),
        ):
            with browser.open(page, width=width, height=height, dark=dark) as opened:
                opened.evaluate(f"document.querySelector('{first}').scrollIntoView()")
                (IMAGES / f"plan-{name}.png").write_bytes(opened.screenshot())


if __name__ == "__main__":
    main()

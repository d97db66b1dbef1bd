"""`make demo`: from a checkout to a gateway that answers, and the proof that a second run changes nothing."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time

from tools.demo import bao, places, services
from tools.demo.places import HOME, INVENTORY, LOGS, ROOT, VENV, Places
from tools.demo.say import BEGAN, DemoError, clean_environment, line, note, run_shown, step

MODEL = "gpt-5"
CONSUMER = "consumers/search"
ACTIVATE = HOME / "activate"
PROVIDERS = ("openai", "azure")


def up() -> None:
    with step("1/8 Python packages, from the hashed lock, into .cache/venv-demo"):
        _packages()
    with step("2/8 Ports and directories"):
        known = places.read()
        held = services.mend(known)
        here = places.prepare(known, held=held)
        keys = bao.make_keys(here)
        note(", ".join(f"{name} on 127.0.0.1:{port}" for name, port in here.ports.items()))
        note(f"secrets and sockets in {here.memory}, all else in {HOME}")
    with step("3/8 OpenBao, and two providers that ask for their API keys"):
        provider_keys = {name: keys.file(f"providers/{name}", "api_key") for name in PROVIDERS}
        services.start(here, running=held.issuperset(services.SERVICE_PORTS), keys=provider_keys)
    with step("4/8 Secrets into OpenBao"):
        bao.provision(here, keys)
    _write_activate(here, keys)
    with step("5/8 The gateway: ansible-playbook gatewayops.openai.site"):
        _playbook("site")
    with step("6/8 Does it work: ansible-playbook gatewayops.openai.verify"):
        _playbook("verify")
    with step("7/8 The same site again, which must change nothing"):
        _nothing_changed(_playbook("site"))
    key = bao.read(here, keys, CONSUMER, "current")
    with step("8/8 As an application: the official OpenAI client"):
        _talk(here, key)
        _prove_injection(here, keys, key)
    _explain(here, key)


def _packages() -> None:
    """tools/env.py speaks for itself; what can be said here is what usually is the matter."""
    status, _other = run_shown([sys.executable, "-u", "tools/env.py", "demo"], env=clean_environment(), cwd=ROOT)
    if status:
        raise DemoError(
            "the Python packages could not be installed; the lines above say why.\n"
            "Without a way to PyPI, name an index of your own in PIP_INDEX_URL (and PIP_CERT, PIP_PROXY)."
        )


def _playbook(name: str) -> str:
    """Run a playbook of the collection against inventories/local, and return what it printed."""
    more = {"ANSIBLE_FORCE_COLOR": "1"} if sys.stdout.isatty() else {"ANSIBLE_NOCOLOR": "1"}
    command = ["ansible-playbook", f"gatewayops.openai.{name}", "-i", INVENTORY]
    note(f"$ {shlex.join(command)}")
    program = [str(VENV / "bin" / "python"), str(VENV / "bin" / command[0])]
    status, output = run_shown([*program, *command[1:]], env={**_ansible_environment(), **more}, cwd=ROOT)
    if status:
        raise DemoError(
            f"`{shlex.join(command)}` failed; the lines above say why.\n"
            f"Logs are in {LOGS}. `make demo` tries again, `make demo-down` removes it all."
        )
    return output


def _ansible_environment() -> dict[str, str]:
    path = clean_environment().get("PATH", "")
    return clean_environment(PATH=f"{VENV / 'bin'}:{path}", **_ansible_settings())


def _ansible_settings() -> dict[str, str]:
    return {
        "ANSIBLE_COLLECTIONS_PATH": str(places.CACHE / "collections"),
        "ANSIBLE_HOME": str(HOME / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(HOME / "ansible" / "tmp"),
        "ANSIBLE_PIPELINING": "1",
    }


def _nothing_changed(output: str) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s", plain, re.MULTILINE)
    if not recap:
        raise DemoError("ansible-playbook printed no recap, so nobody knows whether the second run changed something.")
    for host, changed in recap:
        if changed != "0":
            raise DemoError(f"the second run changed {changed} things on {host}. It must not change any.")
        note(f"{host}: changed=0")


def _talk(here: Places, key: str) -> None:
    for name in PROVIDERS:
        services.steer(here, name, "_reset")
    _client(here, key)
    services.steer(here, PROVIDERS[0], "_control", {"status": 503})
    try:
        note(f"provider {PROVIDERS[0]} now answers 503, so the gateway asks the next one:")
        _client(here, key, "--once")
    finally:
        services.steer(here, PROVIDERS[0], "_control", {"status": None})


def _client(here: Places, key: str, *options: str) -> None:
    """Run client.py, which needs the package `openai` of the demo's environment. It gets the key on standard input."""
    script = ROOT / "tools" / "demo" / "client.py"
    done = subprocess.run(
        [VENV / "bin" / "python", script, here.gateway_url, MODEL, *options],
        input=key,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(),
        check=False,
    )
    for output in done.stdout.splitlines():
        note(output)
    if done.returncode:
        raise DemoError(f"the client did not get what it asked for. The gateway's logs are in {LOGS / 'gateway'}.")


def _prove_injection(here: Places, keys: bao.Keys, consumer_key: str) -> None:
    """Each provider saw its own key, which it insists on, and not the consumer's."""
    for name in PROVIDERS:
        requests = services.steer(here, name, "_seen")
        provider_key = keys.file(f"providers/{name}", "api_key").read_text().strip()
        for request in requests:
            values = " ".join(request["headers"].values())
            if consumer_key in values or provider_key not in values:
                raise DemoError(f"provider {name} was sent the key of a consumer, or not its own.")
        if not requests:
            raise DemoError(f"no request reached provider {name}.")
        note(f"provider {name} saw {len(requests)} requests, each with its own key and none with the consumer's")


def _write_activate(here: Places, keys: bao.Keys) -> None:
    """A file for the user's shell. It reads the secrets where they are, and holds none."""
    settings = {"VAULT_ADDR": here.bao_url, "BAO_ADDR": here.bao_url, "GATEWAY_URL": here.gateway_url}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in {**_ansible_settings(), **settings}.items()]
    quoted_key = shlex.quote(f"-field=current kv/{CONSUMER}")
    ACTIVATE.write_text(
        "# Written by `make demo`, for a shell in which to look around.\n"
        f"export PATH={shlex.quote(str(VENV / 'bin'))}:$PATH\n"
        + "\n".join(lines)
        + f"\nexport BAO_TOKEN=$(cat {shlex.quote(str(keys.root_token))})\n"
        + f"export GATEWAY_API_KEY=$(bao kv get {quoted_key[1:-1]})\n"
    )


def _explain(here: Places, key: str) -> None:
    gateway = HOME / "gateway"
    activate = ACTIVATE.relative_to(ROOT)
    line(f"\nThe demo is up, after {time.monotonic() - BEGAN:.0f} s. It stays up until `make demo-down`.\n")
    line(f"GATEWAY_URL={here.gateway_url}")
    line(f"GATEWAY_API_KEY={key}")
    line(f"VAULT_ADDR={here.bao_url}")
    line(
        f"""
To look around, first, in this directory:   . {activate}

Ask it something
    curl $GATEWAY_URL/models -H "Authorization: Bearer $GATEWAY_API_KEY"
    curl $GATEWAY_URL/chat/completions -H "Authorization: Bearer $GATEWAY_API_KEY" \\
      -H 'Content-Type: application/json' \\
      -d '{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hi"}}]}}'
    (with "stream": true and curl -N it streams; "x_delay": 0.3 slows the demo's providers down)

See what it does
    tail -f {(LOGS / "gateway" / "access.log").relative_to(ROOT)}
    curl http://127.0.0.1:{here.ports["metrics"]}/metrics
    curl --unix-socket {here.memory}/run/blue.sock http://admin/clusters     (or green.sock)
    ls -l {gateway.relative_to(ROOT)}/current {gateway.relative_to(ROOT)}/releases

Change it: edit {INVENTORY}/group_vars, or for a moment on the command line; see what would change, do it, go back
    ansible-playbook gatewayops.openai.site -i {INVENTORY} -e gateway_size=medium --check --diff
    ansible-playbook gatewayops.openai.site -i {INVENTORY} -e gateway_size=medium
    ansible-playbook gatewayops.openai.rollback -i {INVENTORY}

Rotate a consumer's key: the old one stays valid for a day, and no process is restarted; then have the new one here
    ansible localhost -m gatewayops.openai.gateway_key -a "path=kv/{CONSUMER} state=rotated"
    ansible-playbook gatewayops.openai.rotate -i {INVENTORY} --diff
    . {activate}

Break the spec, and see what it says; no host is touched
    ansible-playbook gatewayops.openai.site -i {INVENTORY} -e '{{"gateway_size": "enormous"}}'
"""
    )

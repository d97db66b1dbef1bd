"""No secret in what a host keeps, nor in what its processes show while secrets are delivered and restored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scenario
from hosts import Gateway
from scenario import Site

FOLDER = "/run/never-seen"  # in memory
CONTROL = "control-5d0a17c2"
ADMIN = "curl --silent --show-error --fail --unix-socket /run/openai-gateway/{}.sock http://localhost{}"
# Looks at every process again and again: what it runs and with what environment. A process that is gone sooner than it
# comes by, which is some milliseconds, is missed.
WATCH = f"""
import os, time
needles = [line.encode() for line in open("{FOLDER}/needles").read().splitlines()]
own, seen, found = str(os.getpid()), set(), set()
while not os.path.exists("{FOLDER}/stop"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                with open("/proc/%s/%s" % (pid, name), "rb") as file:
                    content = file.read()
            except OSError:
                continue
            seen.add(content)
            if pid != own:
                found.update("%s %d" % (name, at) for at, needle in enumerate(needles) if needle in content)
    time.sleep(0.002)
with open("{FOLDER}/found", "w") as file:
    file.write("%d\\n%s\\n" % (len(seen), "\\n".join(sorted(found))))
"""


@pytest.fixture
def needles(gw1: Gateway) -> Iterator[list[str]]:
    """The names of the secrets, in the order of the file that has them on the host; the last is a control."""
    known = {**scenario.needles(), "control": CONTROL}
    gw1.out(f"umask 077; rm -rf {FOLDER}; mkdir {FOLDER}; cat >{FOLDER}/needles", stdin="\n".join(known.values()))
    yield list(known)
    gw1.out(f"rm -r {FOLDER}")


def test_processes_show_none_while_secrets_are_delivered_and_restored(
    site: Site, gw1: Gateway, needles: list[str]
) -> None:
    gw1.out(f"cat >{FOLDER}/watch.py", stdin=WATCH)
    gw1.out(f"systemd-run --quiet --unit never-seen python3 {FOLDER}/watch.py")
    try:
        gw1.out(f"KEY={CONTROL} sh -c 'sleep 0.05' {CONTROL}")
        gw1.out("rm /var/lib/openai-gateway/secrets.sealed /run/openai-gateway/secrets/*")
        played = site()
        assert played.rc == 0, played.output
        gw1.out("rm /run/openai-gateway/secrets/consumers.json; systemctl restart openai-gateway-secrets")
        gw1.out("test -s /run/openai-gateway/secrets/consumers.json")
    finally:
        gw1.out(f"touch {FOLDER}/stop; while systemctl -q is-active never-seen; do sleep 0.1; done")
    count, *found = gw1.out(f"cat {FOLDER}/found").splitlines()
    assert int(count) > 30, "it saw what was running"
    control = needles.index("control")
    assert found == [f"cmdline {control}", f"environ {control}"], [needles[int(line.split()[1])] for line in found]


def test_the_journal_has_none_in_any_of_its_fields(gw1: Gateway, needles: list[str]) -> None:
    assert needles
    gw1.out(f"echo {CONTROL} | systemd-cat --identifier never-seen")
    gw1.out("journalctl --sync")
    shown = gw1.out(f"journalctl --quiet --output export | grep -aoF -f {FOLDER}/needles | sort -u")
    assert shown == CONTROL


def test_envoy_shows_none(gw1: Gateway, needles: list[str]) -> None:
    assert needles
    for path, word in {
        "/config_dump?include_eds": "consumer_keys",
        "/stats": "sds.listener-public",
        "/clusters": "model:",
        "/certs": "serial_number",
        "/server_info": "command_line_options",
    }.items():
        answer = ADMIN.format(gw1.instance(), path)
        assert int(gw1.out(f"{answer} | grep -cF '{word}'")), path
        assert gw1.run(f"{answer} | grep -aF -f {FOLDER}/needles").stdout == "", path


def test_envoy_leaves_no_core_file(gw1: Gateway) -> None:
    limits = gw1.out(f"grep 'Max core file size' /proc/{gw1.pid()}/limits")
    assert limits.split()[4:6] == ["0", "0"]

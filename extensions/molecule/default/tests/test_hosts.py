"""What a gateway host looks like: service, user, files, limits, hardening."""

from __future__ import annotations

import re
from typing import Any

import pytest

testinfra_hosts = ["ansible://gateways"]

UNIT = "openai-gateway@blue.service"
ADMIN = "/run/openai-gateway/blue.sock"


@pytest.fixture
def root(host: Any) -> Any:
    with host.sudo():
        yield host


def show(host: Any, name: str) -> str:
    value: str = host.check_output("systemctl show --property %s --value %s", name, UNIT)
    return value


def test_service_runs_and_starts_with_the_machine(root: Any) -> None:
    assert root.service(UNIT).is_running
    assert root.service(UNIT).is_enabled
    green = root.service("openai-gateway@green.service")
    assert not green.is_running
    assert not green.is_enabled


def test_service_is_not_root(root: Any) -> None:
    pid = show(root, "MainPID")
    owner = root.check_output("stat --format %%U /proc/%s", pid)
    assert owner == "openai-gateway"
    capabilities = re.search(r"CapEff:\s*([0-9a-f]+)", root.file(f"/proc/{pid}/status").content_string)
    assert capabilities
    assert int(capabilities.group(1), 16) == 1 << 10, "CAP_NET_BIND_SERVICE and no other"


def test_user_cannot_log_in(root: Any) -> None:
    user = root.user("openai-gateway")
    assert user.shell.endswith(("/nologin", "/false"))
    assert user.uid < 1000


def test_listeners(root: Any) -> None:
    assert root.socket("tcp://0.0.0.0:443").is_listening
    assert root.socket("tcp://127.0.0.1:8080").is_listening
    listening = {line.split()[3] for line in root.check_output("ss -Hltn").splitlines()}
    outside = {address for address in listening if not address.startswith("127.0.0.")}
    assert outside <= {"0.0.0.0:443", "0.0.0.0:22", "[::]:22"}


def test_admin_is_a_socket_for_its_user_only(root: Any) -> None:
    socket = root.file(ADMIN)
    assert socket.is_socket
    assert socket.mode == 0o600
    assert socket.user == "openai-gateway"


def test_metrics_are_on_loopback_and_nothing_else_of_the_admin_is(root: Any) -> None:
    assert root.socket("tcp://127.0.0.1:9902").is_listening
    assert "envoy_server_live" in root.check_output("curl -sSf http://127.0.0.1:9902/metrics")
    for path in ("/config_dump", "/quitquitquit", "/certs", "/"):
        status = root.check_output("curl -s -o /dev/null -w '%%{http_code}' -X POST http://127.0.0.1:9902%s", path)
        assert status == "404", path


def test_secrets_are_in_memory_and_only_their_user_reads_them(root: Any) -> None:
    directory = root.file("/run/openai-gateway/secrets")
    assert directory.mode == 0o700
    assert directory.user == "openai-gateway"
    assert root.check_output("findmnt --noheadings --output FSTYPE --target /run/openai-gateway/secrets") == "tmpfs"
    files = root.check_output("find /run/openai-gateway/secrets -mindepth 1 -printf '%f %m %u\\n'").splitlines()
    # The name of a provider's file also stands for where its key goes.
    names = [re.sub(r"^(provider-.*)-[0-9a-f]{8}\.json$", r"\1", line.split()[0]) for line in files]
    assert sorted(names) == ["consumers.json", "listener-public.json", "provider-a", "provider-b"]
    assert {tuple(line.split()[1:]) for line in files} == {("600", "openai-gateway")}


def test_releases_belong_to_root(root: Any) -> None:
    current = root.file("/etc/openai-gateway/current")
    assert current.is_symlink
    assert re.fullmatch(r"/etc/openai-gateway/releases/[0-9a-f]{16}", current.linked_to)
    wrong = root.check_output("find /etc/openai-gateway ! -user root -o -perm /022 ! -type l")
    assert wrong == ""
    left = root.check_output("find /etc/openai-gateway -name '.stage*' -o -name '*.tmp'")
    assert left == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MemoryMax", str(512 * 1024 * 1024)),
        ("CPUQuotaPerSecUSec", "1s"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("RestrictNamespaces", "yes"),
        ("CapabilityBoundingSet", "cap_net_bind_service"),
        ("Restart", "always"),
        ("UMask", "0077"),
        ("LimitCORE", "0"),
    ],
)
def test_limits_and_hardening(root: Any, name: str, value: str) -> None:
    assert show(root, name) == value


def test_hardening_is_in_force(root: Any) -> None:
    """systemd ignores what it cannot do: ask the process itself."""
    pid = show(root, "MainPID")
    status = root.file(f"/proc/{pid}/status").content_string
    assert re.search(r"NoNewPrivs:\s*1", status)
    assert re.search(r"Seccomp:\s*2", status)
    mounts = root.file(f"/proc/{pid}/mountinfo").content_string
    assert re.search(r" / / ro[ ,]", mounts), "the root file system is read-only"


def test_exposure(root: Any) -> None:
    last = root.check_output("systemd-analyze security --no-pager %s", UNIT).splitlines()[-1]
    print(last)
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", last)
    assert score
    assert float(score.group(1)) <= 1.5, last


def test_unit_and_logrotate_files_are_accepted(root: Any) -> None:
    verified = root.run("systemd-analyze verify %s", UNIT)
    assert verified.rc == 0, verified.stderr
    assert "openai-gateway" not in verified.stderr, verified.stderr
    rotated = root.run("logrotate --debug /etc/logrotate.d/openai-gateway")
    assert rotated.rc == 0, rotated.stderr
    assert "error" not in rotated.stderr

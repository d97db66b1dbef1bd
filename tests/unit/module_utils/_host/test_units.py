# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a bundle that are not Envoy's."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import CompileError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import Host, host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._host.nftables import mark_of
from ansible_collections.gatewayops.openai.plugins.module_utils._host.service import SYSTEM_FILES
from ansible_collections.gatewayops.openai.plugins.module_utils._host.units import compile_host
from ansible_collections.gatewayops.openai.plugins.module_utils._release.admin import process_files
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

SECRETS_UNIT = "host/etc/systemd/system/openai-gateway-secrets.service"
UNIT = "host/etc/systemd/system/openai-gateway@.service"
SUPERVISOR = {"service_manager": "supervisor", "supervisord": "/opt/bin/supervisord", "config_dir": "/home/me/gw/etc"}

PROMPTS = {"consumers": ["*"], "until": "2026-12-31T00:00Z", "retention": "3d"}


def raw(**more: Any) -> dict[str, Any]:
    return {
        "gateway_listeners": {
            "public": {"address": "0.0.0.0", "port": 443},
            "local": {"address": "127.0.0.1", "port": 8080},
            "other": {"address": "127.0.0.2", "port": 8080},
        },
        "gateway_providers": {"p": {"type": "openai_compatible", "base_url": "http://127.0.0.1:1/v1"}},
        "gateway_models": {"m": {"targets": [{"provider": "p", "model": "m"}]}},
        **more,
    }


def files(options: dict[str, Any] | None = None, **more: Any) -> dict[str, BundleFile]:
    host: Host = host_from_options({"envoy": "/opt/envoy/1.40.0/envoy", **(options or {})})
    return {file.path: file for file in compile_host(parse_spec(raw(**more)), host)}


def unit(options: dict[str, Any] | None = None, **more: Any) -> list[str]:
    return files(options, **more)[UNIT].content.decode().replace("\\\n", "").splitlines()


def test_systemd_has_these_files() -> None:
    scripts = ["libexec/gateway-admin", "libexec/restore-secrets"]
    everything = files(None, gateway_nftables={})
    assert sorted(everything) == sorted([*scripts, *("host" + path for path in SYSTEM_FILES)])
    filtering = {"host/etc/nftables.d/openai-gateway.nft", "host/etc/systemd/system/openai-gateway-nftables.service"}
    assert set(everything) - set(files()) == filtering


def test_nothing_restores_secrets_that_are_not_kept() -> None:
    restoring = {"libexec/restore-secrets", SECRETS_UNIT}
    kept, never = files(), files({"secrets_persist": "never"})
    assert set(kept) - set(never) == restoring
    assert all(never[path] == kept[path] for path in never), "so no process has to be replaced"
    assert not restoring & set(process_files(dict.fromkeys(kept, "")))


def test_unit_that_restores_secrets() -> None:
    lines = files({"state_dir": "/srv/state", "user": "llm"})[SECRETS_UNIT].content.decode().splitlines()
    assert "ConditionPathExists=/srv/state/secrets.sealed" in lines
    assert "StartLimitIntervalSec=0" in lines, "a gateway that starts once a second has it restored each time"
    assert (
        "ExecStart=/usr/bin/python3 -I /etc/openai-gateway/current/libexec/restore-secrets /srv/state/secrets.sealed "
        "/run/openai-gateway/secrets llm /etc/openai-gateway/.lock"
    ) in lines
    gateway = dict(line.split("=", 1) for line in unit() if "=" in line)
    assert "openai-gateway-secrets.service" in gateway["After"].split()
    assert "openai-gateway-secrets.service" in gateway["Wants"].split()


def test_supervisor_puts_nothing_on_the_system() -> None:
    assert sorted(files(SUPERVISOR)) == ["libexec/gateway-admin", "libexec/run-envoy", "supervisor/supervisord.conf"]


def test_equal_arguments_give_equal_bytes() -> None:
    assert files() == files()


def test_ports_that_may_be_bound() -> None:
    lines = unit(gateway_metrics={"port": 9903})
    assert [line for line in lines if line.startswith("SocketBind")] == [
        "SocketBindDeny=any",
        "SocketBindAllow=tcp:443",
        "SocketBindAllow=tcp:8080",
        "SocketBindAllow=tcp:9903",
    ]


def test_size() -> None:
    lines = unit(gateway_size={"concurrency": 3, "memory_max": "1G", "cpu_quota": "150%"})
    assert {"MemoryMax=1073741824", "CPUQuota=150%"} <= set(lines)
    assert "--concurrency 3" in " ".join(next(line for line in lines if line.startswith("ExecStart=")).split())
    lines = unit(gateway_size={"concurrency": 1})
    assert not [line for line in lines if line.startswith(("MemoryMax", "CPUQuota"))]


def test_command() -> None:
    (start,) = (line for line in unit() if line.startswith("ExecStart="))
    assert " ".join(start.split()) == (
        "ExecStart=/opt/envoy/1.40.0/envoy -c /etc/openai-gateway/current/envoy/bootstrap-%i.json --service-node %H "
        "--service-cluster openai-gateway --disable-hot-restart --concurrency 2 -l warning "
        "--reject-unknown-dynamic-fields --component-log-level misc:error --drain-strategy immediate --drain-time-s 600"
    )


def test_envoy_can_be_run_from_where_it_is() -> None:
    (paths,) = (line for line in unit() if line.startswith("ExecPaths="))
    assert "/opt/envoy/1.40.0" in paths.split("=")[1].split()


def test_envoy_may_make_code_while_it_runs() -> None:
    """LuaJIT does. With MemoryDenyWriteExecute Envoy aborts as soon as a script is hot."""
    assert not [line for line in unit() if line.startswith("MemoryDenyWriteExecute")]


def test_no_memory_with_secrets_is_written_to_a_disk() -> None:
    for path in (UNIT, SECRETS_UNIT):
        assert "LimitCORE=0" in files()[path].content.decode().splitlines()


def test_stopping_takes_no_longer_than_systemd_waits() -> None:
    lines = dict(line.split("=", 1) for line in unit() if "=" in line)
    assert lines["ExecStop"].split()[-4:] == ["/run/openai-gateway/%i.sock", "stop", "15", "600"]
    assert int(lines["TimeoutStopSec"]) > 15 + 600
    assert int(lines["TimeoutStartSec"]) > int(lines["ExecStartPost"].split()[-2]) + 15


def test_how_long_stopping_may_take() -> None:
    waits = {"health_wait": "2500ms", "timeout": "30m"}
    lines = dict(line.split("=", 1) for line in unit(gateway_drain=waits) if "=" in line)
    assert lines["ExecStop"].endswith(" stop 3 1800")
    assert int(lines["TimeoutStopSec"]) == 3 + 1800 + 30
    (start,) = (line for line in unit(gateway_drain=waits) if line.startswith("ExecStart="))
    assert start.endswith("--drain-time-s 1800"), "the same for what a changed listener leaves behind"


def test_every_directory_is_made_again_after_a_start_of_the_machine() -> None:
    lines = files()["host/etc/tmpfiles.d/openai-gateway.conf"].content.decode().splitlines()[1:]
    assert [line.split()[1:5] for line in lines] == [
        ["/etc/openai-gateway", "0750", "root", "openai-gateway"],
        ["/run/openai-gateway", "0750", "openai-gateway", "openai-gateway"],
        ["/run/openai-gateway/secrets", "0700", "openai-gateway", "openai-gateway"],
        ["/var/log/openai-gateway", "0750", "openai-gateway", "openai-gateway"],
    ]


def test_another_user_is_used_everywhere() -> None:
    contents = [file.content.decode() for path, file in files({"user": "llm"}).items() if path.startswith("host/")]
    assert any("User=llm\n" in text for text in contents)
    assert not [
        line for text in contents for line in text.splitlines() if line.startswith(("User=o", "Group=o", "u o"))
    ]


def test_supervisor_configuration() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(files(SUPERVISOR)["supervisor/supervisord.conf"].content.decode())
    assert parser["program:blue"]["autostart"] == "true"
    assert parser["program:green"]["autostart"] == "false"
    for name in ("blue", "green"):
        program = parser[f"program:{name}"]
        words = program["command"].split()
        assert words[:3] == ["/usr/bin/python3", "-I", "/home/me/gw/etc/current/libexec/run-envoy"]
        assert f"/home/me/gw/etc/current/envoy/bootstrap-{name}.json" in words
        assert int(program["stopwaitsecs"]) > int(words[4]) + int(words[5])


@pytest.mark.parametrize("name", ["libexec/gateway-admin", "libexec/run-envoy"])
def test_scripts_stand_alone(name: str, tmp_path: Path) -> None:
    script = files({**SUPERVISOR, "python": "/opt/python3"})[name]
    text = script.content.decode()
    assert script.mode == 0o755
    assert text.startswith("#!/opt/python3 -I\n")
    imported = {
        alias.name
        for node in ast.walk(ast.parse(text, feature_version=(3, 9)))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in ([ast.alias(str(node.module))] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert not {each for each in imported if "ansible" in each}
    (tmp_path / "script").write_bytes(script.content)
    done = subprocess.run([sys.executable, "-I", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "ModuleNotFoundError" not in done.stderr


def test_prompts_are_kept_as_long_as_they_shall_be() -> None:
    path = "host/etc/logrotate.d/openai-gateway"
    for more, days in (({"gateway_prompt_log": PROMPTS}, 3), ({}, 1)):
        others, own = files(None, **more)[path].content.decode().split("\n\n")
        assert "/var/log/openai-gateway/*.log {" in others
        assert own.startswith("/var/log/openai-gateway/prompts.jsonl {\n")
        assert f"    maxage {days}\n" in own
        assert "    create 0600 openai-gateway openai-gateway\n" in own
        assert own.count("reopen-logs") == others.count("reopen-logs") == 1


NFT = "host/etc/nftables.d/openai-gateway.nft"


def chain(**options: Any) -> list[str]:
    """The lines of the chain, without the mark."""
    text = files(None, gateway_nftables=options, gateway_metrics={"address": "10.0.5.2"})[NFT].content.decode()
    lines = [line.strip() for line in text.splitlines()]
    assert mark_of(text)
    return lines[lines.index("chain input {") + 1 : lines.index("}")]


def test_only_who_is_named_reads_the_metrics() -> None:
    filtered, loopback, *others = chain(metrics_from=["10.0.5.7", "2001:db8::/32", "10.1.0.0/16"])
    assert filtered == "type filter hook input priority filter; policy accept;"
    assert loopback.startswith("iif lo accept comment ")
    assert others == [
        "ct state established,related accept",
        "tcp dport { 443 } accept",
        "ip saddr { 10.0.5.7, 10.1.0.0/16 } tcp dport 9902 accept",
        "ip6 saddr { 2001:db8::/32 } tcp dport 9902 accept",
        "tcp dport 9902 drop",
    ]


def test_others_are_let_in_by_port_or_not_at_all() -> None:
    filtered, _loopback, *others = chain(others="drop", ports=[22, 9100])
    assert filtered.endswith("policy drop;")
    assert others[-3].startswith("meta l4proto { 1, 58 }")
    assert others[-1] == "tcp dport { 22, 9100 } accept"


def test_other_rules_have_another_mark() -> None:
    marks = {
        mark_of(files(None, gateway_nftables=options)[NFT].content.decode())
        for options in ({}, {"others": "drop", "ports": [22]}, {"others": "drop", "ports": [23]})
    }
    assert len(marks) == 3


def test_settings_of_the_kernel() -> None:
    path = "host/etc/sysctl.d/60-openai-gateway.conf"
    lines = files(None, gateway_sysctls={"vm.swappiness": "1", "net.core.somaxconn": "8192"})[path].content.decode()
    own, others = lines.splitlines()[-4:-2], lines.splitlines()[-2:]
    assert {line[:1] for line in own} == {"-"}, "those of the gateway itself need not be possible"
    assert others == ["net.core.somaxconn = 8192", "vm.swappiness = 1"]


@pytest.mark.parametrize(
    ("name", "value"), [("gateway_nftables", {}), ("gateway_sysctls", {"net.core.somaxconn": "1"})]
)
def test_the_kernel_is_not_set_under_supervisor(name: str, value: Any) -> None:
    with pytest.raises(CompileError, match=f"{name}: needs the service manager systemd, since only root can set it"):
        files(SUPERVISOR, **{name: value})


def test_nobody_removes_prompts_under_supervisor() -> None:
    with pytest.raises(CompileError, match="gateway_prompt_log: needs the service manager systemd"):
        files(SUPERVISOR, gateway_prompt_log=PROMPTS)

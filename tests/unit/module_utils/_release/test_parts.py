# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small parts: history, links' names, locks, operations, manifests."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import BundleFile
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._release import history, layout, lock, manifest, outside
from ansible_collections.gatewayops.openai.plugins.module_utils._release.history import Activation
from ansible_collections.gatewayops.openai.plugins.module_utils._release.ops import (
    Ops,
    ReadOnlyOps,
    outcome,
    query,
    told,
)

DIGESTS = st.sampled_from(["a" * 16, "b" * 16, "c" * 16, "d" * 16])


def activations(digests: list[str]) -> tuple[Activation, ...]:
    return tuple(Activation(digest, f"2026-01-01T00:00:{number:02}Z") for number, digest in enumerate(digests))


class TestHistory:
    @pytest.mark.parametrize(
        ("past", "previous"),
        [("", ""), ("a", ""), ("ab", "a"), ("aba", "b"), ("abab", "a"), ("abc", "b"), ("abb", "a"), ("aab", "a")],
    )
    def test_previous(self, past: str, previous: str) -> None:
        assert history.previous(activations(list(past)), past[-1:], frozenset("abc")) == previous

    def test_previous_is_on_the_host(self) -> None:
        assert history.previous(activations(list("abc")), "c", frozenset("ac")) == "a"

    @given(st.lists(DIGESTS, max_size=12))
    def test_going_back_twice_comes_back(self, digests: list[str]) -> None:
        past, present = activations(digests), frozenset(digests)
        now = history.active(past)
        back = history.previous(past, now, present)
        if back:
            past = history.appended(past, Activation(back, ""))
            assert history.previous(past, back, present) == now

    @given(st.lists(DIGESTS, max_size=12))
    def test_written_and_read(self, digests: list[str]) -> None:
        assert history.parse(history.to_bytes(activations(digests))) == activations(digests)

    @given(st.binary(max_size=50))
    def test_what_is_no_history_is_none(self, content: bytes) -> None:
        assert isinstance(history.parse(content), tuple)

    def test_it_does_not_grow_for_ever(self) -> None:
        past: tuple[Activation, ...] = ()
        for number in range(history.LENGTH + 7):
            past = history.appended(past, Activation(str(number), ""))
        assert len(past) == history.LENGTH
        assert past[-1].digest == str(history.LENGTH + 6)

    def test_recency(self) -> None:
        present = {"a": "2026-01-01T00:00:00Z", "b": "2026-01-01T00:00:00Z", "staged": "2026-01-02T00:00:00Z"}
        assert history.by_recency(activations(list("aba")), present) == ("staged", "a", "b")

    def test_clock_that_was_put_back_makes_no_release_older(self) -> None:
        times = {"a": "2026-01-01", "b": "2036-01-01", "c": "2026-01-02", "d": "2026-01-03"}
        past = [Activation(digest, applied) for digest, applied in times.items()]
        assert history.by_recency(past, times) == ("d", "c", "b", "a")


class TestNames:
    @pytest.mark.parametrize(
        ("name", "digest"),
        [
            ("a" * 16, "a" * 16),
            ("a" * 16 + ".1", "a" * 16),
            ("a" * 15, ""),
            ("../etc", ""),
            ("", ""),
            ("history.json", ""),
        ],
    )
    def test_digest(self, name: str, digest: str) -> None:
        assert layout.digest_of(name) == digest

    def test_leftovers(self) -> None:
        assert layout.is_leftover(".stage-x")
        assert layout.is_leftover(".trash-x")
        assert layout.is_leftover(".active.gateway-new")
        assert not layout.is_leftover("a" * 16)
        assert not layout.is_leftover("history.json")


class TestManifest:
    FILES = (BundleFile("envoy/lds.json", b"{}"), BundleFile("libexec/x", b"#!", 0o755))

    def test_it_has_the_name_of_the_bundle(self) -> None:
        assert manifest.manifest_of(self.FILES, {}).digest == Bundle(self.FILES, ()).digest

    def test_written_and_read(self) -> None:
        made = manifest.manifest_of(self.FILES, {"applied_by": "me", "unknown": "x"})
        assert manifest.from_bytes(manifest.to_bytes(made)) == made
        assert made.facts["applied_by"] == "me"
        assert "unknown" not in made.facts

    @given(st.one_of(st.binary(max_size=40), st.sampled_from([b"[]", b'{"format": 1}', b'{"files": {"a": 1}}'])))
    def test_what_is_no_manifest_is_refused(self, content: bytes) -> None:
        with pytest.raises(ReleaseError):
            manifest.from_bytes(content)

    def test_one_of_another_release_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / manifest.NAME).write_bytes(manifest.to_bytes(manifest.manifest_of(self.FILES, {})))
        with pytest.raises(ReleaseError, match="another release"):
            manifest.read(tmp_path)

    def test_a_link_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_bytes(b"{}")
        (tmp_path / "link").symlink_to("real")
        assert manifest.difference(tmp_path / "link", manifest.Entry("", 0o644), None) == "missing"

    def test_a_fifo_is_no_file_and_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        assert manifest.difference(tmp_path / "fifo", manifest.Entry("", 0o644), None) == "missing"

    def test_owner(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch(0o644)
        entry = manifest.Entry("", stat.S_IMODE((tmp_path / "file").stat().st_mode))
        mine = (os.geteuid(), (tmp_path / "file").stat().st_gid)
        assert manifest.difference(tmp_path / "file", entry, mine) == ""
        assert manifest.difference(tmp_path / "file", entry, (mine[0] + 1, mine[1])) == "owner"


class TestLock:
    def test_who_holds_it(self, tmp_path: Path) -> None:
        path = tmp_path / ".lock"
        with lock.exclusively(path, Ops()):
            holder = rf"another run is applying to this host \(pid {os.getpid()}, since 2"
            with pytest.raises(ReleaseError, match=holder), lock.exclusively(path, Ops()):
                pass
            with pytest.raises(ReleaseError, match="nothing was changed"), lock.looking(path):
                pass
        with lock.exclusively(path, Ops()):
            pass

    def test_it_ends_with_its_holder(self, tmp_path: Path) -> None:
        path = tmp_path / ".lock"
        program = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR), 2); os._exit(0)"
        subprocess.run([sys.executable, "-c", program, str(path)], check=True)
        with lock.exclusively(path, Ops()):
            pass

    def test_looking_keeps_nobody_from_starting(self, tmp_path: Path) -> None:
        path = tmp_path / ".lock"
        path.touch()
        with lock.looking(path), lock.exclusively(path, Ops()):
            pass

    def test_looking_waits_for_a_run_to_end(self, tmp_path: Path) -> None:
        path = tmp_path / ".lock"
        program = (
            "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR), 2); "
            "print(flush=True); time.sleep(0.3)"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as holder:
            assert holder.stdout
            holder.stdout.readline()
            with pytest.raises(ReleaseError, match="gateway_lock_wait"), lock.looking(path):
                pass
            with lock.looking(path, 20.0):
                assert holder.wait(20.0) == 0

    def test_looking_makes_no_lock(self, tmp_path: Path) -> None:
        with lock.looking(tmp_path / ".lock"):
            pass
        assert not (tmp_path / ".lock").exists()

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / ".lock").symlink_to("elsewhere")
        with pytest.raises(OSError, match="ymbolic"), lock.exclusively(tmp_path / ".lock", Ops()):
            pass
        assert not (tmp_path / "elsewhere").exists()


class TestOps:
    def test_write(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "file"
        Ops().write(path, b"1", 0o640)
        Ops().write(path, b"2", 0o600)
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"2", 0o600)
        assert list(path.parent.iterdir()) == [path]

    def test_link_over_a_directory_link(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        Ops().link(tmp_path / "link", "a")
        Ops().link(tmp_path / "link", "b")
        assert str((tmp_path / "link").readlink()) == "b"
        assert not list((tmp_path / "a").iterdir())

    def test_rmtree_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "file").touch()
        (tmp_path / "tree" / "inner").mkdir(parents=True)
        (tmp_path / "tree" / "inner" / "link").symlink_to("../../kept")
        Ops().rmtree(tmp_path / "tree")
        assert not (tmp_path / "tree").exists()
        assert (tmp_path / "kept" / "file").exists()

    def test_nothing_is_done_in_check_mode(self, tmp_path: Path) -> None:
        ops = ReadOnlyOps()
        (tmp_path / "file").touch(0o644)
        for work in (
            lambda: ops.mkdir(tmp_path / "x", 0o755),
            lambda: ops.write(tmp_path / "x", b"", 0o644),
            lambda: ops.link(tmp_path / "x", "y"),
            lambda: ops.rename(tmp_path / "file", tmp_path / "x"),
            lambda: ops.unlink(tmp_path / "file"),
            lambda: ops.rmtree(tmp_path),
            lambda: ops.protect(tmp_path / "file", 0o600),
            lambda: ops.run(["touch", str(tmp_path / "x")]),
        ):
            with pytest.raises(AssertionError, match="check mode must not"):
                work()
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_what_a_command_says_is_told(self) -> None:
        with pytest.raises(ReleaseError, match=r"sh -c .* failed: no good"):
            query(["sh", "-c", "echo no good >&2; exit 3"])
        with pytest.raises(ReleaseError, match="cannot run /no/such/program: No such file"):
            query(["/no/such/program"])
        with pytest.raises(ReleaseError, match="has not ended within"):
            query(["sleep", "5"], timeout=0.1)
        assert outcome(["sh", "-c", "echo $LC_ALL; exit 1"])[:2] == (1, "C\n")

    def test_errors_without_a_name(self, tmp_path: Path) -> None:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert f"no space left to write {tmp_path}/x" in str(told(full, tmp_path / "x"))
        assert str(told(OSError(errno.EACCES, os.strerror(errno.EACCES), "/y"), tmp_path)) == "/y: Permission denied"

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (errno.EROFS, "/y is on a file system that is read-only; as before. Have it writable and run this again"),
            (
                errno.EDQUOT,
                "no space left to write /y (over quota in /); as before. Raise the quota and run this again",
            ),
            (errno.EIO, "/y: input/output error of the disk; as before. See the kernel's log, and run this again"),
        ],
    )
    def test_what_somebody_has_to_mend(self, tmp_path: Path, number: int, words: str) -> None:
        assert str(told(OSError(number, os.strerror(number), "/y"), tmp_path, "as before")) == words


def test_lock_that_was_removed_while_it_was_waited_for(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    held = threading.Event()
    over = threading.Event()

    def wait() -> None:
        with lock.exclusively(path, Ops(), 10.0):
            held.set()
            over.wait(10)

    waiting = threading.Thread(target=wait)
    with lock.exclusively(path, Ops()):
        waiting.start()
        time.sleep(0.1)
        path.unlink()
    assert held.wait(10)
    with pytest.raises(ReleaseError, match="another run is applying"), lock.exclusively(path, Ops()):
        pass
    over.set()
    waiting.join()


def test_lock_whose_directory_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="was just removed"), lock.exclusively(tmp_path / "gone" / ".lock", Ops()):
        pass


def test_file_on_the_system_is_in_place_only_after_it_took_effect(tmp_path: Path) -> None:
    """A run that is killed in between writes it again, and so does what it is for."""
    ran: list[tuple[str, bool]] = []

    class Recording(Ops):
        def run(self, argv: Sequence[str], timeout: float = 60.0) -> str:
            ran.append((argv[0], Path(argv[-1]).is_file() and not place.exists()))
            return ""

    for path, program in (
        ("sysusers.d", "systemd-sysusers"),
        ("tmpfiles.d", "systemd-tmpfiles"),
        ("sysctl.d", "sysctl"),
    ):
        name = f"host/etc/{path}/gw.conf"
        system = layout.Layout(host_from_options({"envoy": "/opt/envoy"}), tmp_path)
        place = system.outside(name)
        manager: Any = SimpleNamespace(is_stale=lambda: False)
        outside.put(system, Recording(), manager, {name: BundleFile(name, b"x", 0o644)}, [name], [], None)
        assert place.read_bytes() == b"x"
        assert ran[-1] == (program, True)

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible import constants as C  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache

CANARY = "canary-5f0c2b"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def publish(cache: RunCache, name: str, value: dict[str, Any]) -> None:
    with cache.lock(name):
        cache.publish(name, value)


@settings(max_examples=40)
@given(value=st.dictionaries(st.text(), JSON, max_size=4), secret=st.binary(min_size=1, max_size=40))
def test_what_one_process_publishes_another_loads(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any], secret: bytes
) -> None:
    directory = tmp_path_factory.mktemp("cache")
    publish(RunCache(directory, secret), "store", value)
    assert RunCache(directory, secret).load("store") == value


def test_nothing_readable_is_on_the_disk(tmp_path: Path) -> None:
    cache = RunCache(tmp_path / "cache", b"secret of the run")
    name = cache.name(f"vault {CANARY}")
    publish(cache, name, {"token": CANARY, CANARY: [CANARY]})

    files = list((tmp_path / "cache").iterdir())
    assert {file.name for file in files} == {name, f"{name}.lock"}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "cache" / name).stat().st_mode) == 0o600
    for file in files:
        assert CANARY not in file.name
        assert CANARY.encode() not in file.read_bytes()


def test_another_run_cannot_read_what_is_left(tmp_path: Path) -> None:
    publish(RunCache(tmp_path, b"one"), "store", {"token": CANARY})
    assert RunCache(tmp_path, b"two").load("store") == {}
    assert RunCache(tmp_path, b"one").name("store") != RunCache(tmp_path, b"two").name("store")


def test_a_file_is_bound_to_its_name(tmp_path: Path) -> None:
    cache = RunCache(tmp_path, b"one")
    publish(cache, "store", {"token": CANARY})
    (tmp_path / "store").rename(tmp_path / "other")
    assert cache.load("other") == {}


@settings(max_examples=60)
@given(position=st.integers(min_value=0, max_value=60), flip=st.integers(min_value=1, max_value=255))
def test_a_file_that_was_changed_counts_as_none(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    directory = tmp_path_factory.mktemp("cache")
    cache = RunCache(directory, b"one")
    publish(cache, "store", {"token": CANARY, "more": "x" * 40})
    content = bytearray((directory / "store").read_bytes())
    content[position] ^= flip
    (directory / "store").write_bytes(content)
    assert cache.load("store") == {}


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 12, b"x" * 40])
def test_a_cut_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store").write_bytes(content)
    assert RunCache(tmp_path, b"one").load("store") == {}


def test_a_failed_write_leaves_the_old_content_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = RunCache(tmp_path, b"one")
    publish(cache, "store", {"token": "old"})

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        publish(cache, "store", {"token": "new"})
    assert cache.load("store") == {"token": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "store.lock"]


@pytest.mark.parametrize(
    ("name", "age", "removed"),
    [
        ("ansible-local-{dead}abcdefgh", 4000, True),
        ("ansible-local-{dead}12345678", 4000, True),
        ("ansible-local-{dead}abcdefgh", 3000, False),
        ("ansible-local-{living}abcdefgh", 4000, False),
        ("ansible-local-{living}12345678", 4000, False),
        ("ansible-local-abcdefgh", 4000, False),
        ("another-{dead}abcdefgh", 4000, False),
    ],
)
def test_caches_of_dead_runs_are_removed_by_the_next(tmp_path: Path, name: str, age: int, removed: bool) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale = tmp_path / name.format(dead=dead.pid, living=os.getppid()) / "gatewayops-secrets"
    stale.mkdir(parents=True)
    (stale / "sealed").touch()
    os.utime(stale, (time.time() - age, time.time() - age))

    of_this_run = tmp_path / f"ansible-local-{os.getpid()}abcdefgh" / "gatewayops-secrets"
    publish(RunCache(of_this_run, b"one", os.getpid()), "store", {"token": CANARY})
    assert stale.exists() != removed
    assert stale.parent.exists() != removed
    assert (of_this_run / "store").exists()


def test_a_worker_that_outlived_its_run_writes_nothing(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    with pytest.raises(ProcessLookupError, match="the run was ended"):
        publish(RunCache(tmp_path / "cache", b"one", dead.pid), "store", {"token": CANARY})
    assert not (tmp_path / "cache").exists()


def test_what_is_forgotten_is_not_known(tmp_path: Path) -> None:
    cache = RunCache(tmp_path, b"one")
    cache.forget("store")
    publish(cache, "store", {"token": CANARY})
    cache.forget("store")
    assert cache.load("store") == {}


def test_one_at_a_time_asks_a_store(tmp_path: Path) -> None:
    cache = RunCache(tmp_path, b"one")
    order: list[str] = []

    def second() -> None:
        with cache.lock("store"):
            order.append("second")

    with cache.lock("store"):
        thread = threading.Thread(target=second)
        thread.start()
        with cache.lock("another store"):
            order.append("first")
        thread.join(0.05)
        assert thread.is_alive()
    thread.join(5)
    assert order == ["first", "second"]


def test_the_forks_of_a_run_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    publish(RunCache.of_this_run(), "store", {"token": CANARY})
    assert RunCache.of_this_run().load("store") == {"token": CANARY}

    monkeypatch.setattr(multiprocessing.current_process(), "authkey", os.urandom(32))
    assert RunCache.of_this_run().load("store") == {}

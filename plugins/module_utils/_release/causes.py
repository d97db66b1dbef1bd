# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a process reads its files again or is replaced: which files of the release differ, and where in them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.gatewayops.openai.plugins.module_utils._release.admin import process_files
from ansible_collections.gatewayops.openai.plugins.module_utils._release.binary import version_of

#: So many places of one file are named.
_PLACES = 4
_MORE = "…"
_OPTION = re.compile(r"(?<=\s)(--?[a-z][a-z-]*)((?:\s+(?!-)\S+)*)")


def released(directory: Path) -> dict[str, bytes]:
    """The files of a release as they are on the host, by path; what cannot be read is not there."""
    found = {}
    for path in directory.rglob("*"):
        with suppress(OSError):
            found[str(path.relative_to(directory))] = path.read_bytes()
    return found


def of_binary(running: Collection[str], now: str) -> tuple[str, ...]:
    """That the binary is another one than those that run, from the whole texts of their versions (pure)."""
    version = version_of(now) or "another version"
    others = sorted(version_of(build) for build in running if build and build != now)
    return tuple(f"Envoy {each} -> {version}" if each != version else f"another build of {each}" for each in others)


def of_reload(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> tuple[str, ...]:
    """Which of the files `new` differ from those of the release `old`, not counting their version (pure)."""
    gone = {path for path in old if path.startswith("envoy/") and not path.startswith("envoy/bootstrap-")}
    return tuple(path for path in sorted(gone.union(new)) if _content(old.get(path)) != _content(new.get(path)))


def of_replacement(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> tuple[str, ...]:
    """The files that a process only reads when it starts and that differ, with where they do (pure)."""
    paths = process_files(dict.fromkeys({*old, *new}, ""))
    return tuple(_told(path, old.get(path), new.get(path)) for path in sorted(paths) if old.get(path) != new.get(path))


def _content(file: bytes | None) -> Any:
    if file is None:
        return None
    try:
        document = json.loads(file)
    except ValueError:
        return file
    if not isinstance(document, dict):
        return document
    return {key: value for key, value in document.items() if key != "version_info"}


def _told(path: str, old: bytes | None, new: bytes | None) -> str:
    name = "/" + path[len("host/") :] if path.startswith("host/") else path
    if old is None or new is None:
        return f"{name} (new)" if old is None else f"{name} (gone)"
    places: list[str] = []
    if path.endswith(".json"):
        with suppress(ValueError):
            places = list(dict.fromkeys(_places(json.loads(old), json.loads(new), "")))
    elif path.endswith((".service", ".conf")):
        before, after = _settings(old), _settings(new)
        places = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    shown = places[:_PLACES] + ([_MORE] if len(places) > _PLACES else [])
    return f"{name} ({', '.join(shown)})" if shown else name


def _places(old: Any, new: Any, at: str) -> Iterator[str]:
    """Where two documents differ, as paths of names; entries of lists that have names go by them."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield from _places(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new)):
            if before != after:
                name = before.get("name", index) if isinstance(before, dict) else index
                yield from _places(before, after, f"{at}[{name}]")
    else:
        yield at


def _settings(file: bytes) -> dict[str, str]:
    """The settings of a unit, and the options of each of its commands, as `ExecStart --concurrency`."""
    found: dict[str, str] = {}
    for line in file.decode("utf-8", "replace").replace("\\\n", " ").splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.startswith(("#", ";")):
            options = _OPTION.findall(value) if key in ("ExecStart", "command") else []
            found.update({f"{key} {option}": text.strip() for option, text in options})
            rest = _OPTION.sub("", value) if options else value
            found[key] = f"{found.get(key, '')}\n{' '.join(rest.split())}"
    return found

# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's file system says when it does not take any more, in words that tell what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def problem(error: OSError, path: Path) -> tuple[str, str]:
    """What keeps `path` from being written and what to do about it, '' twice when it is not the file system."""
    closest = path
    while not closest.is_dir() and closest != closest.parent:
        closest = closest.parent
    if error.errno == errno.EDQUOT:
        return f"no space left to write {path} (over quota in {closest})", "Raise the quota and run this again"
    if error.errno == errno.ENOSPC:
        return f"no space left to write {path} ({_free(closest)})", "Make room there and run this again"
    if error.errno == errno.EROFS:
        return f"{path} is on a file system that is read-only", "Have it writable and run this again"
    if error.errno == errno.EIO:
        return f"{path}: input/output error of the disk", "See the kernel's log, and run this again"
    return "", ""


def _free(directory: Path) -> str:
    try:
        found = os.statvfs(directory)
    except OSError:
        return f"in {directory}"
    inodes = f", {found.f_favail} inodes" if found.f_files else ""
    return f"{found.f_bavail * found.f_frsize // 1024} kB free in {directory}{inodes}"

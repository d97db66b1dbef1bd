# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of a host a gateway gets: the part of the spec's model that has names of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.gatewayops.openai.plugins.module_utils._spec.kinds import Integer, byte_size, percent, spec


@dataclass(frozen=True)
class Size:
    """What the gateway's process gets of a host; memory in bytes, processors in percent of one. None is no limit."""

    name: str
    concurrency: int = field(metadata=spec(Integer(1, 1024), "The number of worker threads."))
    memory_max: int | None = field(
        default=None, metadata=spec(byte_size(64 * 1024**2), "The most memory that the process gets.")
    )
    cpu_quota: int | None = field(
        default=None,
        metadata=spec(percent(), "The most processor time that the process gets; V(100%) is one processor."),
    )


SIZES = (
    Size("small", 1, 512 * 1024**2, 100),
    Size("medium", 2, 2 * 1024**3, 200),
    Size("large", 4, 8 * 1024**3, 400),
)

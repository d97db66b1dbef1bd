# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The paths of the OpenAI API that carry no model, by the name of their endpoint.

Source: the reference at https://platform.openai.com/docs/api-reference and the official client. What gives away
credentials or administers an account is left out: ``organization``, ``projects``, ``realtime``, ``chatkit``, the
permissions of checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping

# Pairs of methods and a path below /v1/, where an asterisk is an id.
Paths = tuple[tuple[str, str], ...]

ENDPOINTS: Mapping[str, Paths] = {
    "assistants": (
        ("GET, POST", "assistants"),
        ("GET, POST, DELETE", "assistants/*"),
    ),
    "batches": (
        ("GET, POST", "batches"),
        ("GET", "batches/*"),
        ("POST", "batches/*/cancel"),
    ),
    "chat_completions": (
        ("GET", "chat/completions"),
        ("GET, POST, DELETE", "chat/completions/*"),
        ("GET", "chat/completions/*/messages"),
    ),
    "containers": (
        ("GET, POST", "containers"),
        ("GET, DELETE", "containers/*"),
        ("GET, POST", "containers/*/files"),
        ("GET, DELETE", "containers/*/files/*"),
        ("GET", "containers/*/files/*/content"),
    ),
    "conversations": (
        ("POST", "conversations"),
        ("GET, POST, DELETE", "conversations/*"),
        ("GET, POST", "conversations/*/items"),
        ("GET, DELETE", "conversations/*/items/*"),
    ),
    "evals": (
        ("GET, POST", "evals"),
        ("GET, POST, DELETE", "evals/*"),
        ("GET, POST", "evals/*/runs"),
        ("GET, POST, DELETE", "evals/*/runs/*"),
        ("POST", "evals/*/runs/*/cancel"),
        ("GET", "evals/*/runs/*/output_items"),
        ("GET", "evals/*/runs/*/output_items/*"),
    ),
    "files": (
        ("GET, POST", "files"),
        ("GET, DELETE", "files/*"),
        ("GET", "files/*/content"),
    ),
    "fine_tuning": (
        ("GET, POST", "fine_tuning/jobs"),
        ("GET", "fine_tuning/jobs/*"),
        ("POST", "fine_tuning/jobs/*/cancel"),
        ("GET", "fine_tuning/jobs/*/checkpoints"),
        ("GET", "fine_tuning/jobs/*/events"),
        ("POST", "fine_tuning/jobs/*/pause"),
        ("POST", "fine_tuning/jobs/*/resume"),
        ("POST", "fine_tuning/alpha/graders/run"),
        ("POST", "fine_tuning/alpha/graders/validate"),
    ),
    "responses": (
        ("GET, DELETE", "responses/*"),
        ("POST", "responses/*/cancel"),
        ("GET", "responses/*/input_items"),
    ),
    "threads": (
        ("POST", "threads"),
        ("POST", "threads/runs"),
        ("GET, POST, DELETE", "threads/*"),
        ("GET, POST", "threads/*/messages"),
        ("GET, POST, DELETE", "threads/*/messages/*"),
        ("GET, POST", "threads/*/runs"),
        ("GET, POST", "threads/*/runs/*"),
        ("POST", "threads/*/runs/*/cancel"),
        ("POST", "threads/*/runs/*/submit_tool_outputs"),
        ("GET", "threads/*/runs/*/steps"),
        ("GET", "threads/*/runs/*/steps/*"),
    ),
    "uploads": (
        ("POST", "uploads"),
        ("POST", "uploads/*/cancel"),
        ("POST", "uploads/*/complete"),
        ("POST", "uploads/*/parts"),
    ),
    "vector_stores": (
        ("GET, POST", "vector_stores"),
        ("GET, POST, DELETE", "vector_stores/*"),
        ("POST", "vector_stores/*/search"),
        ("POST", "vector_stores/*/file_batches"),
        ("GET", "vector_stores/*/file_batches/*"),
        ("POST", "vector_stores/*/file_batches/*/cancel"),
        ("GET", "vector_stores/*/file_batches/*/files"),
        ("GET, POST", "vector_stores/*/files"),
        ("GET, POST, DELETE", "vector_stores/*/files/*"),
        ("GET", "vector_stores/*/files/*/content"),
    ),
    "videos": (
        ("GET", "videos"),
        ("GET, DELETE", "videos/*"),
        ("GET", "videos/*/content"),
        ("POST", "videos/*/remix"),
        ("POST", "videos/characters"),
        ("GET", "videos/characters/*"),
        ("POST", "videos/edits"),
        ("POST", "videos/extensions"),
    ),
}

# Their requests have models at work that the gateway does not get to see, or cannot tell from their bodies.
UNSEEN_MODELS = ("assistants", "batches", "evals", "fine_tuning", "threads", "videos")

"""As much of GitLab's API on a loopback port as the example for its CI asks for."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT = "/api/v4/projects/5/"


@dataclass
class GitLab:
    """The project 5: its merge request 7, whose pipeline 9 made plans in the jobs 11 and 12."""

    directory: Path
    address: str = ""
    notes: dict[int, str] = field(default_factory=lambda: {1: "Looks good."})

    def answer(self, method: str, path: str, body: str) -> Any:
        notes = "merge_requests/7/notes"
        if path == notes and method == "GET":
            return [{"id": number, "body": text} for number, text in self.notes.items()]
        if path == notes and method == "POST":
            self.notes[len(self.notes) + 1] = body
            return {}
        if path.startswith(notes + "/") and method == "PUT":
            self.notes[int(path.rpartition("/")[2])] = body
            return {}
        if path == "jobs/12/artifacts":
            return self._artifacts()
        return {
            "repository/commits/abc/merge_requests": [{"iid": 7}],
            "merge_requests/7/pipelines": [{"id": 9}, {"id": 8}],
            "pipelines/9/jobs": [{"id": 11, "name": "plan: [staging]"}, {"id": 12, "name": "plan: [production]"}],
        }[path]

    def _artifacts(self) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name in ("plan.json", "plan.md"):
                archive.write(self.directory / name, name)
        return content.getvalue()


@contextmanager
def a_gitlab(directory: Path) -> Iterator[GitLab]:
    """A server that keeps the files of jobs in `directory`; the token is `token`."""
    gitlab = GitLab(directory)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            assert self.headers["private-token"] == "token"
            form = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            path = urlsplit(self.path).path.removeprefix(PROJECT)
            found = gitlab.answer(self.command, path, parse_qs(form).get("body", [""])[0])
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - named by the standard library

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    gitlab.address = f"http://127.0.0.1:{server.server_port}/api/v4"
    try:
        yield gitlab
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

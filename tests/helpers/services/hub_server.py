"""As much of the Hugging Face hub, on a loopback port, as listing and downloading files needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

COMMIT = "c" * 40


@dataclass
class Hub:
    """`files[data set or model][name]` is what it serves; the rest is what goes wrong."""

    url: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # name -> bytes until it hangs up
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, name, range


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_content=False)

        def do_GET(self) -> None:
            self.answer(with_content=True)

        def answer(self, with_content: bool) -> None:
            if self.path.startswith(("/api/datasets/", "/api/models/")):
                return self.describe()
            path = self.path.replace(COMMIT, "main")
            before, separator, name = path.partition("/resolve/main/")
            data_set = before.removeprefix("/datasets").removeprefix("/")
            hub.asked.append((self.command, name, self.headers.get("Range", "")))
            if not separator or data_set not in hub.files:
                return self.refuse(404, "RepoNotFound")
            if data_set in hub.gated:
                return self.refuse(401, "GatedRepo")
            if name not in hub.files[data_set]:
                return self.refuse(404, "EntryNotFound")
            content = hub.files[data_set][name]
            start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.end_headers()
            if with_content:
                cut = hub.cuts.get(name) or [len(content)]
                end = start + cut.pop(0)
                self.wfile.write(content[start:end])
                # Only then: a client would ask again on a connection that seems to be open.
                self.close_connection = end < len(content)

        def describe(self) -> None:
            """The data set or model, or the tree of its files."""
            path = self.path.partition("?")[0].split("/", 3)[3]
            data_set, tree, _ = path.partition("/tree/")
            data_set = data_set.removesuffix(f"/revision/{COMMIT}")
            if data_set not in hub.files:
                return self.refuse(404, "RepoNotFound")
            if data_set in hub.gated and tree:
                return self.refuse(403, "GatedRepo")
            files = hub.files[data_set]
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in files.items()
            ]
            siblings = [{"rfilename": n, "size": len(content)} for n, content in files.items()]
            described = {"id": data_set, "sha": COMMIT, "siblings": siblings, "private": False}
            described |= {"tags": [], "downloads": 0, "likes": 0, "disabled": False}
            described |= {"gated": "manual" if data_set in hub.gated else False}
            content = json.dumps(listed if tree else described).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client of this process talks to; it never waits before it tries again."""
    with serving() as server:
        point_at(server.url, monkeypatch)
        yield server


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does for a new process."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", template.replace(constants.ENDPOINT, url)
    )
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("time.sleep", lambda _: None)
